"""Who is on the network, as the services need it: for whom a certificate is good, and what it may call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from ledger.genesis import Genesis
from ledger.organisations import Kind


class Member(msgspec.Struct, frozen=True):
    """One organisation of the network."""

    id: str
    kind: Kind
    ledger_key: bytes  #: Ed25519 public key, 32 bytes: its certificate authority
    ca_pem: bytes  #: self-signed certificate of the ledger key
    is_validator: bool
    may_read: bool  #: queries records
    may_subscribe: bool  #: follows the blocks
    peer_address: str = ""  #: host:port for other validators; empty where it runs none
    public_address: str = ""  #: host:port of Gateway, Query and Blocks; empty where it offers none


class Members:
    """The members of one network, by organisation id."""

    __slots__ = ("_by_id", "chain_id")

    def __init__(self, chain_id: bytes, members: Iterable[Member]) -> None:
        self.chain_id = chain_id
        self._by_id = {member.id: member for member in members}

    @classmethod
    def from_genesis(cls, genesis: Genesis) -> Members:
        """The members the genesis file names."""
        return cls(
            genesis.chain_id,
            (
                Member(
                    id=card.id,
                    kind=card.kind,
                    ledger_key=card.ledger_key,
                    ca_pem=card.body.ca_certificate.encode(),
                    is_validator=card.is_validator,
                    may_read=genesis.may_read(card.id),
                    may_subscribe=genesis.may_subscribe(card.id),
                    peer_address=card.body.peer_address,
                    public_address=card.body.public_address,
                )
                for card in genesis.organisations
            ),
        )

    def get(self, organisation: str) -> Member | None:
        """The member of this id, or None."""
        return self._by_id.get(organisation)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_id.values())

    @property
    def trust_bundle(self) -> bytes:
        """PEM certificates of every member's own authority: whose leaves the TLS handshake lets in."""
        return b"".join(member.ca_pem for member in self._by_id.values())
