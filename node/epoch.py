"""One epoch as this node takes part in it: who votes, whose batches may be listed, which key is its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from consensus.types import Header, ValidatorSet
from ledger.epochs import EpochRecord
from ledger.ports import CorruptStore

Sign = Callable[[bytes], bytes]
"""Ed25519 by one secret key: 64 bytes."""

Verify = Callable[[bytes, bytes, bytes], bool]
"""Checks a signature: public key, message, signature."""


class Signer(msgspec.Struct, frozen=True):
    """The own consensus key, and how others' signatures are checked."""

    sign: Sign
    verify: Verify


class Keyring(Protocol):
    """The consensus keys this node has; every epoch has its own."""

    def sign_for(self, epoch: int, public_key: bytes) -> Sign | None:
        """The key of this node's seat in an epoch; None where it is not here (or the seat has none: empty)."""

    def made_for(self, epoch: int) -> bytes | None:
        """The public key that this node has made for an epoch to come; None where it has not yet."""


class HeldKeys:
    """A keyring of keys in memory.

    Args:
        keys: what signs for each public key.
        made: public keys of epochs to come, by epoch.
    """

    def __init__(self, keys: Mapping[bytes, Sign], made: Mapping[int, bytes] | None = None) -> None:
        self._keys = keys
        self._made = made or {}

    def sign_for(self, _: int, public_key: bytes) -> Sign | None:
        """See ``Keyring``."""
        return self._keys.get(public_key)

    def made_for(self, epoch: int) -> bytes | None:
        """See ``Keyring``."""
        return self._made.get(epoch)


class EpochSource(Protocol):
    """What executed state says of epochs."""

    @property
    def epoch(self) -> int:
        """The present one."""

    def epoch_record(self, epoch: int) -> EpochRecord | None:
        """Of one that has begun; None otherwise."""


class Epoch:
    """One epoch.

    Args:
        validators: who votes.
        before: who voted in the epoch before, whose batches may still be listed; None in the first.
        start: the epoch's genesis, view 0.
        own: this node's signer index; None where it only observes.
        sign: by the key of that seat.
    """

    __slots__ = ("_index", "before", "number", "origins", "own", "sign", "start", "validators")

    def __init__(
        self, validators: ValidatorSet, before: ValidatorSet | None, start: Header, own: int | None, sign: Sign
    ) -> None:
        self.validators = validators
        self.before = before
        self.start = start
        self.own = own
        self.sign = sign
        self.number = validators.epoch
        self._index = {member.id: index for index, member in enumerate(validators.members)}
        earlier = () if before is None else before.members
        #: Organisations whose batches may be listed, ascending.
        self.origins = tuple(sorted({*self._index, *[member.id for member in earlier]}))

    def index(self, organisation: str) -> int | None:
        """Its signer index; None for who has no seat."""
        return self._index.get(organisation)

    def organisation(self, index: int) -> str:
        """Who has this signer index."""
        return self.validators.members[index].id

    def leader(self, view: int) -> str:
        """Who leads a view."""
        return self.organisation(self.validators.leader(view))

    def origin_key(self, organisation: str, epoch: int) -> bytes | None:
        """The key that signs batches of this origin and epoch; None where there can be none that matter now."""
        for validators in (self.validators, self.before):
            if validators is not None and validators.epoch == epoch:
                return next((m.public_key for m in validators.members if m.id == organisation and m.public_key), None)
        return None

    def may_list(self, epoch: int) -> bool:
        """Whether a block of this epoch may list a batch made in that one: its own, or the one before."""
        return self.number - 1 <= epoch <= self.number

    def is_past(self, epoch: int) -> bool:
        """Whether no block from this epoch on may list a batch made in that one. One of a later epoch is not past: a
        crash took state that was executed, and is executed again."""
        return epoch < self.number - 1


def no_key(_: bytes) -> bytes:
    """Where an observer's key would be."""
    raise LookupError("an observer has no consensus key")


def open_epoch(
    source: EpochSource,
    start: Callable[[int], Header | None],
    organisation: str,
    keys: Keyring,
    *,
    voting: bool,
    first: int = 0,
) -> Epoch:
    """The present epoch.

    Args:
        source: executed state.
        start: header of a final height.
        organisation: whose node this is.
        voting: whether it has a vote log, without which it only observes.
        first: epoch of the genesis.

    Raises:
        CorruptStore: the state speaks of an epoch or a block that is not there.
    """
    number = source.epoch
    record, before = source.epoch_record(number), source.epoch_record(number - 1) if number > first else None
    if record is None or (number > first and before is None):
        raise CorruptStore(f"the state has no record of epoch {number} or of the one before")
    header = start(record.first_height - 1)
    if header is None:
        raise CorruptStore(f"block {record.first_height - 1}, with which epoch {number} began, is not stored")
    validators = record.validator_set(number)
    own = next((i for i, member in enumerate(validators.members) if member.id == organisation), None)
    sign = keys.sign_for(number, validators.members[own].public_key) if own is not None and voting else None
    return Epoch(
        validators,
        before.validator_set(number - 1) if before is not None else None,
        header,
        own if sign is not None else None,
        sign or no_key,
    )
