"""An own TLS identity, and the credentials of both ends of a connection made from it.

    server   own leaf; asks for a client certificate; lets in leaves under any member's authority
             (whose they are is then checked on every call, services/auth.py), and its own: whoever holds that
             one's key is at this daemon's home, and learns how it stands also when its card says otherwise
    client   own leaf; trusts the one member's authority that it dials, and its name, nothing else:
             no other member, and no authority of the operating system, can stand in for it

The target name is ``<organisation>.lossbook`` whatever address is dialled, so addresses need no certificates.
"""

from __future__ import annotations

import grpc
import msgspec

from services.limits import CHAIN_KEY, CHANNEL_OPTIONS, PROTOCOL_KEY, PROTOCOL_VERSION
from services.members import Members

CallMetadata = tuple[tuple[str, str], ...]


class UnknownMember(Exception):
    """The organisation to dial is not on this network.

    Attributes:
        organisation: id that was asked for.
    """

    def __init__(self, organisation: str) -> None:
        super().__init__(
            f"{organisation!r} is not a member of this network: check the id against `lossbook genesis show`"
        )
        self.organisation = organisation


class Identity(msgspec.Struct, frozen=True):
    """Who this daemon is on the wire."""

    organisation: str
    leaf_pem: bytes  #: certificate, P-256, signed by the own ledger key
    leaf_key_pem: bytes = msgspec.field()  #: private key of the leaf
    members: Members = msgspec.field()

    def __repr__(self) -> str:
        return f"Identity({self.organisation})"

    @property
    def metadata(self) -> CallMetadata:
        """What every call carries."""
        return ((CHAIN_KEY, self.members.chain_id.hex()), (PROTOCOL_KEY, PROTOCOL_VERSION))

    def server_credentials(self) -> grpc.ServerCredentials:
        """For listening; the client must show a certificate under the authority of who is a member at that time."""
        sent = self.members.generation

        def changed() -> grpc.ServerCertificateConfiguration | None:
            """Asked before every handshake; None: as before."""
            nonlocal sent
            generation = self.members.generation
            if generation == sent:
                return None
            sent = generation
            return self._certificates()

        return grpc.dynamic_ssl_server_credentials(
            self._certificates(),
            changed,  # type: ignore[arg-type] # the stub lacks the None that gRPC documents
            require_client_authentication=True,
        )

    def _certificates(self) -> grpc.ServerCertificateConfiguration:
        trusted = self.members.trust_bundle + self.leaf_pem
        return grpc.ssl_server_certificate_configuration(
            [(self.leaf_key_pem, self.leaf_pem)], root_certificates=trusted
        )

    def channel(self, organisation: str, address: str, *, authority: bytes | None = None) -> grpc.aio.Channel:
        """A connection to one member's daemon at ``host:port``; dialled when the first call is made.

        Args:
            authority: trust this certificate instead of the member's authority, PEM.

        Raises:
            UnknownMember: nobody of this id is on the network.
        """
        member = self.members.get(organisation)
        if member is None:
            raise UnknownMember(organisation)
        credentials = grpc.ssl_channel_credentials(authority or member.ca_pem, self.leaf_key_pem, self.leaf_pem)
        options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", f"{organisation}.lossbook"))
        return grpc.aio.secure_channel(address, credentials, options=options)
