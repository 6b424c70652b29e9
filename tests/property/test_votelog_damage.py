"""A vote log as a validator of a busy cluster wrote it, in real files, then damaged in every way a disk or a hand can.

Either opening refuses with ``VoteLogDamaged`` (or names the wrong network, owner), or every record is there. The one
thing that may go is the end of a turn whose sync never returned.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consensus.records import HeldCertificate, OwnVote
from ledger.genesis import WrongNetwork
from ledger.wire import decode_record
from node.turn import Turn
from simulator.witness import Witness
from store.errors import VoteLogDamaged, WrongOwner
from store.votelog import VoteLog
from store.votelog_format import HEADER_BYTES, FormatError, Frame, SegmentHeader, decode_frame, decode_head, scan
from tests.support.cluster import Cluster, Node
from tests.unit.node.test_cluster import policy

pytestmark = pytest.mark.property

CHAIN = bytes(range(32))
OWNER = "alpha"
SEGMENT = "00000001.log"


class Turns(Witness):
    """Remembers which records one node synced together."""

    def __init__(self) -> None:
        self.turns: list[list[bytes]] = []

    def turned(self, node: Node, turn: Turn) -> None:
        if node.index == 0 and turn.vote_records:
            self.turns.append(list(turn.vote_records))


def turns_of_a_validator(records: int) -> list[list[bytes]]:
    """What one of four validators under load logged, turn by turn: at least so many records."""
    cluster = Cluster(seed=3)
    cluster.witness = log = Turns()
    cluster.start()
    cluster.run(500)
    number = 0
    while sum(map(len, log.turns)) < records:
        number += 1
        cluster.nodes[number % 4].submit(policy(cluster, number, by=number % 4))
        cluster.run(150)
    return log.turns


TURNS = turns_of_a_validator(300)
RECORDS = [record for turn in TURNS for record in turn]
SOME = TURNS[:40]  #: where every case costs a look at the whole file


def write(directory: Path, turns: list[list[bytes]], owner: str = OWNER, chain: bytes = CHAIN) -> Path:
    """A log in real files; its segment."""
    log = VoteLog.create(directory, chain, owner)
    for turn in turns:
        log.append(turn)
        log.sync()
    log.close()
    return directory / SEGMENT


def opened(directory: Path) -> list[bytes]:
    """The records of a log that opens."""
    log = VoteLog.open(directory, CHAIN, OWNER)
    try:
        return log.records()
    finally:
        log.close()


@dataclass
class Written:
    """A whole log, its bytes and frames."""

    segment: Path
    data: bytes
    header: SegmentHeader
    frames: list[Frame]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    segment = write(tmp_path_factory.mktemp("log") / "votes", TURNS)
    data = segment.read_bytes()
    header = SegmentHeader.decode(data)
    yield Written(segment, data, header, scan(data, header))
    assert segment.read_bytes() == data, "no refusal changed a byte"
    assert opened(segment.parent) == RECORDS


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    """Directory of a shorter log."""
    write(tmp_path / "votes", SOME)
    return tmp_path / "votes"


def test_the_log_under_test_is_what_validators_write(whole: Written) -> None:
    kinds = [type(decode_record(record)) for record in RECORDS]
    assert len(kinds) >= 300
    assert {OwnVote, HeldCertificate} <= set(kinds)
    assert len(whole.frames) == len(TURNS) + 1 > 150
    assert opened(whole.segment.parent) == RECORDS


# -- flipped bits ----------------------------------------------------------------------------


def test_no_frame_or_header_survives_a_flip_of_any_of_its_bits(whole: Written) -> None:
    """Every bit of the file. What opening makes of a frame that is not there, the next tests show."""
    data = bytearray(whole.data)

    def flipped() -> Iterator[None]:
        for offset in range(start, end):
            for bit in range(8):
                data[offset] ^= 1 << bit
                yield
                data[offset] ^= 1 << bit

    bits = 0
    start, end = 0, HEADER_BYTES
    for _ in flipped():
        bits += 1
        with pytest.raises(FormatError):
            SegmentHeader.decode(bytes(data[:HEADER_BYTES]))
    for frame in whole.frames:
        start, end = frame.start, frame.end
        rest = bytes(data[end:])
        assert decode_frame(bytes(data[start:]), 0, whole.header.log_id) is not None
        for _ in flipped():
            bits += 1
            found = decode_frame(bytes(data[start:end]) + rest[:512], 0, whole.header.log_id)
            assert found is None
    assert bits == 8 * len(whole.data)


def keeps_from_voting(segment: Path, offsets: Iterable[int]) -> None:
    """A flip at each of these offsets is found, and nothing is changed for it."""
    whole = segment.read_bytes()
    with segment.open("r+b", buffering=0) as file:
        for offset in offsets:
            byte = whole[offset]
            os.pwrite(file.fileno(), bytes([byte ^ (1 << offset % 8)]), offset)
            with pytest.raises(VoteLogDamaged):
                VoteLog.open(segment.parent, CHAIN, OWNER)
            os.pwrite(file.fileno(), bytes([byte]), offset)
    assert segment.read_bytes() == whole


def test_a_flip_in_any_byte_of_a_real_log_keeps_the_node_from_voting(votes: Path) -> None:
    keeps_from_voting(votes / SEGMENT, range((votes / SEGMENT).stat().st_size))


def test_a_flip_in_any_field_of_any_frame_of_a_long_log_keeps_the_node_from_voting(whole: Written) -> None:
    fields = (0, 4, 8, 16, 48, 60)  # marker, length, sequence, previous chain value, body
    offsets = [frame.start + at for frame in whole.frames for at in fields]
    keeps_from_voting(whole.segment, [*offsets, *(frame.end - 1 for frame in whole.frames)])


# -- cut ends --------------------------------------------------------------------------------


def test_a_synced_log_cut_at_any_length_keeps_the_node_from_voting(votes: Path) -> None:
    segment = votes / SEGMENT
    for length in range(segment.stat().st_size - 1, -1, -1):
        os.truncate(segment, length)
        with pytest.raises(VoteLogDamaged):
            VoteLog.open(votes, CHAIN, OWNER)
        assert segment.stat().st_size == length, "a refusal cuts nothing"


def unsynced_turn(votes: Path) -> tuple[bytes, bytes, int]:
    """A log whose last turn was written and not synced: segment, HEAD, and the length that was synced."""
    log = VoteLog.open(votes, CHAIN, OWNER)
    synced, head = log.size_bytes, (votes / "HEAD").read_bytes()
    log.append(TURNS[40])
    log.sync()
    log.close()
    return (votes / SEGMENT).read_bytes(), head, synced


def test_a_torn_turn_is_cut_at_any_length_and_nothing_before_it(votes: Path) -> None:
    data, head, synced = unsynced_turn(votes)
    records = [record for turn in SOME for record in turn]
    for length in range(synced - 40, len(data) + 1):
        (votes / SEGMENT).write_bytes(data[:length])
        (votes / "HEAD").write_bytes(head)
        if length < synced:
            with pytest.raises(VoteLogDamaged):
                VoteLog.open(votes, CHAIN, OWNER)
        else:
            assert opened(votes) == (records + TURNS[40] if length == len(data) else records)
            assert (votes / SEGMENT).stat().st_size in (synced, len(data))


# -- zeros -----------------------------------------------------------------------------------


def test_zeros_behind_the_log_are_cut_off_and_zeros_over_its_end_are_found(votes: Path) -> None:
    data = (votes / SEGMENT).read_bytes()
    records = opened(votes)
    for zeros in [*range(1, 90), 4_095, 4_096, 65_536]:
        (votes / SEGMENT).write_bytes(data + bytes(zeros))
        assert opened(votes) == records
        assert (votes / SEGMENT).read_bytes() == data
    ends_in_zeros = len(data) - len(data.rstrip(b"\x00"))
    for zeros in range(ends_in_zeros + 1, len(data), 7):
        (votes / SEGMENT).write_bytes(data[:-zeros] + bytes(zeros))
        with pytest.raises(VoteLogDamaged):
            VoteLog.open(votes, CHAIN, OWNER)


# -- frames in another order -----------------------------------------------------------------


def test_frames_repeated_left_out_or_exchanged_are_found(votes: Path) -> None:
    data = (votes / SEGMENT).read_bytes()
    frames = scan(data, SegmentHeader.decode(data))
    pieces = [data[frame.start : frame.end] for frame in frames]
    records = opened(votes)

    def put(order: list[bytes]) -> None:
        (votes / SEGMENT).write_bytes(data[:HEADER_BYTES] + b"".join(order))

    for at in range(len(pieces)):
        put(pieces[:at] + pieces[at + 1 :])
        with pytest.raises(VoteLogDamaged):
            VoteLog.open(votes, CHAIN, OWNER)
        put(pieces[:at] + pieces[at:][:1] + pieces[at:])
        if at == len(pieces) - 1:
            assert opened(votes) == records, "behind the end an old frame is what a file system may show; it is cut"
            continue
        with pytest.raises(VoteLogDamaged):
            VoteLog.open(votes, CHAIN, OWNER)
        put(pieces[:at] + pieces[at : at + 2][::-1] + pieces[at + 2 :])
        with pytest.raises(VoteLogDamaged):
            VoteLog.open(votes, CHAIN, OWNER)


# -- segments in another order ---------------------------------------------------------------


@pytest.fixture
def rotated(tmp_path: Path) -> dict[int, Path]:
    """One log at three times: in its first, second and third segment. The last is the newest."""
    directory, copies = tmp_path / "votes", {}
    log = VoteLog.create(directory, CHAIN, OWNER)
    for number in (1, 2, 3):
        for turn in SOME[10 * number : 10 * number + 10]:
            log.append(turn)
            log.sync()
        copies[number] = tmp_path / f"at-{number}"
        log.sync()
        shutil.copytree(directory, copies[number])
        log.rotate(log.records())
    log.close()
    return copies


def name(number: int) -> str:
    return f"{number:08d}.log"


@pytest.mark.parametrize(
    ("source", "copied_as"), [(1, 3), (2, 3), (1, 4), (2, 4), (3, 4)], ids=lambda number: f"{number}"
)
def test_a_segment_under_another_number_is_found(rotated: dict[int, Path], source: int, copied_as: int) -> None:
    home = rotated[3]
    shutil.copy(rotated[source] / name(source), home / name(copied_as))
    with pytest.raises(VoteLogDamaged):
        VoteLog.open(home, CHAIN, OWNER)


@pytest.mark.parametrize(("segment", "head"), [(1, 2), (1, 3), (2, 3)])
def test_an_older_segment_in_the_place_of_the_newest_is_found(
    rotated: dict[int, Path], segment: int, head: int
) -> None:
    home = rotated[head]
    (home / name(head)).unlink()
    shutil.copy(rotated[segment] / name(segment), home / name(segment))
    with pytest.raises(VoteLogDamaged):
        VoteLog.open(home, CHAIN, OWNER)


def test_a_segment_two_rotations_ahead_of_head_is_found(rotated: dict[int, Path]) -> None:
    shutil.copy(rotated[3] / name(3), rotated[1] / name(3))
    with pytest.raises(VoteLogDamaged):
        VoteLog.open(rotated[1], CHAIN, OWNER)


def test_an_older_segment_beside_the_newest_is_what_a_rotation_leaves_and_goes(rotated: dict[int, Path]) -> None:
    records = opened(rotated[3])
    shutil.copy(rotated[2] / name(2), rotated[3] / name(2))
    assert opened(rotated[3]) == records
    assert not (rotated[3] / name(2)).exists()


# -- logs of others --------------------------------------------------------------------------


def test_a_log_of_another_network_or_node_is_named(tmp_path: Path) -> None:
    write(tmp_path / "network", SOME, chain=bytes(32))
    write(tmp_path / "node", SOME, owner="beta")
    with pytest.raises(WrongNetwork):
        VoteLog.open(tmp_path / "network", CHAIN, OWNER)
    with pytest.raises(WrongOwner):
        VoteLog.open(tmp_path / "node", CHAIN, OWNER)


@pytest.mark.parametrize("file", [SEGMENT, "HEAD"])
@pytest.mark.parametrize("whose", ["network", "node", "log"])
def test_one_file_of_another_network_node_or_log_is_found(votes: Path, tmp_path: Path, file: str, whose: str) -> None:
    """``log``: the same node in the same network, before a resync."""
    chain, owner = (bytes(32) if whose == "network" else CHAIN), ("beta" if whose == "node" else OWNER)
    write(tmp_path / "other", SOME, owner=owner, chain=chain)
    shutil.copy(tmp_path / "other" / file, votes / file)
    with pytest.raises((VoteLogDamaged, WrongNetwork, WrongOwner)):
        VoteLog.open(votes, CHAIN, OWNER)


# -- anything at once ------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """A log as it lay on disk after one turn's sync."""

    files: dict[str, bytes]
    records: list[bytes]
    sequence: int


