"""A running node's keys: made as soon as the state asks for them, destroyed when their epoch is over, never fatal."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from crypto import keyfile
from crypto.keyfile import KdfCost, KeyFileError
from ledger import operations as ops
from ledger.epochs import EPOCHS, MEMBERSHIP, EpochRecord, Seat, approved_change, current_epoch, membership
from ledger.registrations import register
from node.key_keeper import RETRY_S, Due, KeyKeeper, due
from node.keys import KeyFiles
from services.tasks import Tasks
from tests.support.insurers import FIRST, SUPERVISOR, Ledger, key_of
from tests.support.voting import NEWCOMER, Assembly, seat_card

CHEAP = KdfCost(operations=1, memory_bytes=8 << 10)
CARD = key_of(FIRST.id, "consensus")


@pytest.fixture
def keys(tmp_path: Path) -> KeyFiles:
    keyfile.save(tmp_path / "consensus.key", CARD, "consensus", "words", cost=CHEAP)
    return KeyFiles(tmp_path, "words", CHEAP)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def begin(ledger: Ledger, epoch: int, keys: dict[str, bytes]) -> int:
    """Let an epoch begin in which the same organisations sit with these keys; its first height."""
    _, before = current_epoch(ledger.state)
    seats = tuple(Seat(seat.organisation, keys.get(seat.organisation, b"")) for seat in before.members)
    first = ledger.state.height + 2
    ledger.state.put(EPOCHS, epoch.to_bytes(8, "big"), EpochRecord(seats, 0, first, 0))
    standing = membership(ledger.state)
    ledger.state.put(MEMBERSHIP, b"", type(standing)(epoch, suspended=standing.suspended))
    return first


# -- what is due ------------------------------------------------------------------------------------


def test_a_validator_is_to_have_a_key_of_the_next_epoch_at_once(keys: KeyFiles) -> None:
    state = Ledger().state
    assert due(state, state.height, FIRST.id, keys) == Due(make=1)
    keys.key_for(1)
    assert due(state, state.height, FIRST.id, keys) == Due()


def test_who_has_no_seat_and_comes_into_none_needs_no_key(keys: KeyFiles) -> None:
    state = Ledger().state
    assert due(state, state.height, SUPERVISOR.id, keys) == Due()
    assert due(state, state.height, NEWCOMER.id, keys) == Due()


def test_a_newcomer_uses_the_key_on_its_card_first(tmp_path: Path) -> None:
    market = Assembly()
    market.pass_("join", ops.SetChange(add=(seat_card(NEWCOMER),)))
    state = market.ledger.state
    assert NEWCOMER.consensus_key is not None
    keyfile.save(tmp_path / "consensus.key", NEWCOMER.consensus_key, "consensus", None, unsafe_plaintext=True)
    assert due(state, state.height, NEWCOMER.id, KeyFiles(tmp_path, None)) == Due()
    (tmp_path / "consensus.key").unlink()
    keyfile.save(tmp_path / "ledger.key", NEWCOMER.ledger_key, "ledger", None, unsafe_plaintext=True)
    without = KeyFiles(tmp_path, None)
    assert due(state, state.height, NEWCOMER.id, without) == Due(make=1), "lost: an admin registers another"


def test_who_is_suspended_has_a_key_ready_for_its_admin_to_register(keys: KeyFiles) -> None:
    market = Assembly()
    market.change_set("suspend", ops.SetChange(suspend=(FIRST.id,)))
    state = market.ledger.state
    assert due(state, state.height, FIRST.id, keys).make == 2


def test_no_key_is_made_that_could_not_be_registered_any_more(keys: KeyFiles) -> None:
    market = Assembly()
    market.register_keys()
    market.pass_("renewal", ops.SetChange())
    market.ready(*market.seats)
    state = market.ledger.state
    assert approved_change(state) is not None
    assert due(state, state.height, FIRST.id, keys).make is None


def test_keys_older_than_the_epoch_before_go_also_while_that_one_must_stay(keys: KeyFiles) -> None:
    """A node that slept over two hand-overs."""
    ledger = Ledger()
    register(ledger.state, FIRST.id, 1, keys.key_for(1).public, 1)
    begin(ledger, 1, {})
    first = begin(ledger, 2, {})
    found = due(ledger.state, first - 1, FIRST.id, keys)
    assert [path.name for path in keys.over(found.over, found.used)] == ["consensus.key"]


def test_keys_of_the_epoch_before_stay_until_the_first_block_of_the_next_is_executed(keys: KeyFiles) -> None:
    ledger = Ledger()
    register(ledger.state, FIRST.id, 1, keys.key_for(1).public, 1)
    first = begin(ledger, 1, {FIRST.id: keys.key_for(1).public})
    early = due(ledger.state, first - 1, FIRST.id, keys)
    assert not keys.over(early.over, early.used)
    late = due(ledger.state, first, FIRST.id, keys)
    assert late == Due(make=2, over=1, used=frozenset({CARD.public}))
    assert [path.name for path in keys.over(late.over, late.used)] == ["consensus.key"]


def test_a_card_key_of_a_later_epoch_is_not_mistaken_for_one_that_is_over(keys: KeyFiles) -> None:
    """A newcomer's ``consensus.key`` is that of the epoch it joined in."""
    ledger = Ledger()
    first = begin(ledger, 1, {})
    register(ledger.state, FIRST.id, 3, keys.key_for(3).public, 1)
    late = due(ledger.state, first, FIRST.id, keys)
    assert keys.key_for(3).public not in late.used


