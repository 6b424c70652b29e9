"""Making and opening a vote log on disk: what is judged damaged, what is cut off (rules in ``store.votelog``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.genesis import WrongNetwork
from ledger.invariant import invariant
from store.errors import VoteLogDamaged, VoteLogMissing, WrongOwner, WrongSchema
from store.files import Files, OpenFile
from store.votelog_format import (
    BODY_BYTES_MAX,
    HEADER_BYTES,
    RECORD_OVERHEAD,
    SCHEMA,
    SLOT_BYTES,
    FormatError,
    Frame,
    Head,
    SegmentHeader,
    decode_head,
    encode_frame,
    find_frame,
    is_one_flip_from,
    scan,
)

HEAD_NAME = "HEAD"
_LOG_SUFFIX = ".log"
_TEMPORARY_SUFFIX = ".tmp"


@dataclass(slots=True)
class Opened:
    """A checked log, cut to its last synced frame, ready to append."""

    header: SegmentHeader
    last: Frame  #: newest frame of the segment
    log: OpenFile
    head: OpenFile
    next_slot: int  #: HEAD slot to write next, so that the newest stays while it is written


def segment_path(directory: Path, number: int) -> Path:
    """``<number, 8 digits>.log``."""
    return directory / f"{number:08d}{_LOG_SUFFIX}"


def begin_segment(files: Files, directory: Path, header: SegmentHeader, records: Sequence[bytes]) -> Frame:
    """Make a segment with one frame, complete and synced before it gets its name, and that name durable.

    Raises:
        OSError: as the file system; a file with a temporary name may be left, which opening removes.
    """
    size = sum(map(len, records)) + RECORD_OVERHEAD * len(records)
    invariant(size <= BODY_BYTES_MAX, "a segment begins with more than a frame holds")
    head = header.encode()
    frame, chain = encode_frame(header.log_id, header.chain_seed, header.first_sequence, records)
    path = segment_path(directory, header.number)
    _replace(files, path, head + frame)
    end = HEADER_BYTES + len(frame)
    return Frame(header.first_sequence, header.chain_seed, chain, HEADER_BYTES, end)


def begin_log(files: Files, directory: Path, header: SegmentHeader) -> None:
    """Make a new log: an empty first segment, then HEAD, whose presence says that the log exists.

    Raises:
        OSError: as the file system. What is left is no log yet, and a second call finishes it.
        VoteLogDamaged: there is a log, or a part of one that may hold votes.
    """
    if not files.is_directory(directory):
        files.make_directory(directory)
        files.sync_directory(directory.parent)
    names = files.names(directory)
    if HEAD_NAME in names or (_segments(names) and not _is_unfinished(files, directory, names)):
        raise VoteLogDamaged(directory, "a new log was asked for where there is one")
    for name in names:
        files.remove(directory / name)
    frame = begin_segment(files, directory, header, [])
    slot = Head(header.log_id, header.number, frame.sequence, frame.chain).encode()
    _replace(files, directory / HEAD_NAME, slot + slot)


def open_log(files: Files, directory: Path, chain_id: bytes, owner: str) -> Opened:
    """Check everything, then cut off a torn end and drop what a rotation left behind.

    Raises:
        VoteLogMissing, VoteLogDamaged, WrongNetwork, WrongOwner, WrongSchema: see ``store.votelog``.
        OSError: as the file system.
    """
    names = files.names(directory) if files.is_directory(directory) else []
    numbers = _segments(names)
    if HEAD_NAME not in names:
        if not numbers or _is_unfinished(files, directory, names):
            raise VoteLogMissing(directory)
        raise VoteLogDamaged(directory / HEAD_NAME, "the file is missing")
    synced, next_slot = decode_head(files.read(directory / HEAD_NAME))
    if synced is None:
        raise VoteLogDamaged(directory / HEAD_NAME, "neither of its slots can be read")
    if not numbers:
        raise VoteLogDamaged(segment_path(directory, synced.segment), "the file is missing")
    path = segment_path(directory, numbers[-1])
    data = files.read(path)
    header = _check_header(path, data, numbers[-1], chain_id, owner)
    frames = scan(data, header)
    _check_end(path, data, header, frames, synced)
    log = files.open(path)
    try:
        head = files.open(directory / HEAD_NAME)
    except OSError:
        log.close()
        raise
    opened = Opened(header, frames[-1], log, head, next_slot)
    try:
        _settle(files, directory, data, opened, [name for name in names if name not in (path.name, HEAD_NAME)])
    except OSError:
        log.close()
        head.close()
        raise
    return opened


def _check_header(path: Path, data: bytes, number: int, chain_id: bytes, owner: str) -> SegmentHeader:
    try:
        header = SegmentHeader.decode(data)
    except FormatError as error:
        if error.schema is not None:
            raise WrongSchema(str(path), str(error.schema), SCHEMA) from error
        raise VoteLogDamaged(path, error.detail, 0) from error
    if header.chain_id != chain_id:
        raise WrongNetwork(chain_id, header.chain_id, str(path))
    if header.owner != owner:
        raise WrongOwner(path, owner, header.owner)
    if header.number != number:
        raise VoteLogDamaged(path, f"its header says segment {header.number}", 0)
    return header


def _check_end(path: Path, data: bytes, header: SegmentHeader, frames: list[Frame], synced: Head) -> None:
    """Raise unless all that was ever synced is among ``frames`` (rules 2 to 5 of ``store.votelog``)."""
    if synced.log_id != header.log_id:
        raise VoteLogDamaged(path, "HEAD belongs to another log")
    if not frames:
        raise VoteLogDamaged(path, "its first frame cannot be read", HEADER_BYTES)
    last = frames[-1]
    if synced.segment == header.number:
        index = synced.sequence - header.first_sequence
        if index >= len(frames):
            raise VoteLogDamaged(path, f"frame {last.sequence + 1} was synced and cannot be read", last.end)
        if index < 0 or frames[index].chain != synced.chain:
            raise VoteLogDamaged(path, f"frame {synced.sequence} is not the one that was synced")
    elif synced.segment + 1 == header.number:
        ended = header.first_sequence - 1
        if synced.sequence > ended or (synced.sequence == ended and synced.chain != header.previous_chain):
            raise VoteLogDamaged(path, "it does not continue the segment before it", 0)
    else:
        raise VoteLogDamaged(segment_path(path.parent, synced.segment), "the file is missing")
    if last.end < len(data):
        later = find_frame(data, last.end, header.log_id, after_sequence=last.sequence)
        if later is not None:
            raise VoteLogDamaged(path, f"unreadable bytes before frame {later.sequence}", last.end)
        if is_one_flip_from(data, last.end, header.log_id, last.sequence + 1, last.chain):
            raise VoteLogDamaged(path, f"a bit of frame {last.sequence + 1} is flipped", last.end)


def _settle(files: Files, directory: Path, data: bytes, opened: Opened, leftovers: list[str]) -> None:
    """Make durable what was read, then forget what is over.

    The last frame is written once more: after a failed sync the kernel may hold it as clean though the disk does not.
    The same bytes at the same place can tear into nothing else.
    """
    last, header = opened.last, opened.header
    if last.end < len(data):
        opened.log.truncate(last.end)
    opened.log.write_at(last.start, data[last.start : last.end])
    opened.log.datasync()
    slot = Head(header.log_id, header.number, last.sequence, last.chain).encode()
    opened.head.write_at(opened.next_slot * SLOT_BYTES, slot)
    opened.head.datasync()
    opened.next_slot = 1 - opened.next_slot
    for name in leftovers:
        if name.endswith((_LOG_SUFFIX, _TEMPORARY_SUFFIX)):
            files.remove(directory / name)
    files.sync_directory(directory)


def _replace(files: Files, path: Path, data: bytes) -> None:
    """Write a whole file under a temporary name, sync it, name it, sync the name."""
    temporary = path.with_name(path.name + _TEMPORARY_SUFFIX)
    opened = files.open(temporary, create=True)
    try:
        opened.write_at(0, data)
        opened.datasync()
    finally:
        opened.close()
    files.rename(temporary, path)
    files.sync_directory(path.parent)


def _segments(names: Sequence[str]) -> list[int]:
    stems = [name.removesuffix(_LOG_SUFFIX) for name in names if name.endswith(_LOG_SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())


def _is_unfinished(files: Files, directory: Path, names: Sequence[str]) -> bool:
    """Whether ``begin_log`` was interrupted: nothing was ever appended, as HEAD comes first."""
    if _segments(names) != [1]:
        return False
    data = files.read(segment_path(directory, 1))
    try:
        header = SegmentHeader.decode(data)
    except FormatError:
        return False
    frames = scan(data, header)
    return len(frames) == 1 and frames[0].end == len(data) and frames[0].is_empty
