"""Epochs as the state knows them: who votes in which, and the change that ends the present one.

    EPOCHS        one record for every epoch, never changed: members with their consensus keys, seed, first height
    MEMBERSHIP    one record: the present epoch, and how far its one change of the set has come

A change of the set goes through three hands (consensus.md §9):

    passed        more than two thirds of the validators voted for it
    approved      a quorum of the *next* set declared itself ready; nothing can alter it now
    in force      the boundary block B was executed: ``end_epoch`` writes the next epoch's record

Header rules read the middle one, and only as of a height: a block whose parent's state has executed
``approved_height`` must be the boundary, or after it a tail; every other block must be neither. Only the state of
executed heights is ever asked, so every node gives the same answer, whichever blocks it holds beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from consensus.types import Validator, ValidatorSet
from crypto.hashing import TAG_VALSET, tagged
from ledger.invariant import InvariantViolated, invariant
from ledger.state import StateView, Table

FIRST_EPOCH: Final = 0

VALIDATORS_MAX: Final = 256
"""Certificates stay small; a network of insurers of one market has tens."""

VALIDATORS_MIN: Final = 1
"""A genesis may name one validator, and the last insurer of a market that empties must be able to go on: who may leave
is for the members to decide. Below four validators no fault at all is tolerated; whoever proposes that is warned."""

NO_KEY: Final = bytes(32)
"""Stands in a set's hash for a member without a key. As a public key it is of small order: no signature is good."""


