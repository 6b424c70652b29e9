"""Whatever the disk does, the vote log never gets shorter in silence."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import StoreFailed, VoteLogDamaged
from store.faulty_files import FaultyFiles, SimulatedCrash
from store.votelog import VoteLog

pytestmark = pytest.mark.property

CHAIN = bytes(range(32))
VOTES = Path("/home/votes")
TURNS = [[b"first vote"], [b"second", b"with a certificate" * 9], [], [b""], [b"last vote"]]


def create(files: FaultyFiles) -> VoteLog:
    return VoteLog.create(VOTES, CHAIN, "alpha", files)


def reopen(files: FaultyFiles) -> VoteLog:
    return VoteLog.open(VOTES, CHAIN, "alpha", files)


def written(*, rotated: bool) -> tuple[FaultyFiles, list[bytes]]:
    files = FaultyFiles()
    log = create(files)
    for number, turn in enumerate(TURNS):
        log.append(turn)
        log.sync()
        if rotated and number == 1:
            log.rotate([b"live", b"records"])
    records = log.records()
    log.close()
    return files, records


@pytest.mark.parametrize("rotated", [False, True])
def test_a_flip_of_any_byte_of_the_segment_is_found(rotated: bool) -> None:
    files, records = written(rotated=rotated)
    path = VOTES / ("00000002.log" if rotated else "00000001.log")
    assert reopen(files).records() == records
    for offset in range(len(files.read(path))):
        for mask in (0x01, 0x80, 0xFF):
            files.flip(path, offset, mask)
            with pytest.raises(VoteLogDamaged):
                reopen(files)
            files.flip(path, offset, mask)
    assert reopen(files).records() == records


def test_a_flip_of_any_byte_of_head_costs_no_record() -> None:
    files, records = written(rotated=True)
    path = VOTES / "HEAD"
    for offset in range(len(files.read(path))):
        before = files.read(path)
        files.flip(path, offset, 0x10)
        assert reopen(files).records() == records
        opened = files.open(path)
        opened.write_at(0, before)
        opened.datasync()


@given(data=st.data())
@settings(max_examples=200)
def test_damage_of_any_stretch_is_found(data: st.DataObject) -> None:
    """Several bytes at once, zeros included; only the torn bytes of an unsynced turn may go."""
    files, records = written(rotated=data.draw(st.booleans()))
    path = VOTES / next(name for name in files.names(VOTES) if name.endswith(".log"))
    before = files.read(path)
    start = data.draw(st.integers(0, len(before) - 1))
    stretch = data.draw(st.binary(min_size=1, max_size=600) | st.integers(1, 600).map(bytes))
    opened = files.open(path)
    opened.write_at(start, stretch[: len(before) - start])
    opened.datasync()
    if files.read(path) == before:
        assert reopen(files).records() == records
    else:
        with pytest.raises(VoteLogDamaged):
            reopen(files)


@given(data=st.data())
@settings(max_examples=200)
def test_a_cut_anywhere_is_found(data: st.DataObject) -> None:
    files, _ = written(rotated=data.draw(st.booleans()))
    path = VOTES / next(name for name in files.names(VOTES) if name.endswith(".log"))
    opened = files.open(path)
    opened.truncate(data.draw(st.integers(0, len(files.read(path)) - 1)))
    opened.datasync()
    with pytest.raises(VoteLogDamaged):
        reopen(files)


STEP = st.one_of(
    st.tuples(st.just("turn"), st.lists(st.binary(max_size=1500), max_size=4)),
    st.tuples(st.just("rotate"), st.integers(0, 5)),
    st.tuples(st.just("reopen"), st.none()),
)


@given(
    steps=st.lists(STEP, max_size=25),
    faults=st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["crash", "EIO", "ENOSPC"])), max_size=6),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_what_was_synced_survives_any_sequence_of_crashes_and_errors(
    steps: list[tuple[str, object]], faults: list[tuple[int, str]], seed: int
) -> None:
    """The model: ``synced`` must be there after any fault; ``unsure`` (its sync never returned) may be."""
    files, random = FaultyFiles(), Random(seed)
    log = create(files)
    synced: list[bytes] = []
    pending_faults = list(faults)

    def plant() -> None:
        if pending_faults:
            distance, kind = pending_faults.pop()
            if kind == "crash":
                files.crash_at(files.operations + distance)
            else:
                files.fail_at(files.operations + distance, {"EIO": 5, "ENOSPC": 28}[kind])

    def recover(candidates: list[list[bytes]]) -> None:
        nonlocal log, synced
        files.crash(random)
        log = reopen(files)
        assert log.records() in candidates
        synced = log.records()
        plant()

    plant()
    for name, argument in steps:
        after = list(synced)
        try:
            if name == "turn":
                assert isinstance(argument, list)
                after = synced + argument
                log.append(argument)
                log.sync()
            elif name == "rotate":
                assert isinstance(argument, int)
                after = synced[-argument:] if argument else []
                log.rotate(after)
            else:
                log.close()
                log = reopen(files)
                assert log.records() == synced
        except (SimulatedCrash, StoreFailed):
            recover([synced, after])
        else:
            synced = after
    recover([synced])


@given(records=st.lists(st.binary(max_size=300), max_size=20), cut=st.integers(1, 2000))
@settings(max_examples=100)
def test_an_unsynced_turn_may_go_as_a_whole_only(records: list[bytes], cut: int) -> None:
    files = FaultyFiles()
    log = create(files)
    log.append([b"before"])
    log.sync()
    log.append(records)
    files.crash_at(files.operations + 2)  # written, not synced
    try:
        log.sync()
    except SimulatedCrash:
        files.crash(Random(cut))
        assert reopen(files).records() in ([b"before"], [b"before", *records])
    else:
        assert not records
