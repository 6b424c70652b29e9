"""Who is on the network, as the services need it: for whom a certificate is good, and what it may call.

The genesis says who was at the beginning, the executed state who is now: votes admit members, replace their cards (and
with them ledger keys and addresses), and decide who has a seat (``contracts/governance``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from crypto.tls import TlsIdentityError, check_authority
from ledger.cards import Card, card_of_record
from ledger.epochs import current_epoch
from ledger.genesis import Genesis
from ledger.organisations import CARDS, ORGANISATIONS, Kind
from ledger.state import StateView
from services.logs import get_logger

_log = get_logger("members")


class Member(msgspec.Struct, frozen=True):
    """One organisation of the network."""

    id: str
    kind: Kind
    ledger_key: bytes  #: Ed25519 public key, 32 bytes: its certificate authority
    ca_pem: bytes  #: self-signed certificate of the ledger key
    is_validator: bool  #: has a seat in the present epoch
    may_read: bool  #: queries records
    may_subscribe: bool  #: follows the blocks
    peer_address: str = ""  #: host:port for other members' nodes; empty where it runs none
    public_address: str = ""  #: host:port of Gateway, Query and Blocks; empty where it offers none

    @property
    def runs_node(self) -> bool:
        """Whether its node is one of those that exchange messages: with a seat, before it has one, or after."""
        return bool(self.peer_address)


class Members:
    """The members of one network, by organisation id: of its genesis, then as executed state has them."""

    __slots__ = ("_by_id", "chain_id", "generation")

    def __init__(self, chain_id: bytes, members: Iterable[Member]) -> None:
        self.chain_id = chain_id
        self.generation = 0  #: grows when they change: what was concluded from them before no longer holds
        self._by_id = {member.id: member for member in members}

    @classmethod
    def from_genesis(cls, genesis: Genesis) -> Members:
        """The members the genesis file names."""
        return cls(
            genesis.chain_id,
            (
                _member(
                    card,
                    is_validator=card.is_validator,
                    may_read=genesis.may_read(card.id),
                    may_subscribe=genesis.may_subscribe(card.id),
                )
                for card in genesis.organisations
            ),
        )

    def update(self, members: Iterable[Member]) -> bool:
        """These are the members from now on; whether that changes anything."""
        by_id = {member.id: member for member in members}
        if by_id == self._by_id:
            return False
        self._by_id = by_id
        self.generation += 1
        return True

    def nodes(self) -> dict[str, str]:
        """host:port of the nodes that exchange messages, by organisation."""
        return {member.id: member.peer_address for member in self if member.runs_node}

    def get(self, organisation: str) -> Member | None:
        """The member of this id, or None."""
        return self._by_id.get(organisation)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_id.values())

    @property
    def trust_bundle(self) -> bytes:
        """PEM certificates of every member's own authority: whose leaves the TLS handshake lets in."""
        return b"".join(member.ca_pem for member in self._by_id.values())


def members_of(view: StateView) -> list[Member]:
    """The members as executed state has them: later ones too, each with the ledger key and addresses it has now.

    Nodes do not judge X.509 when they take a card, so a certificate may be none. Its owner alone is left out.
    """
    _, epoch = current_epoch(view)
    found: list[Member] = []
    for key, record in view.iterate(ORGANISATIONS):
        stated = view.get(CARDS, key)
        if stated is None:
            continue
        card = card_of_record(stated)
        try:
            check_authority(card.body.ca_certificate.encode(), card.ledger_key)
        except TlsIdentityError as error:
            why = str(error)
            _log.warning("a member is left out: the TLS authority on its card is no good", member=card.id, why=why)
            continue
        found.append(
            _member(
                card,
                is_validator=epoch.seat(card.id) is not None,
                may_read=record.may_read,
                may_subscribe=record.may_subscribe,
            )
        )
    return found


def _member(card: Card, *, is_validator: bool, may_read: bool, may_subscribe: bool) -> Member:
    return Member(
        id=card.id,
        kind=card.kind,
        ledger_key=card.ledger_key,
        ca_pem=card.body.ca_certificate.encode(),
        is_validator=is_validator,
        may_read=may_read,
        may_subscribe=may_subscribe,
        peer_address=card.body.peer_address,
        public_address=card.body.public_address,
    )
