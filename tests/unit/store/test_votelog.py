"""The vote log keeps what was synced, cuts what was torn, and finds what was damaged."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from ledger.genesis import WrongNetwork
from ledger.invariant import InvariantViolated
from store.errors import (
    FailureKind,
    StoreFailed,
    VoteLogDamaged,
    VoteLogMissing,
    WrongOwner,
    WrongSchema,
)
from store.faulty_files import FaultyFiles, SimulatedCrash
from store.votelog import VoteLog
from store.votelog_format import FRAME_OVERHEAD, HEADER_BYTES, SLOT_BYTES, decode_head

CHAIN = bytes(range(32))
OWNER = "alpha"
VOTES = Path("/home/votes")


def make(files: FaultyFiles, *turns: list[bytes]) -> VoteLog:
    log = VoteLog.create(VOTES, CHAIN, OWNER, files)
    for turn in turns:
        log.append(turn)
        log.sync()
    return log


def reopen(files: FaultyFiles) -> VoteLog:
    return VoteLog.open(VOTES, CHAIN, OWNER, files)


def segment(files: FaultyFiles, number: int = 1) -> tuple[Path, bytes]:
    path = VOTES / f"{number:08d}.log"
    return path, files.read(path)


def put(files: FaultyFiles, path: Path, data: bytes) -> None:
    """Replace a file's contents, durably."""
    opened = files.open(path)
    opened.truncate(0)
    opened.write_at(0, data)
    opened.datasync()


def test_a_new_log_is_empty_and_synced_records_come_back_in_order(tmp_path: Path) -> None:
    log = VoteLog.create(tmp_path / "votes", CHAIN, OWNER)
    assert log.records() == []
    log.append([b"one", b""])
    log.append([b"two"])
    log.sync()
    log.append([b"three"])
    log.sync()
    assert log.records() == [b"one", b"", b"two", b"three"]
    log.close()
    again = VoteLog.open(tmp_path / "votes", CHAIN, OWNER)
    assert again.records() == [b"one", b"", b"two", b"three"]
    again.close()


def test_files_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    VoteLog.create(tmp_path / "votes", CHAIN, OWNER).close()
    assert (tmp_path / "votes").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "votes").iterdir()} == {0o600}


def test_one_turn_is_one_sync_however_many_records() -> None:
    files = FaultyFiles()
    log = make(files)
    before = files.counts["datasync"]
    log.append([b"a" * 300] * 10)
    log.append([b"b"])
    log.sync()
    assert files.counts["datasync"] == before + 1
    log.sync()
    assert files.counts["datasync"] == before + 1, "nothing appended, nothing synced"


def test_size_counts_what_is_pending() -> None:
    log = make(FaultyFiles())
    assert log.size_bytes == HEADER_BYTES + FRAME_OVERHEAD
    log.append([b"12345"])
    assert log.size_bytes == HEADER_BYTES + FRAME_OVERHEAD + 4 + 5


def test_close_syncs_what_was_appended() -> None:
    files = FaultyFiles()
    log = make(files)
    log.append([b"late"])
    log.close()
    log.close()
    files.crash(Random(1))
    assert reopen(files).records() == [b"late"]


def test_a_closed_log_takes_nothing() -> None:
    log = make(FaultyFiles())
    log.close()
    with pytest.raises(InvariantViolated, match="closed"):
        log.append([b"x"])


def test_a_log_that_is_not_there_is_an_error_not_a_new_log(tmp_path: Path) -> None:
    with pytest.raises(VoteLogMissing, match="lossbook node resync"):
        VoteLog.open(tmp_path / "votes", CHAIN, OWNER)
    (tmp_path / "votes").mkdir()
    with pytest.raises(VoteLogMissing):
        VoteLog.open(tmp_path / "votes", CHAIN, OWNER)


def test_a_log_is_never_created_over_another() -> None:
    files = FaultyFiles()
    make(files, [b"vote"]).close()
    with pytest.raises(VoteLogDamaged, match="new log"):
        make(files)
    files.remove(VOTES / "HEAD")
    with pytest.raises(VoteLogDamaged, match="new log"):
        make(files)
    assert b"vote" in segment(files)[1]


