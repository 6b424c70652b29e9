"""Connections to nodes: TLS 1.3, both sides authenticated, every call bound to one network.

The client presents a certificate its organisation's ledger key issued, and trusts exactly one authority: that of the
organisation it dials, as the genesis or a proved card names it. The target name is ``<organisation>.lossbook``
whatever address is dialled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import grpc
import msgspec

from ledger.cards import Card
from ledger.genesis import Genesis
from lossbook_sdk.errors import ProfileError
from lossbook_sdk.profile import Node, Profile
from lossbook_sdk.trust import Trust

PROTOCOL_VERSION: Final = "1"

REQUEST_BYTES_MAX: Final = 4 << 20
"""What a node takes in one message."""
RESPONSE_BYTES_MAX: Final = 68 << 20
"""The largest block a network can have, and its certificates."""

_OPTIONS: Final = (
    ("grpc.max_send_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 10_000),  # a node whose machine vanished is noticed within this and the next
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # gRPC's name for how long one attempt may take, TLS included
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment has no business between members
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, not a cached failure
)

Metadata = tuple[tuple[str, str], ...]


class Connector(msgspec.Struct, frozen=True):
    """What is needed to dial any node of one network."""

    trust: Trust
    """The network, and what is known of it."""
    certificate: bytes
    """Own leaf, PEM."""
    key: bytes
    """Its private key, PEM."""
    authority: bytes = b""
    """PEM; trusted instead of what the card of the node names: to ask the daemon of one's own home, its certificate."""

    def __repr__(self) -> str:
        return f"Connector({self.genesis.name})"

    @classmethod
    def of_profile(cls, profile: Profile) -> Connector:
        """With what is kept beside the profile.

        Raises:
            ProfileError, GenesisError: a file cannot be used.
        """
        return cls.from_files(Trust.of_profile(profile), profile.certificate, profile.key)

    @classmethod
    def from_files(cls, network: Trust | Genesis, certificate: Path, key: Path) -> Connector:
        """Read the leaf from disk; with a genesis alone, what is learned is forgotten with the process.

        Raises:
            ProfileError: a file cannot be read.
        """
        trust = network if isinstance(network, Trust) else Trust(network)
        try:
            return cls(trust, certificate.read_bytes(), key.read_bytes())
        except OSError as error:
            raise ProfileError(
                f"the client certificate cannot be read: {error.filename}: {error.strerror}",
                advice="Issue it with `lossbook profile create`, on the machine that holds the ledger key",
            ) from error

    @classmethod
    def of_daemon(cls, genesis: Genesis, certificate: Path, key: Path) -> Connector:
        """To ask the daemon of one's own home, by the certificate that it uses, whatever its card says by now.

        Raises:
            ProfileError: a file cannot be read.
        """
        if not certificate.exists():
            raise ProfileError(
                f"this home has no TLS certificate yet ({certificate})",
                advice="Start the daemon with keys/ledger.key in the home: it issues itself one. Then ask again",
            )
        connector = cls.from_files(genesis, certificate, key)
        return msgspec.structs.replace(connector, authority=connector.certificate)

    @property
    def genesis(self) -> Genesis:
        """The network's anchor."""
        return self.trust.genesis

    @property
    def metadata(self) -> Metadata:
        """What every call carries."""
        return (("lossbook-chain", self.genesis.chain_id.hex()), ("lossbook-protocol", PROTOCOL_VERSION))

    def card_of(self, node: Node) -> Card:
        """The card of the organisation that runs a node.

        Raises:
            ProfileError: the organisation is not on this network, as far as is known.
        """
        card = self.trust.card(node.organisation)
        if card is None:
            raise ProfileError(
                f"{node.organisation!r} is not known to be a member of {self.genesis.name}",
                advice="Check the nodes of the profile: `lossbook profile show`, `lossbook governance list`",
            )
        return card

    def authority_of(self, node: Node) -> bytes:
        """What a connection to a node trusts, PEM.

        Raises:
            ProfileError: as ``card_of``.
        """
        return self.authority or self.card_of(node).body.ca_certificate.encode()

    def channel(self, node: Node) -> grpc.aio.Channel:
        """A connection; dialled when the first call is made.

        Raises:
            ProfileError: as ``card_of``.
        """
        credentials = grpc.ssl_channel_credentials(self.authority_of(node), self.key, self.certificate)
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", f"{node.organisation}.lossbook"))
        return grpc.aio.secure_channel(node.address, credentials, options=options)
