"""Organisations, their keys and roles, as records of the state.

Written from the cards at genesis, changed by votes (``contracts/governance``) and by the organisations' own admins
(``contracts/organisation.py``). Whoever signs is looked up by key: a key belongs to exactly one organisation and has
one set of roles. Who votes in consensus is said by ``ledger.epochs``.
"""

from __future__ import annotations

import enum
import re
from typing import Final

import msgspec

from crypto.hashing import TAG_KEY_POSSESSION
from ledger.state import StateView, Table

ORGANISATION_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,31}")
"""2 to 32 characters; ids are compared, sorted and shown as they are, and name TLS hosts (``<id>.lossbook``)."""

ORGANISATIONS_MAX: Final = 1024  #: of a network: rules that look through all of them stay cheap
KEYS_PER_ORGANISATION_MAX: Final = 256  #: a card stays readable and below 64 KiB
ADMIN_KEYS_MAX: Final = 5  #: insurance.md, "Who may do what": few enough to know who holds each


class Kind(enum.IntEnum):
    """What an organisation is. New kinds get new numbers; contracts name the kinds they admit."""

    INSURER = 1
    REINSURER = 2
    SUPERVISOR = 3
    DATA_SOURCE = 4
    ADJUSTER_FIRM = 5
    PROVIDER = 6
    INTERMEDIARY = 7
    TRUST = 8

    @property
    def slug(self) -> str:
        """As cards write it, e.g. ``adjuster-firm``."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_slug(cls, slug: str) -> Kind | None:
        """The kind a card names; None if this version does not know it."""
        return next((kind for kind in cls if kind.slug == slug), None)


class Role(enum.IntFlag):
    """What a key may do inside its organisation; a key's roles are the sum of these bits."""

    ADMIN = 1
    UNDERWRITER = 2
    CLAIMS_HANDLER = 4
    ADJUSTER = 8
    FINANCE = 16
    AUDITOR = 32
    API = 64

    @property
    def slug(self) -> str:
        """As cards write it, e.g. ``claims-handler``."""
        return (self.name or "").lower().replace("_", "-")

    @classmethod
    def from_slug(cls, slug: str) -> Role | None:
        """The role a card names; None if this version does not know it."""
        return next((role for role in cls if role.slug == slug), None)


class OrganisationRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One organisation, under its id."""

    kind: int
    """``Kind``."""
    name: str
    """Name of the company as on its card."""
    ledger_key: bytes
    """Ed25519 public key, 32 bytes: the organisation's certificate authority; signs its card."""
    admin_keys: tuple[bytes, ...]
    """Signing keys with the role admin, oldest first (of one card: in its order)."""
    key_count: int
    """Signing keys it has, at most KEYS_PER_ORGANISATION_MAX."""
    may_read: bool
    """Whether its clients and replicas may query records."""
    may_subscribe: bool
    """Whether it may follow the blocks."""


class CardRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the organisation stated about itself and signed, under its id: addresses and TLS authority among it."""

    text: str
    """The signed JSON text (``ledger.cards.CardBody``)."""
    signature: bytes
    """64 bytes by the ledger key."""
    possession: bytes
    """64 bytes by the consensus key on the card; empty where there is none."""


class KeyRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One signing key, under the 32 bytes of the public key."""

    organisation: str
    """Id of the organisation it acts for."""
    roles: int
    """Sum of ``Role`` bits."""


ORGANISATIONS: Final = Table(0x01, OrganisationRecord, "organisations")
KEYS: Final = Table(0x02, KeyRecord, "keys")
CARDS: Final = Table(0x09, CardRecord, "cards")


def find_organisation(view: StateView, organisation: str) -> OrganisationRecord | None:
    """The record of an organisation id, or None."""
    return view.get(ORGANISATIONS, organisation.encode())


def key_possession_message(chain_id: bytes, organisation: str) -> bytes:
    """What a signing key signs that is added to an organisation: tag | chain_id | id. Nobody takes another's key."""
    return TAG_KEY_POSSESSION + chain_id + organisation.encode()


def find_key(view: StateView, public: bytes) -> KeyRecord | None:
    """The record of a signing key, or None."""
    return view.get(KEYS, public)