def test_another_network_and_another_owner_are_refused() -> None:
    files = FaultyFiles()
    make(files, [b"vote"]).close()
    with pytest.raises(WrongNetwork) as wrong:
        VoteLog.open(VOTES, bytes(32), OWNER, files)
    assert (wrong.value.expected, wrong.value.found) == (bytes(32), CHAIN)
    with pytest.raises(WrongOwner, match="alpha"):
        VoteLog.open(VOTES, CHAIN, "beta", files)


def test_another_schema_version_is_named() -> None:
    files = FaultyFiles()
    make(files).close()
    path, data = segment(files)
    header = data[:16] + (2).to_bytes(4) + data[20 : HEADER_BYTES - 32]
    put(files, path, header + sha256(header).digest() + data[HEADER_BYTES:])
    with pytest.raises(WrongSchema) as wrong:
        reopen(files)
    assert (wrong.value.expected, wrong.value.found) == (1, "2")


# -- torn ends -------------------------------------------------------------------------------


def torn_log(keep: int, filler: bytes = b"") -> tuple[FaultyFiles, int]:
    """Two synced turns and ``keep`` bytes of a third whose sync never ended; also the third frame's length."""
    files = FaultyFiles()
    log = make(files, [b"first"], [b"second"])
    path, whole = segment(files)
    head = files.read(VOTES / "HEAD")
    log.append([b"third" * 50])
    log.sync()
    log.close()
    grown = segment(files)[1]
    put(files, path, grown[: len(whole) + keep] + filler)
    put(files, VOTES / "HEAD", head)
    return files, len(grown) - len(whole)


def test_a_torn_end_is_cut_at_any_length_and_the_log_goes_on() -> None:
    _, length = torn_log(0)
    for keep in range(length):
        files, _ = torn_log(keep)
        log = reopen(files)
        assert log.records() == [b"first", b"second"], keep
        log.append([b"other"])
        log.sync()
        log.close()
        assert reopen(files).records() == [b"first", b"second", b"other"]


def test_a_torn_end_of_zeros_or_stale_blocks_is_cut() -> None:
    for filler in (bytes(4096), b"\xf5LBF" * 100, b"\xff" * 700):
        files, _ = torn_log(20, filler)
        log = reopen(files)
        assert log.records() == [b"first", b"second"]
        assert len(segment(files)[1]) == log.size_bytes
    files, _ = torn_log(0)
    path, data = segment(files)
    put(files, path, data + data[HEADER_BYTES:])  # an older block of the same file shows again
    assert reopen(files).records() == [b"first", b"second"]


def test_a_whole_frame_that_was_never_acknowledged_is_kept() -> None:
    files, length = torn_log(1000)
    assert length < 1000
    assert reopen(files).records() == [b"first", b"second", b"third" * 50]


# -- damage ----------------------------------------------------------------------------------


def test_a_flipped_last_record_that_was_synced_is_found() -> None:
    files = FaultyFiles()
    make(files, [b"first"], [b"second"]).close()
    path, data = segment(files)
    files.flip(path, len(data) - 40)
    with pytest.raises(VoteLogDamaged, match=r"refuses to vote.*lossbook node resync") as damaged:
        reopen(files)
    assert damaged.value.path == path
    assert damaged.value.offset is not None


def test_a_flipped_last_record_is_found_though_the_process_was_killed() -> None:
    files = FaultyFiles()
    log = make(files, [b"first"], [b"second"])
    assert log.sequence == 3
    path, data = segment(files)
    files.flip(path, len(data) - 40)
    with pytest.raises(VoteLogDamaged):
        reopen(files)


def test_a_synced_end_that_was_cut_off_is_found() -> None:
    files = FaultyFiles()
    make(files, [b"first"], [b"second"]).close()
    path, data = segment(files)
    put(files, path, data[: -(FRAME_OVERHEAD + 4 + len(b"second"))])
    with pytest.raises(VoteLogDamaged, match="was synced and cannot be read"):
        reopen(files)


@pytest.mark.parametrize("offset", [4, 5, 6, 7])
def test_a_damaged_length_hides_no_later_frame(offset: int) -> None:
    files, _ = torn_log(1000)  # three frames beyond the empty one, HEAD of the second
    path, _ = segment(files)
    files.flip(path, HEADER_BYTES + FRAME_OVERHEAD + offset, 0x80)
    with pytest.raises(VoteLogDamaged, match="frame"):
        reopen(files)