def history(directory: Path) -> list[Moment]:
    """A log with two rotations, before and after every turn."""
    log = VoteLog.create(directory, CHAIN, OWNER, log_id=bytes(range(16)))

    def moment() -> Moment:
        files = {path.name: path.read_bytes() for path in directory.iterdir()}
        return Moment(files, log.records(), log.sequence)

    moments = [moment()]
    for number, turn in enumerate(TURNS[:18]):
        log.append(turn)
        log.sync()
        if number in (6, 12):
            log.rotate(log.records())
        moments.append(moment())
    log.close()
    return moments


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> list[Moment]:
    return history(tmp_path_factory.mktemp("history") / "votes")


@given(data=st.data())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_pieced_together_from_its_past_is_refused_or_as_new_as_its_newest_piece(
    moments: list[Moment], tmp_path: Path, data: st.DataObject
) -> None:
    """Files of different times, and damaged bytes on top: what opens holds all that HEAD still tells of, and of what
    it does not tell only turns at the end go, each of them damaged itself, the first by more than one bit.
    """
    at_turn, head_of = data.draw(st.integers(0, len(moments) - 1)), moments[data.draw(st.integers(0, len(moments) - 1))]
    segment_of = moments[at_turn]
    newest = max(file for file in segment_of.files if file != "HEAD")
    directory = tmp_path / "votes"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    files = {key: raw for key, raw in segment_of.files.items() if key != "HEAD"} | {"HEAD": head_of.files["HEAD"]}
    flips: dict[int, int] = {}  #: of the newest segment: offset -> which bits
    for file in sorted(files):
        raw = bytearray(files[file])
        for _ in range(data.draw(st.integers(0, 2))):
            at, bits = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(1, 255))
            raw[at] ^= bits
            if file == newest:
                flips[at] = flips.get(at, 0) ^ bits
        files[file] = bytes(raw)
        (directory / file).write_bytes(raw)
    known, _ = decode_head(files["HEAD"])
    try:
        records = opened(directory)
    except VoteLogDamaged:
        return
    at_opening = next(index for index, moment in enumerate(moments) if moment.records == records)
    assert known is not None
    assert known.sequence <= moments[at_opening].sequence <= segment_of.sequence
    for lost in range(at_opening + 1, at_turn + 1):
        written = range(len(moments[lost - 1].files.get(newest, b"")), len(moments[lost].files[newest]))
        damage = [bits.bit_count() for at, bits in flips.items() if at in written]
        assert sum(damage) > (lost == at_opening + 1), "a single flipped bit is found"


def test_a_flip_in_any_byte_of_the_last_turn_is_found_though_head_was_lost_in_a_power_cut(votes: Path) -> None:
    data, head, synced = unsynced_turn(votes)
    (votes / "HEAD").write_bytes(head)
    for at in range(synced, len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        (votes / SEGMENT).write_bytes(flipped)
        with pytest.raises(VoteLogDamaged):
            VoteLog.open(votes, CHAIN, OWNER)
    (votes / SEGMENT).write_bytes(data)
    assert opened(votes)[-len(TURNS[40]) :] == TURNS[40]
