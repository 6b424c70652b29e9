"""Consensus keys of epochs to come: each validator makes a new one for every epoch, and has it registered early.

    REGISTRATIONS    for every organisation, the key it will use in one epoch; the latest stands
    NODE_KEYS        every consensus and ledger key there ever was: none is used twice, by anybody, for anything

A validator's node registers by itself, with a statement (``ledger/key_statements.py``) that its present consensus key
signs; the new key signs as well, so nobody registers a key he does not hold. Whoever has no present consensus key
that it could sign with (lost with a disk, or none, because it is no validator yet or not any more) has its key
registered by an admin, in an envelope (``organisation.register_consensus_key``).

When the change of the set is approved, the keys registered by then go into it, and nothing after it counts.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crypto.hashing import TAG_KEY_REGISTRATION, tagged
from ledger.organisations import KEYS
from ledger.state import StateView, Table

_AUTHORITY: Final = b"\x00"
_POSSESSION: Final = b"\x01"


class RegistrationRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The consensus key that an organisation will use, under its id."""

    epoch: int
    """In this epoch and no other."""
    consensus_key: bytes
    """Ed25519 public key, 32 bytes."""
    height: int
    """Block that registered it."""


class NodeKeyRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Whose a node's key is, under the 32 bytes of the key; for ever."""

    organisation: str
    """Organisation id."""
    epoch: int | None
    """For which a consensus key was registered; nothing: a ledger key."""


REGISTRATIONS: Final = Table(0x0A, RegistrationRecord, "registrations")
NODE_KEYS: Final = Table(0x0B, NodeKeyRecord, "node-keys")


def registration_message(chain_id: bytes, epoch: int, organisation: str, consensus_key: bytes) -> bytes:
    """32 bytes that the present consensus key signs: the new one is mine.

    Digest of tag | 00 | chain_id | epoch u64 | length of the id u16 | id | new key; ``epoch`` is the one it is for.
    """
    return _message(_AUTHORITY, chain_id, epoch, organisation, consensus_key)


def possession_message(chain_id: bytes, epoch: int, organisation: str, consensus_key: bytes) -> bytes:
    """32 bytes that the new consensus key signs; as ``registration_message`` with 01."""
    return _message(_POSSESSION, chain_id, epoch, organisation, consensus_key)


def _message(part: bytes, chain_id: bytes, epoch: int, organisation: str, consensus_key: bytes) -> bytes:
    name = organisation.encode()
    head = epoch.to_bytes(8, "big") + len(name).to_bytes(2, "big")
    return tagged(TAG_KEY_REGISTRATION, part, chain_id, head, name, consensus_key)


def registered_key(view: StateView, organisation: str, epoch: int) -> bytes:
    """The organisation's key for an epoch to come; empty where it registered none."""
    record = view.get(REGISTRATIONS, organisation.encode())
    return record.consensus_key if record is not None and record.epoch == epoch else b""


def is_fresh(view: StateView, public: bytes) -> bool:
    """Whether nobody ever used this key for anything that is on the ledger now, or used it in a node."""
    return view.get(NODE_KEYS, public) is None and view.get(KEYS, public) is None


def register(view: StateView, organisation: str, epoch: int, consensus_key: bytes, height: int) -> None:
    """Write it; the caller has checked the signatures and that the key is fresh."""
    view.put(REGISTRATIONS, organisation.encode(), RegistrationRecord(epoch, consensus_key, height))
    view.put(NODE_KEYS, consensus_key, NodeKeyRecord(organisation, epoch))