def test_where_head_is_old_a_later_frame_proves_what_was_synced() -> None:
    files = FaultyFiles()
    log = make(files)
    path, empty = segment(files)
    head = files.read(VOTES / "HEAD")
    ends = [len(empty)]
    for record in (b"first", b"second", b"third"):
        log.append([record])
        log.sync()
        ends.append(log.size_bytes)
    log.close()
    for offset in range(ends[0], ends[2]):
        put(files, VOTES / "HEAD", head)
        files.flip(path, offset, 0x20)
        with pytest.raises(VoteLogDamaged, match=r"unreadable bytes before frame"):
            reopen(files)
        files.flip(path, offset, 0x20)
    # The case ADR 0012 leaves to the start-up query: HEAD old, and exactly the last frame damaged by more than a bit.
    put(files, VOTES / "HEAD", head)
    files.flip(path, ends[2] + 50, 0x03)
    assert reopen(files).records() == [b"first", b"second"]


def test_where_head_is_old_a_flip_of_any_bit_of_the_last_frame_is_still_found() -> None:
    files = FaultyFiles()
    log = make(files, [b"first"])
    head, begin = files.read(VOTES / "HEAD"), log.size_bytes
    log.append([b"second", b"third"])
    log.sync()
    end = log.size_bytes
    log.close()
    path, _ = segment(files)
    for offset in range(begin, end):
        for bit in range(8):
            put(files, VOTES / "HEAD", head)
            files.flip(path, offset, 1 << bit)
            with pytest.raises(VoteLogDamaged, match="frame 3 is flipped"):
                reopen(files)
            files.flip(path, offset, 1 << bit)
    put(files, VOTES / "HEAD", head)
    assert reopen(files).records() == [b"first", b"second", b"third"]


def test_head_falls_back_by_one_turn_if_its_newer_slot_is_damaged() -> None:
    files = FaultyFiles()
    log = make(files, [b"a"], [b"b"], [b"c"])
    data = files.read(VOTES / "HEAD")
    newest, _ = decode_head(data)
    assert newest is not None
    assert newest.sequence == log.sequence
    for offset in (0, SLOT_BYTES):
        rest, free = decode_head(data[:offset] + bytes(SLOT_BYTES) + data[offset + SLOT_BYTES :])
        assert rest is not None
        assert newest.sequence - 1 <= rest.sequence <= newest.sequence
        assert free == offset // SLOT_BYTES


def branches(log_id: bytes) -> tuple[FaultyFiles, FaultyFiles]:
    """Two copies of one log that went on differently: what a careless restore can mix."""
    pair = FaultyFiles(), FaultyFiles()
    for files, record in zip(pair, (b"one way", b"another"), strict=True):
        log = VoteLog.create(VOTES, CHAIN, OWNER, files, log_id)
        for turn in (b"common", record, b"last"):
            log.append([turn])
            log.sync()
        log.close()
    return pair


def test_a_log_mixed_from_two_copies_is_found() -> None:
    here, there = branches(b"i" * 16)
    path, data = segment(here)
    put(here, path, segment(there)[1])
    with pytest.raises(VoteLogDamaged, match="not the one that was synced"):
        reopen(here)
    spliced = len(data) - FRAME_OVERHEAD - 4 - len(b"last")
    put(here, path, data[:spliced] + segment(there)[1][spliced:])
    with pytest.raises(VoteLogDamaged):
        reopen(here)
    put(here, VOTES / "HEAD", make_head(b"i" * 16))
    with pytest.raises(VoteLogDamaged, match="unreadable bytes"):
        reopen(here)


def make_head(log_id: bytes) -> bytes:
    """HEAD of a log that was just made."""
    files = FaultyFiles()
    VoteLog.create(VOTES, CHAIN, OWNER, files, log_id)
    return files.read(VOTES / "HEAD")