class Seat(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One member of a validator set."""

    organisation: str
    """Organisation id."""
    consensus_key: bytes
    """Ed25519 public key of this epoch, 32 bytes; empty where the member registered none: it counts in n and f, and
    cannot sign until the next change of the set."""


class EpochRecord(msgspec.Struct, frozen=True, array_like=True):
    """One epoch, under its number."""

    members: tuple[Seat, ...]
    """Ascending by organisation id; place = signer index."""
    seed: int
    """Moves the round robin of leaders: first eight bytes of the boundary block's digest (epoch 0: of the chain id)."""
    first_height: int
    """Of its first block; the block below is the epoch's genesis."""
    began_ms: int
    """Block time of that genesis, milliseconds since 1970-01-01 UTC: how old the consensus keys are."""
    proposal_id: bytes = b""
    """16 bytes: the vote that brought it about; empty for epoch 0."""

    def validator_set(self, epoch: int) -> ValidatorSet:
        """The set as consensus takes it."""
        members = validators(self.members)
        return ValidatorSet(epoch, members, self.seed, valset_hash(epoch, members))

    def seat(self, organisation: str) -> Seat | None:
        """The organisation's seat, if it has one."""
        return next((seat for seat in self.members if seat.organisation == organisation), None)


class PassedChange(msgspec.Struct, frozen=True, array_like=True):
    """A change of the set that was voted for and waits for its members' readiness."""

    proposal_id: bytes
    """16 bytes."""
    passed_height: int
    """Block that executed the deciding vote."""
    expires_ms: int
    """Block time after which readiness comes too late."""
    members: tuple[str, ...]
    """Organisation ids of the next set, ascending."""
    ready: tuple[str, ...]
    """Those that declared themselves ready, ascending."""
    suspended: tuple[str, ...] = ()
    """``MembershipRecord.suspended`` once it is in force."""


class ApprovedChange(msgspec.Struct, frozen=True, array_like=True):
    """The change that ends an epoch: its members are ready."""

    ending_epoch: int
    """The epoch it ends, and with which it lapses."""
    approved_height: int
    """Block whose execution made it approved."""
    proposal_id: bytes
    """16 bytes: which vote decided it."""
    members: tuple[Seat, ...]
    """The next set with its keys, ascending by organisation id."""
    suspended: tuple[str, ...] = ()
    """``MembershipRecord.suspended`` once it is in force."""

    @property
    def next_valset_hash(self) -> bytes:
        """What the boundary block's header carries, 32 bytes."""
        return valset_hash(self.ending_epoch + 1, validators(self.members))


class MembershipRecord(msgspec.Struct, frozen=True, array_like=True):
    """Where the set stands; one record, under the empty key."""

    epoch: int
    """The present epoch: of the block that is executed, or of the next one between blocks."""
    passed: PassedChange | None = None
    """None once it is approved."""
    approved: ApprovedChange | None = None
    suspended: tuple[str, ...] = ()
    """Organisation ids, ascending, of those whose seats are suspended: a vote reinstates them."""


EPOCHS: Final = Table(0x06, EpochRecord, "epochs")
"""Under the epoch, u64 big-endian."""
MEMBERSHIP: Final = Table(0x07, MembershipRecord, "membership")


def valset_hash(epoch: int, members: Sequence[Validator]) -> bytes:
    """What headers carry: SHA-256(TAG_VALSET | epoch u64 | n u32 | n x (id length u8 | id | consensus key)).

    Integers big-endian, members in signer order; 32 zero bytes for a member without a key.
    """
    parts = [epoch.to_bytes(8, "big"), len(members).to_bytes(4, "big")]
    for member in members:
        identifier = member.id.encode()
        parts += [len(identifier).to_bytes(1, "big"), identifier, member.public_key or NO_KEY]
    return tagged(TAG_VALSET, *parts)


def validators(members: Sequence[Seat]) -> tuple[Validator, ...]:
    """Seats as consensus takes them."""
    return tuple(Validator(seat.organisation, seat.consensus_key) for seat in members)


def epoch_seed(digest: bytes) -> int:
    """The seed of an epoch, from its genesis' digest (the chain id for epoch 0): the first eight bytes, big-endian."""
    return int.from_bytes(digest[:8], "big")


def quorum_of(n: int) -> int:
    """Q = n - f of a set of n; the same number is the least above two thirds of n."""
    return n - (n - 1) // 3


# -- reading -----------------------------------------------------------------------------------


def membership(view: StateView) -> MembershipRecord:
    """Where the set stands; it is there from genesis on."""
    record = view.get(MEMBERSHIP, b"")
    if record is None:
        raise InvariantViolated("the state has no membership: it was not built from a genesis")
    return record


def find_epoch(view: StateView, epoch: int) -> EpochRecord | None:
    """The record of an epoch that has begun; None otherwise."""
    return view.get(EPOCHS, epoch.to_bytes(8, "big"))


def current_epoch(view: StateView) -> tuple[int, EpochRecord]:
    """The present epoch and its record."""
    epoch = membership(view).epoch
    record = find_epoch(view, epoch)
    if record is None:
        raise InvariantViolated(f"the state has no record of its epoch {epoch}")
    return epoch, record


def approved_change(view: StateView) -> ApprovedChange | None:
    """The change that ends the present epoch, once its members are ready."""
    return membership(view).approved


def held_at(change: ApprovedChange | None, state_height: int) -> bool:
    """Whether the state after ``state_height`` holds this change."""
    return change is not None and change.approved_height <= state_height


def end_at(view: StateView, epoch: int, state_height: int) -> bytes:
    """What the block that ends this epoch carries as ``next_valset_hash``, if the state after ``state_height`` holds an
    approved change of its set; else empty.

    Asked of a state that has executed ``state_height``, and perhaps more: the answer is the same.
    """
    change = approved_change(view)
    if change is None or change.ending_epoch != epoch or not held_at(change, state_height):
        return b""
    return change.next_valset_hash


# -- writing -----------------------------------------------------------------------------------


def end_epoch(view: StateView, *, height: int, timestamp_ms: int, digest: bytes, next_valset_hash: bytes) -> None:
    """The boundary block was executed: the next epoch begins with the block after it.

    Args:
        height, timestamp_ms, digest, next_valset_hash: of the boundary block's header.
    """
    before = membership(view)
    change = before.approved
    if change is None:
        raise InvariantViolated(f"block {height} ends epoch {before.epoch} although no change was approved")
    invariant(change.ending_epoch == before.epoch, f"a change for epoch {change.ending_epoch} ends {before.epoch}")
    invariant(change.next_valset_hash == next_valset_hash, f"block {height} names another next set than was approved")
    epoch = before.epoch + 1
    record = EpochRecord(change.members, epoch_seed(digest), height + 1, timestamp_ms, change.proposal_id)
    view.put(EPOCHS, epoch.to_bytes(8, "big"), record)
    view.put(MEMBERSHIP, b"", MembershipRecord(epoch, suspended=change.suspended))