# -- the keeper --------------------------------------------------------------------------------------


class Kept:
    """A keeper with a clock of the test's own."""

    def __init__(self, keys: KeyFiles, ledger: Ledger | None = None) -> None:
        self.ledger = ledger or Ledger()
        self.tasks = Tasks()
        self.made = 0
        self.clock_s = 100.0
        self.keeper = KeyKeeper(
            organisation=FIRST.id,
            keys=keys,
            state=self.ledger.state,
            tasks=self.tasks,
            on_made=self._on_made,
            clock_s=lambda: self.clock_s,
        )

    def _on_made(self) -> None:
        self.made += 1

    async def settled(self) -> None:
        """Look, and let what begins end."""
        self.keeper.settle()
        await asyncio.gather(*self.tasks._running)
        await asyncio.sleep(0)  # what is to be done at a task's end is done


def test_the_next_key_is_made_once_and_the_validator_is_told(keys: KeyFiles, tmp_path: Path) -> None:
    async def main() -> None:
        kept = Kept(keys)
        await kept.settled()
        await kept.settled()
        assert kept.made == 1
        assert keys.made_for(1) is not None

    asyncio.run(main())
    assert names(tmp_path) == ["consensus-1.key", "consensus.key"]


def test_when_an_epoch_is_over_its_key_goes_and_the_next_but_one_is_made(keys: KeyFiles, tmp_path: Path) -> None:
    async def main() -> None:
        ledger = Ledger()
        kept = Kept(keys, ledger)
        await kept.settled()
        register(ledger.state, FIRST.id, 1, keys.key_for(1).public, 1)
        first = begin(ledger, 1, {FIRST.id: keys.key_for(1).public})
        while ledger.state.height < first:
            ledger.state.commit(ledger.state.height + 1, 0, ())
            await kept.settled()

    asyncio.run(main())
    assert names(tmp_path) == ["consensus-1.key", "consensus-2.key"]


def test_a_full_disk_is_a_reason_and_is_tried_again(
    keys: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise KeyFileError(path, f"cannot be written: {errno.errorcode[errno.ENOSPC]}")

    async def main() -> None:
        kept = Kept(keys)
        with monkeypatch.context() as patched:
            patched.setattr(keyfile, "save", full)
            await kept.settled()
            assert "ENOSPC" in kept.keeper.problem
            assert kept.made == 0
        await kept.settled()
        assert kept.made == 0, "not before its time"
        kept.clock_s += RETRY_S
        await kept.settled()
        assert (kept.made, kept.keeper.problem) == (1, "")

    asyncio.run(main())
    assert names(tmp_path) == ["consensus-1.key", "consensus.key"]


def test_a_key_that_cannot_be_destroyed_is_tried_again(
    keys: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def main() -> None:
        ledger = Ledger()
        begin(ledger, 1, {})
        for height in (1, 2, 3):
            ledger.state.commit(ledger.state.height + 1, height, ())
        kept = Kept(keys, ledger)
        with monkeypatch.context() as patched:
            patched.setattr(keyfile, "destroy", fails)
            await kept.settled()
        assert "Input/output" in kept.keeper.problem
        assert keys.has(CARD.public)
        kept.clock_s += RETRY_S
        await kept.settled()
        assert kept.keeper.problem == ""

    asyncio.run(main())
    assert names(tmp_path) == ["consensus-2.key"]