@pytest.mark.parametrize(("same_log", "turns"), [(True, 3), (True, 2), (True, 1), (False, 0)])
def test_a_segment_that_does_not_continue_the_one_before_is_found(same_log: bool, turns: int) -> None:
    """HEAD speaks of segment 1 with some turns; segment 2 began after one other turn."""
    rotated = FaultyFiles()
    log = VoteLog.create(VOTES, CHAIN, OWNER, rotated, b"i" * 16)
    log.append([b"before the rotation"])
    log.rotate([b"live"])
    log.close()
    files = FaultyFiles()
    log = VoteLog.create(VOTES, CHAIN, OWNER, files, b"i" * 16 if same_log else b"j" * 16)
    for number in range(turns):
        log.append([b"turn %d" % number])
        log.sync()
    log.close()
    path, data = segment(rotated, 2)
    files.open(path, create=True)
    put(files, path, data)
    with pytest.raises(VoteLogDamaged, match=r"continue|another log"):
        reopen(files)


def test_bytes_of_a_peer_cannot_pass_for_a_frame() -> None:
    other = FaultyFiles()
    make(other, *([b"looks like a vote"] for _ in range(9))).close()
    files, _ = torn_log(30, segment(other)[1][HEADER_BYTES:])
    assert reopen(files).records() == [b"first", b"second"]


def test_a_missing_file_is_found() -> None:
    for name in ("HEAD", "00000001.log"):
        files = FaultyFiles()
        make(files, [b"vote"]).close()
        files.remove(VOTES / name)
        with pytest.raises(VoteLogDamaged, match="missing"):
            reopen(files)


def test_a_log_put_back_from_an_older_copy_is_found() -> None:
    files = FaultyFiles()
    log = make(files, [b"first"])
    path, old = segment(files)
    log.append([b"second"])
    log.sync()
    log.close()
    put(files, path, old)
    with pytest.raises(VoteLogDamaged):
        reopen(files)


def test_contents_that_change_under_an_open_log_are_found() -> None:
    files = FaultyFiles()
    log = make(files, [b"first"])
    path, data = segment(files)
    files.flip(path, len(data) - 1)
    with pytest.raises(VoteLogDamaged, match="while it was open"):
        log.records()


# -- rotation --------------------------------------------------------------------------------


def test_rotation_keeps_the_live_records_and_drops_the_rest() -> None:
    files = FaultyFiles()
    log = make(files, [b"old"] * 100)
    log.append([b"pending"])
    before = log.size_bytes
    log.rotate([b"live", b"also"])
    assert log.size_bytes < before
    assert log.records() == [b"live", b"also"]
    log.append([b"next"])
    log.sync()
    assert files.names(VOTES) == ["00000002.log", "HEAD"]
    log.close()
    files.crash(Random(0))
    log = reopen(files)
    assert log.records() == [b"live", b"also", b"next"]
    log.rotate([])
    log.rotate([b"again"])
    log.close()
    assert reopen(files).records() == [b"again"]


def rotate_until(step: int, files: FaultyFiles) -> bool:
    """Whether the rotation ended before the step at which the machine stops."""
    log = make(files, [b"one"], [b"two"])
    files.crash_at(files.operations + step)
    try:
        log.rotate([b"live"])
    except SimulatedCrash:
        return False
    return True


def test_a_crash_at_any_step_of_a_rotation_leaves_the_old_log_or_the_new_one() -> None:
    steps = 1
    while not rotate_until(steps, FaultyFiles()):
        steps += 1
    assert steps > 8, "every step is tried"
    outcomes = set()
    for step in range(1, steps + 1):
        for seed in range(12):
            files = FaultyFiles()
            finished = rotate_until(step, files)
            files.crash(Random(seed))
            log = reopen(files)
            assert not finished or log.records() == [b"live"]
            outcomes.add(tuple(log.records()))
            log.append([b"after"])
            log.sync()
            log.close()
            assert reopen(files).records()[-1] == b"after"
    assert outcomes == {(b"one", b"two"), (b"live",)}


def test_a_crash_at_any_step_of_creation_leaves_no_log_or_a_whole_one() -> None:
    for step in range(1, 100):
        for seed in range(8):
            files = FaultyFiles()
            files.crash_at(step)
            try:
                make(files)
            except SimulatedCrash:
                files.crash(Random(seed))
                try:
                    assert reopen(files).records() == []
                except VoteLogMissing:
                    assert make(files).records() == []
            else:
                assert step > 8
                return


