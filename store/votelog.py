"""The vote log: what this validator signed, so that no crash makes it sign twice (consensus.md §5).

Append-only, one frame and one ``fdatasync`` per turn of the loop; bytes in ``store.votelog_format``. It knows nothing
of votes: records are opaque, and the core says which of them are still alive.

What opening decides (reasons in ADR 0012):

1. Frames are read as long as hash, sequence and chain hold. Nothing follows: done.
2. Something follows and a valid frame lies anywhere in it: a frame is written only after the one before it was synced,
   so **synced bytes are damaged** -> ``VoteLogDamaged``.
3. Something follows that is the next frame but for one flipped bit: it had arrived whole -> ``VoteLogDamaged``.
4. Something else follows without any valid frame, and HEAD names no frame beyond those read: the turn was **torn** by
   a crash before its sync, nothing of it was sent; it is cut off.
5. HEAD names a frame that was not read, or another chain value for it: a synced end is damaged or gone ->
   ``VoteLogDamaged``. Likewise if a segment, its first frame, or HEAD is not there.

The one case left open: a power cut takes the unsynced HEAD slots of the last seconds, *and* more than one bit of the
very last synced frame is damaged. That looks torn; the start-up query, which asks the others for votes of mine, covers
it.

After a failed write or sync the log is poisoned: the kernel may have dropped the pages and call the next sync a success
(PostgreSQL's "fsyncgate", 2018). Opening it again writes the last frame once more before anything builds on it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ledger.invariant import invariant
from store.errors import FailureKind, StoreFailed, VoteLogDamaged, fail
from store.files import Files, OsFiles
from store.votelog_format import (
    BODY_BYTES_MAX,
    DIGEST_BYTES,
    LOG_ID_BYTES,
    OWNER_BYTES_MAX,
    RECORD_OVERHEAD,
    SLOT_BYTES,
    Head,
    SegmentHeader,
    decode_body,
    encode_frame,
    scan,
)
from store.votelog_opening import Opened, begin_log, begin_segment, open_log, segment_path

T = TypeVar("T")


class VoteLog:
    """An open vote log. One writer: the home directory's lock sees to it."""

    def __init__(self, files: Files, directory: Path, opened: Opened) -> None:
        self._files = files
        self._directory = directory
        self._header = opened.header
        self._path = segment_path(directory, opened.header.number)
        self._log = opened.log
        self._head = opened.head
        self._next_slot = opened.next_slot
        self._sequence = opened.last.sequence
        self._chain = opened.last.chain
        self._end = opened.last.end
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._poisoned = False
        self._closed = False

    # -- life ------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, directory: Path, chain_id: bytes, owner: str, files: Files | None = None, log_id: bytes | None = None
    ) -> VoteLog:
        """Make a new, empty log and open it: at ``node init`` and ``node resync``, never at an ordinary start.

        A creation that a crash interrupted is finished by calling this again. ``log_id`` (16 bytes) is drawn at random;
        only a simulator, whose runs must repeat, gives one.

        Raises:
            StoreFailed: the file system refused.
            VoteLogDamaged: there is a log already.
        """
        files = files or OsFiles()
        invariant(len(chain_id) == DIGEST_BYTES, "a chain id is 32 bytes")
        invariant(0 < len(owner.encode()) <= OWNER_BYTES_MAX, "an organisation id is 1 to 32 bytes")
        log_id = log_id or secrets.token_bytes(LOG_ID_BYTES)
        invariant(len(log_id) == LOG_ID_BYTES, "a log id is 16 bytes")
        header = SegmentHeader(1, 1, log_id, chain_id, owner, bytes(DIGEST_BYTES))
        try:
            begin_log(files, directory, header)
        except OSError as error:
            fail(error, "create", directory)
        return cls.open(directory, chain_id, owner, files)

    @classmethod
    def open(cls, directory: Path, chain_id: bytes, owner: str, files: Files | None = None) -> VoteLog:
        """Check every byte of the log, cut off a torn end, and make ready to append.

        Raises:
            VoteLogMissing: there is none.
            VoteLogDamaged: synced bytes are damaged or gone.
            WrongNetwork, WrongOwner, WrongSchema: the log of another network, organisation or version.
            StoreFailed: the file system refused.
        """
        files = files or OsFiles()
        try:
            return cls(files, directory, open_log(files, directory, chain_id, owner))
        except OSError as error:
            fail(error, "open", directory)

    def close(self) -> None:
        """Sync what was appended, unless the log is poisoned, and give the files back; twice is harmless.

        Raises:
            StoreFailed: the last sync failed.
        """
        if self._closed:
            return
        try:
            if not self._poisoned:
                self.sync()
                self._guarded("sync", self._head.datasync)
        finally:
            self._closed = True
            self._log.close()
            self._head.close()

    # -- reading ---------------------------------------------------------------------------

    def records(self) -> list[bytes]:
        """All synced records, oldest first, read and checked again.

        Raises:
            VoteLogDamaged: the file changed since it was opened.
            StoreFailed: it cannot be read.
        """
        self._require_usable()
        try:
            data = self._files.read(self._path)
        except OSError as error:
            fail(error, "read", self._path)
        frames = scan(data, self._header)
        if not frames or frames[-1].chain != self._chain:
            raise VoteLogDamaged(self._path, "its contents changed while it was open")
        return [record for frame in frames for record in decode_body(data, frame)]

    @property
    def size_bytes(self) -> int:
        """Length of the segment in bytes, pending records included; the caller rotates by it."""
        return self._end + self._pending_bytes

    @property
    def sequence(self) -> int:
        """Sequence of the newest synced frame."""
        return self._sequence

    # -- writing ---------------------------------------------------------------------------

    def append(self, payloads: Sequence[bytes]) -> None:
        """Take records for the next ``sync``; nothing is written yet.

        Raises:
            StoreFailed: the log is poisoned.
        """
        self._require_usable()
        self._pending += payloads
        self._pending_bytes += sum(map(len, payloads)) + RECORD_OVERHEAD * len(payloads)
        invariant(self._pending_bytes <= BODY_BYTES_MAX, "a turn appends more than a frame holds")

    def sync(self) -> None:
        """Write what was appended as one frame and return once it is durable; without any, do nothing.

        Raises:
            StoreFailed: it may or may not be durable; the log is poisoned and nothing that waited may be sent.
        """
        self._require_usable()
        if not self._pending:
            return
        frame, chain = encode_frame(self._header.log_id, self._chain, self._sequence + 1, self._pending)
        self._guarded("write", lambda: self._log.write_at(self._end, frame))
        self._guarded("sync", self._log.datasync)
        self._sequence += 1
        self._chain = chain
        self._end += len(frame)
        self._clear_pending()
        self._note_head()

    def rotate(self, live_records: Sequence[bytes]) -> None:
        """Begin a new segment that holds ``live_records`` only, and drop the old one.

        Appended records are synced first. A crash at any instruction leaves the old log or the new one: the new
        segment is complete and synced before it gets its name, and the old one goes after that name is durable.

        Raises:
            StoreFailed: the log is poisoned; opened again, it is the old one or the new one.
        """
        self.sync()
        old = self._path
        head = self._header
        header = SegmentHeader(head.number + 1, self._sequence + 1, head.log_id, head.chain_id, head.owner, self._chain)

        frame = self._guarded("rotate", lambda: begin_segment(self._files, self._directory, header, live_records))
        self._header = header
        self._path = segment_path(self._directory, header.number)
        self._sequence, self._chain, self._end = frame.sequence, frame.chain, frame.end
        self._log.close()
        self._log = self._guarded("open", lambda: self._files.open(self._path))
        self._note_head()
        self._guarded("sync", self._head.datasync)
        self._guarded("remove", lambda: self._files.remove(old))
        self._guarded("sync", lambda: self._files.sync_directory(self._directory))

    # -- inside ----------------------------------------------------------------------------

    def _note_head(self) -> None:
        """Say in HEAD what is synced by now; the slot itself is synced by the kernel's leisure (ADR 0012)."""
        slot = Head(self._header.log_id, self._header.number, self._sequence, self._chain).encode()
        offset = self._next_slot * SLOT_BYTES
        self._guarded("write", lambda: self._head.write_at(offset, slot))
        self._next_slot = 1 - self._next_slot

    def _guarded(self, operation: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            self._poisoned = True
            self._clear_pending()
            fail(error, operation, self._path)

    def _clear_pending(self) -> None:
        self._pending = []
        self._pending_bytes = 0

    def _require_usable(self) -> None:
        invariant(not self._closed, "the vote log is closed")
        if self._poisoned:
            raise StoreFailed(FailureKind.POISONED, "append", self._path)
