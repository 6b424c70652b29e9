"""Bytes of the vote log: segment header, frame, and the HEAD file. Pure; ``store.votelog`` does the input and output.

Integers are unsigned and big-endian.

Segment file ``<number, 8 digits>.log``::

    header   16  magic "lossbook-votes" and two zero bytes
              4  schema version
              4  length of this header, checksum included
              4  segment number, as in the file name
              8  sequence of the first frame
             16  log id: random, drawn when the log is created, the same in all its segments
             32  chain id (genesis digest)
              1  length of the organisation id
             32  organisation id, padded with zero bytes
             32  chain value of the last frame of the segment before (zero in the first)
             32  checksum: SHA-256 of all of the above
    frame     4  marker F5 4C 42 46
              4  length of the body in bytes
              8  sequence: one more than the frame before, across segments
             32  chain value of the frame before (of a segment's first frame: the header's checksum)
              n  body: records, each 4 bytes of length and the bytes
             32  chain value = SHA-256(log id | length | sequence | previous | body)
    frame    ...

One frame holds what one turn of the loop appended, so one frame is one sync, and a frame is written only after the one
before it was synced. The log id is in the hash so that a record sent by a peer (a certificate, say) can hold no bytes
that look like a frame: the peer does not know it.

File ``HEAD``: two slots of 512 bytes (a sector, which disks write whole), written in turn::

    slot      4  magic "HEAD"
              4  segment number
              8  sequence of the newest frame known to be synced
             32  its chain value
             32  checksum: SHA-256(log id | all of the above)
             16  log id
                 zero bytes

A slot is written after the sync of the frame it names and is not synced itself.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

MAGIC = b"lossbook-votes\x00\x00"
SCHEMA = 1
LOG_ID_BYTES = 16
DIGEST_BYTES = 32
OWNER_BYTES_MAX = 32

_PREFIX = struct.Struct(">16sII")
_HEADER = struct.Struct(">16sIIIQ16s32sB32s32s")
HEADER_BYTES = _HEADER.size + DIGEST_BYTES

MARKER = b"\xf5LBF"
_FRAME = struct.Struct(">4sIQ32s")
FRAME_OVERHEAD = _FRAME.size + DIGEST_BYTES
FLIPS_BYTES_MAX = 16 << 10  #: a turn writes some hundred bytes, of ten validators 1.5 KB at most
BODY_BYTES_MAX = 64 << 20  #: a turn writes kilobytes; the live records of a rotation stay far below as well
_LENGTH = struct.Struct(">I")
RECORD_OVERHEAD = _LENGTH.size

SLOT_BYTES = 512
HEAD_BYTES = 2 * SLOT_BYTES
_SLOT_MAGIC = b"HEAD"
_SLOT = struct.Struct(">4sIQ32s")


class FormatError(Exception):
    """Bytes that are no header, frame or slot.

    Attributes: detail; schema (of another version's header, else None).
    """

    def __init__(self, detail: str, schema: int | None = None) -> None:
        self.detail = detail
        self.schema = schema
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Head of a segment file; see the module text for each field."""

    number: int
    first_sequence: int
    log_id: bytes
    chain_id: bytes
    owner: str
    previous_chain: bytes

    def encode(self) -> bytes:
        """``HEADER_BYTES`` bytes."""
        return self._fields() + self.chain_seed

    @property
    def chain_seed(self) -> bytes:
        """The header's checksum, which is the chain value its first frame builds on."""
        return sha256(self._fields()).digest()

    def _fields(self) -> bytes:
        owner = self.owner.encode()
        return _HEADER.pack(
            MAGIC,
            SCHEMA,
            HEADER_BYTES,
            self.number,
            self.first_sequence,
            self.log_id,
            self.chain_id,
            len(owner),
            owner.ljust(OWNER_BYTES_MAX, b"\x00"),
            self.previous_chain,
        )

    @classmethod
    def decode(cls, data: bytes) -> SegmentHeader:
        """Read the start of a segment file.

        Raises:
            FormatError: it is none; with ``schema`` set, it is an intact one of another version.
        """
        if len(data) < _PREFIX.size:
            raise FormatError("the file ends within its header")
        magic, schema, length = _PREFIX.unpack_from(data)
        if magic != MAGIC:
            raise FormatError("the file does not start as a vote log")
        if not _PREFIX.size + DIGEST_BYTES <= length <= len(data):
            raise FormatError("the header's length is wrong")
        if sha256(data[: length - DIGEST_BYTES]).digest() != data[length - DIGEST_BYTES : length]:
            raise FormatError("the header's checksum is wrong")
        if schema != SCHEMA:
            raise FormatError("another schema version", schema)
        _, _, _, number, first, log_id, chain_id, owner_length, owner, previous = _HEADER.unpack_from(data)
        try:
            name = owner[:owner_length].decode()
        except UnicodeDecodeError as error:
            raise FormatError("the organisation id is not text") from error
        return cls(number, first, log_id, chain_id, name, previous)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a frame lies in a segment (byte offsets) and what it says of itself."""

    sequence: int
    previous: bytes
    chain: bytes
    start: int
    end: int

    @property
    def is_empty(self) -> bool:
        """Whether it holds no record."""
        return self.end - self.start == FRAME_OVERHEAD


def encode_frame(log_id: bytes, previous: bytes, sequence: int, records: Sequence[bytes]) -> tuple[bytes, bytes]:
    """A frame and its chain value.

    Raises:
        FormatError: the records are longer than ``BODY_BYTES_MAX`` together.
    """
    parts: list[bytes] = []
    for record in records:
        parts += (_LENGTH.pack(len(record)), record)
    body = b"".join(parts)
    if len(body) > BODY_BYTES_MAX:
        raise FormatError(f"{len(body)} bytes in one turn, at most {BODY_BYTES_MAX} fit")
    head = _FRAME.pack(MARKER, len(body), sequence, previous)
    chain = _chain(log_id, head, body)
    return head + body + chain, chain


def decode_frame(data: bytes | bytearray, offset: int, log_id: bytes) -> Frame | None:
    """The frame that starts at ``offset``, if its own hash is right; whether it links to others is not asked."""
    if offset + FRAME_OVERHEAD > len(data) or not data.startswith(MARKER, offset):
        return None
    _, length, sequence, previous = _FRAME.unpack_from(data, offset)
    body_start = offset + _FRAME.size
    end = body_start + length + DIGEST_BYTES
    if length > BODY_BYTES_MAX or end > len(data):
        return None
    chain = bytes(data[end - DIGEST_BYTES : end])
    if _chain(log_id, data[offset:body_start], data[body_start : end - DIGEST_BYTES]) != chain:
        return None
    return Frame(sequence, previous, chain, offset, end)


def decode_body(data: bytes, frame: Frame) -> list[bytes]:
    """Records of a frame whose hash was right.

    Raises:
        FormatError: the lengths do not add up (only a bug of the writer can cause it).
    """
    records: list[bytes] = []
    offset, end = frame.start + _FRAME.size, frame.end - DIGEST_BYTES
    while offset < end:
        if offset + _LENGTH.size > end:
            raise FormatError("a record's length is cut")
        (length,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size
        if offset + length > end:
            raise FormatError("a record is longer than its frame")
        records.append(data[offset : offset + length])
        offset += length
    return records


def scan(data: bytes, header: SegmentHeader) -> list[Frame]:
    """The unbroken chain of frames from the segment's start; what follows its end is for the caller to judge."""
    frames: list[Frame] = []
    offset, sequence = HEADER_BYTES, header.first_sequence
    previous = header.chain_seed
    while frame := decode_frame(data, offset, header.log_id):
        if frame.sequence != sequence or frame.previous != previous:
            break
        frames.append(frame)
        offset, sequence, previous = frame.end, sequence + 1, frame.chain
    return frames


def find_frame(data: bytes, start: int, log_id: bytes, after_sequence: int) -> Frame | None:
    """The first valid frame with a higher sequence at any offset from ``start`` on.

    Looking at every offset, a damaged length field hides nothing. Older frames are no sign of a loss: a file system may
    show old blocks in a torn end.
    """
    offset = data.find(MARKER, start)
    while offset >= 0:
        frame = decode_frame(data, offset, log_id)
        if frame is not None and frame.sequence > after_sequence:
            return frame
        offset = data.find(MARKER, offset + 1)
    return None


def is_one_flip_from(data: bytes, start: int, log_id: bytes, sequence: int, previous: bytes) -> bool:
    """Would the bytes from ``start`` on begin with the frame that has to stand there, but for one flipped bit?

    Then all of it had arrived, and no crash tore it. Every bit is tried (a frame of 1 KB costs some 20 ms, and only
    where an end cannot be read), within ``FLIPS_BYTES_MAX``.
    """
    if start + FRAME_OVERHEAD > len(data):
        return False
    _, length, _, _ = _FRAME.unpack_from(data, start)
    window = bytearray(data[start : start + FLIPS_BYTES_MAX])
    extent = min(FRAME_OVERHEAD + length, len(window))  # a flip in the length itself lies within any extent
    for at in range(extent):
        whole = window[at]
        for bit in range(8):
            window[at] = whole ^ (1 << bit)
            frame = decode_frame(window, 0, log_id)
            if frame is not None and (frame.sequence, frame.previous) == (sequence, previous):
                return True
        window[at] = whole
    return False


@dataclass(frozen=True, slots=True)
class Head:
    """What was synced when a HEAD slot was written."""

    log_id: bytes
    segment: int
    sequence: int
    chain: bytes

    def encode(self) -> bytes:
        """One slot, ``SLOT_BYTES`` bytes."""
        body = _SLOT.pack(_SLOT_MAGIC, self.segment, self.sequence, self.chain)
        checksum = sha256(self.log_id + body).digest()
        return (body + checksum + self.log_id).ljust(SLOT_BYTES, b"\x00")

    @classmethod
    def decode(cls, slot: bytes) -> Head | None:
        """None if the slot is damaged or torn; the other one then counts."""
        if len(slot) != SLOT_BYTES:
            return None
        magic, segment, sequence, chain = _SLOT.unpack_from(slot)
        body, at = slot[: _SLOT.size], _SLOT.size
        checksum, log_id = slot[at : at + DIGEST_BYTES], slot[at + DIGEST_BYTES : at + DIGEST_BYTES + LOG_ID_BYTES]
        if magic != _SLOT_MAGIC or sha256(log_id + body).digest() != checksum:
            return None
        return cls(log_id, segment, sequence, chain)


def decode_head(data: bytes) -> tuple[Head | None, int]:
    """The newer of the slots that are intact, None if none is; and the slot to write next: the other one."""
    first, second = Head.decode(data[:SLOT_BYTES]), Head.decode(data[SLOT_BYTES:HEAD_BYTES])
    if first is None or (second is not None and second.sequence > first.sequence):
        return second, 0
    return first, 1


def _chain(log_id: bytes, head: bytes | bytearray, body: bytes | bytearray) -> bytes:
    """Chain value of a frame: the marker is constant and needs no hashing."""
    return sha256(log_id + head[len(MARKER) :] + body).digest()