# -- failing disks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, FailureKind.INPUT_OUTPUT),
        (errno.ENOSPC, FailureKind.DISK_FULL),
        (errno.EFBIG, FailureKind.DISK_FULL),
        (errno.EROFS, FailureKind.OTHER),
    ],
)
def test_any_failing_step_of_a_sync_poisons_the_log(number: int, kind: FailureKind) -> None:
    for step in (1, 2, 3):  # write the frame, sync it, write HEAD
        files = FaultyFiles()
        log = make(files, [b"safe"])
        log.append([b"unsure"])
        files.fail_at(files.operations + step, number)
        with pytest.raises(StoreFailed, match="stops voting") as failed:
            log.sync()
        assert failed.value.kind is kind
        for action in (lambda: log.append([b"more"]), log.sync, lambda: log.rotate([]), log.records):  # noqa: B023
            with pytest.raises(StoreFailed) as poisoned:
                action()
            assert poisoned.value.kind is FailureKind.POISONED
        log.close()
        assert reopen(files).records()[:1] == [b"safe"]


def test_what_a_failed_sync_left_in_memory_is_durable_once_the_log_is_open_again() -> None:
    files = FaultyFiles()
    log = make(files, [b"safe"])
    log.append([b"unsure"])
    files.fail_at(files.operations + 2, errno.EIO)
    with pytest.raises(StoreFailed):
        log.sync()
    kept = reopen(files).records()  # as the kernel shows it: both
    assert kept == [b"safe", b"unsure"]
    files.crash(Random(3))
    assert reopen(files).records() == kept


def test_a_full_disk_loses_nothing_that_was_synced() -> None:
    files = FaultyFiles()
    log = make(files, [b"safe"])
    files.capacity_bytes = files.used_bytes() + 100
    log.append([b"x" * 50])
    with pytest.raises(StoreFailed, match="Free space"):
        log.sync()
    files.capacity_bytes = None
    log = reopen(files)
    assert log.records() == [b"safe"]
    log.append([b"y"])
    log.sync()
    log.close()
    assert reopen(files).records() == [b"safe", b"y"]


def test_a_rotation_that_finds_the_disk_full_leaves_the_old_log() -> None:
    files = FaultyFiles()
    log = make(files, [b"safe"])
    files.capacity_bytes = files.used_bytes() + 100
    with pytest.raises(StoreFailed) as failed:
        log.rotate([b"live" * 100])
    assert failed.value.kind is FailureKind.DISK_FULL
    assert reopen(files).records() == [b"safe"]


def test_a_real_file_size_limit_is_reported_as_a_full_disk(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from store.errors import StoreFailed
from store.votelog import VoteLog
log = VoteLog.create(Path(sys.argv[1]), bytes(32), "alpha")
log.append([b"safe"]); log.sync()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
log.append([bytes(2000)])
try:
    log.sync()
except StoreFailed as failed:
    print(failed.kind.name)
"""
    done = run(script, tmp_path / "votes")
    assert done.stdout == "DISK_FULL\n", done.stderr
    log = VoteLog.open(tmp_path / "votes", bytes(32), OWNER)
    assert log.records() == [b"safe"]
    log.close()


# -- a real process that is killed --------------------------------------------------------------


def run(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=child_environment())


def child_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def test_everything_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    script = """
import sys
from hashlib import sha256
from pathlib import Path
from store.votelog import VoteLog
log = VoteLog.create(Path(sys.argv[1]), bytes(32), "alpha")
number = 0
while True:
    log.append([b"%d" % number, bytes(number % 700)])
    log.sync()
    if log.size_bytes > 60_000:
        log.rotate([b"%d" % number])
    sys.stdout.write("%d\\n" % number)
    sys.stdout.flush()
    number += 1
"""
    for rounds in (1, 40, 333):
        votes = tmp_path / f"votes-{rounds}"
        command = [sys.executable, "-c", script, str(votes)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment()) as child:
            assert child.stdout is not None
            acknowledged = -1
            while acknowledged < rounds:
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().split("\n")[:-1]
        acknowledged = int(rest[-1]) if rest else acknowledged
        log = VoteLog.open(votes, bytes(32), OWNER)
        numbers = [int(record) for record in log.records() if record and record.strip(b"\x00")]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert acknowledged <= numbers[-1] <= acknowledged + 1
        log.close()
