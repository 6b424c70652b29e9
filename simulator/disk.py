"""One node's disk: vote log, blocks, state, backup marker; what a power cut, a copy or a bad sector does to them.

The vote log is the product's, byte for byte, over ``store.faulty_files``; blocks and state are the memory stores, which
lose what was not synced as LevelDB's own log does: whole commits, the newest first.
"""

from __future__ import annotations

import copy
import errno
from pathlib import Path
from random import Random
from typing import Final

from ledger.block_port import BlockWrite
from store.errors import FailureKind, StoreFailed
from store.faulty_files import FaultyFiles
from store.memory import MemoryStateStore
from store.memory_blocks import MemoryBlockStore
from store.votelog import VoteLog

VOTES: Final = Path("/disk/votes")
VOTE_SYNC_OPERATIONS: Final = 3  #: of one sync of the log: the frame, its fdatasync, the slot of HEAD
ROTATION_OPERATIONS: Final = 9  #: the new segment, its name, HEAD, the old one's end
LOG_ID_BYTES: Final = 16


class Disk:
    """Survives the node; see the module text."""

    def __init__(self, chain_id: bytes, owner: str) -> None:
        self._chain_id = chain_id
        self._owner = owner
        self._logs = 0  #: vote logs begun
        self.files = FaultyFiles()
        self.blocks = MemoryBlockStore()
        self.states = MemoryStateStore()
        self.marker = False
        self.synced: list[bytes] = []  #: records of the vote log that no crash may take
        self._make_votes()

    def _make_votes(self) -> None:
        self._logs += 1
        self.synced = []
        log_id = self._logs.to_bytes(LOG_ID_BYTES, "big")
        VoteLog.create(VOTES, self._chain_id, self._owner, self.files, log_id).close()

    def open_votes(self) -> VoteLog:
        """The vote log, as the daemon opens it.

        Raises:
            VoteLogDamaged: synced bytes are damaged or gone.
        """
        return VoteLog.open(VOTES, self._chain_id, self._owner, self.files)

    def write_blocks(self, writes: list[BlockWrite], *, sync: bool) -> None:
        """As the loop writes them."""
        if writes:
            self.blocks.commit(writes, sync=sync)

    # -- faults ----------------------------------------------------------------------------

    def crash(self, random: Random) -> None:
        """Cut the power."""
        self.files.crash(random)
        self.blocks.crash(random)
        self.states.crash(random)

    def crash_in_vote_sync(self, random: Random) -> None:
        """Let the power fail within the next sync of the vote log."""
        self.files.crash_at(self.files.operations + random.randint(1, VOTE_SYNC_OPERATIONS))

    def crash_in_rotation(self, random: Random) -> None:
        """Let the power fail within the rewriting of the vote log that begins now."""
        self.files.crash_at(self.files.operations + random.randint(1, ROTATION_OPERATIONS))

    def fail_vote_sync(self) -> None:
        """Let the next fdatasync of the vote log fail, once."""
        self.files.fail_at(self.files.operations + 2, errno.EIO)

    def fail_blocks(self) -> None:
        """Let the block store fail until the node is started again."""
        self.blocks.fail_next_commit(StoreFailed(FailureKind.INPUT_OUTPUT, "sync", Path("/disk/blocks")))

    def fill(self, room_bytes: int) -> None:
        """Let only so much more go in; the rest is full."""
        self.files.capacity_bytes = self.files.used_bytes() + room_bytes

    def mend(self) -> None:
        """Room again, and no fault planned."""
        self.files.mend()
        self.blocks.fail_next_commit(None)

    def flip(self, random: Random) -> None:
        """Damage one bit of the vote log."""
        path = VOTES / random.choice(self.files.names(VOTES))
        self.files.flip(path, random.randrange(len(self.files.read(path))), 1 << random.randrange(8))

    def set_votes_aside(self) -> None:
        """What ``node resync`` does: the marker first, then a new, empty log."""
        self.marker = True
        for name in self.files.names(VOTES):
            self.files.remove(VOTES / name)
        self.files.sync_directory(VOTES)
        self._make_votes()

    def copied(self) -> Disk:
        """A backup of a node that was stopped."""
        self.mend()
        return copy.deepcopy(self)
