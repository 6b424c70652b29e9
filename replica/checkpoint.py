"""A replica's checkpoint: what it accepts one by, and how far its sources have to lead to it.

What a replica believes is what it has executed, or the checkpoint in its home where that is higher. Below an accepted
checkpoint it follows a path: all digests from its own last block up to the checkpoint's, each the parent of the next.
Headers alone make the path, so a source that leads elsewhere is found out before anything of it is executed.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from consensus.types import Header
from contracts.dispatch import CONTRACTS
from ledger.checkpoints import Anchor, Checkpoint, CheckpointConflict, confirmers_of
from ledger.genesis import load_genesis
from ledger.header_chain import EpochStart
from lossbook_sdk.pins import accept, read_pin
from replica.execute import ReplicaExecutor
from replica.index import Index
from replica.verify import Required
from store.home import HomeKind, open_all, open_home

FILE_NAME: Final = "checkpoint.json"
DIGEST_BYTES: Final = 32


class Pinned(msgspec.Struct, frozen=True):
    """What following has to lead to."""

    height: int
    digest: bytes
    time_ms: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Pinned:
        """Of an accepted checkpoint."""
        return cls(checkpoint.body.height, checkpoint.digest, checkpoint.body.time_ms)


def state_anchor(executor: ReplicaExecutor, chain_id: bytes) -> Anchor:
    """What the replica has executed, as an anchor: its own people are those of its own state."""
    rules, tip = executor.epoch_rules(executor.epoch), executor.tip
    members = [member.id for member in rules.validators.members]
    return Anchor(
        chain_id,
        f"this replica's own state at height {tip.height}",
        tip.height,
        tip.digest,
        tip.timestamp_ms,
        EpochStart(rules.validators, rules.genesis),
        confirmers_of(executor.state, members),
    )


def accept_for(home: Path, executor: ReplicaExecutor, checkpoint: Checkpoint, chain_id: bytes) -> list[str]:
    """Accept a checkpoint for a stopped replica; who vouches for it.

    Raises:
        CheckpointError: too few do, it lies below what is believed, or it is of another history.
        OSError: the file system refused.
    """
    path = home / FILE_NAME
    pin = read_pin(path, chain_id)
    anchor = state_anchor(executor, chain_id)
    if pin is not None and pin.body.height >= anchor.height:
        anchor = Anchor.of_checkpoint(pin)
    return accept(path, checkpoint, anchor)


def accept_in_home(path: Path, checkpoint: Checkpoint) -> list[str]:
    """``accept_for`` with the stores of a replica's home.

    Raises:
        HomeMissing: no replica's home.
        HomeInUse: the replica runs.
        GenesisError, StoreError, ReplicaStateError: its stores cannot be read.
        CheckpointError: as ``accept_for``.
    """
    home = open_home(path, HomeKind.REPLICA)
    genesis = load_genesis(home.genesis.read_bytes(), home.chain_id)
    with ExitStack() as stack:
        stores = open_all(home)
        stack.callback(stores.close)
        index = Index(home.index, home.chain_id)
        stack.callback(index.close)
        executor = ReplicaExecutor(genesis, blocks=stores.blocks, store=stores.state, index=index, contracts=CONTRACTS)
        return accept_for(home.path, executor, checkpoint, home.chain_id)


def check_own_chain(pinned: Pinned, executor: ReplicaExecutor) -> None:
    """That what the replica executed before leads through the checkpoint, where it is that far.

    Raises:
        CheckpointConflict: it followed another history.
    """
    header = executor.chain.header(pinned.height) if pinned.height <= executor.height else None
    if header is not None and header.digest != pinned.digest:
        raise other_history(pinned.height)


def other_history(height: int) -> CheckpointConflict:
    """This replica is on another history than its checkpoint."""
    return CheckpointConflict(
        f"this replica followed another history than the accepted checkpoint of height {height} is of",
        "Keep this home as evidence, tell your supervisor, and follow again: `lossbook replica resync`",
    )


class WrongPath(Exception):
    """What a source serves does not lead to the checkpoint; the text says at which height."""

    def __init__(self, height: int, reason: str) -> None:
        super().__init__(reason)
        self.height = height
        self.reason = reason


class PathUp:
    """The digests from a replica's last block up to its checkpoint, as headers come in height order.

    Args:
        tip: header of the last executed block.
        pinned: the checkpoint, above it.
        genesis_height: of the network; its block is served by nobody.
    """

    def __init__(self, tip: Header, pinned: Pinned, genesis_height: int) -> None:
        self._tip = tip
        self._pinned = pinned
        self._first = max(tip.height, genesis_height + 1)
        self._digests = bytearray()

    @property
    def next_height(self) -> int:
        """Height of the header that is expected."""
        return self._first + len(self._digests) // DIGEST_BYTES

    @property
    def complete(self) -> bool:
        """Whether the checkpoint is reached."""
        return self.next_height > self._pinned.height

    def add(self, header: Header) -> None:
        """The next header.

        Raises:
            WrongPath: it is not the next one, or not the checkpoint's at its height.
        """
        height = self.next_height
        if header.height != height:
            raise WrongPath(height, f"height {header.height} was served instead")
        before = bytes(self._digests[-DIGEST_BYTES:])
        if not before and height > self._tip.height:
            before = self._tip.digest  # the genesis block, which nobody serves
        if before and header.parent_digest != before:
            raise WrongPath(height, "it does not build on the block served before it")
        if height == self._pinned.height and header.digest != self._pinned.digest:
            raise WrongPath(height, "the accepted checkpoint has another block there")
        self._digests += header.digest

    def required(self) -> Required:
        """What each block up to the checkpoint has to be.

        Raises:
            CheckpointConflict: the path to the checkpoint does not lead through the replica's own last block.
        """
        own = self._tip.digest
        start = bytes(self._digests[:DIGEST_BYTES])
        if self._first == self._tip.height and start != own:
            raise other_history(self._pinned.height)
        first, digests = self._first, bytes(self._digests)

        def required(height: int) -> bytes | None:
            at = (height - first) * DIGEST_BYTES
            return digests[at : at + DIGEST_BYTES] or None if at >= 0 else None

        return required
