"""How old evidence is, by marks in the state, and when it is too old."""

from __future__ import annotations

import pytest

from ledger import evidence, statements
from ledger.evidence import EVIDENCE
from ledger.execution import ExecutableBlock
from ledger.statement_types import Moment
from ledger.types import Statement
from ledger.view_marks import MARK_EVERY_MS, VIEW_MARKS
from tests.support.evidence import statement
from tests.support.insurers import Ledger

HOUR = MARK_EVERY_MS


@pytest.fixture(autouse=True)
def _few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten hours and five blocks instead of a fortnight and a hundred thousand."""
    monkeypatch.setattr(evidence, "MAX_AGE_MS", 10 * HOUR)
    monkeypatch.setattr(evidence, "MAX_AGE_BLOCKS", 5)


class Blocks(Ledger):
    """Blocks at chosen times; the view of each is ten times its height, so that views are skipped."""

    def at(self, hours: float, *listed: Statement) -> bytes:
        """One block so many hours after the hour in which the genesis was made; its state root."""
        first = self.genesis.time_ms // HOUR * HOUR
        self.time_ms = first + int(hours * HOUR)
        height = self.state.height + 1
        block = ExecutableBlock(height, self.time_ms, bytes(32), (), statements=listed, view=10 * height)
        result = self.execution.run(block)
        self.store.commit(result.writes)
        return result.state_root

    def is_due(self, view: int) -> bool:
        moment = Moment(self.state.height, self.time_ms, 0, 10 * self.state.height)
        return statements.is_due(statement(1, view), self.state, moment)

    def marks(self) -> list[int]:
        """Heights of the marks."""
        return [mark.height for _, mark in self.state.iterate(VIEW_MARKS)]

    def recorded(self) -> list[int]:
        """Views of the records."""
        return [record.view for _, record in self.state.iterate(EVIDENCE)]


def test_the_first_block_of_an_hour_leaves_a_mark_and_the_others_write_nothing() -> None:
    ledger = Blocks()
    roots = [ledger.at(hours) for hours in (1.0, 1.1, 1.9, 2.0, 2.5, 7.3)]
    assert ledger.marks() == [1, 4, 6]
    assert roots[0] == roots[1] == roots[2]
    assert roots[3] == roots[4]
    assert len(set(roots)) == 3


def test_evidence_expires_once_it_is_too_old_and_too_many_blocks_have_come() -> None:
    ledger = Blocks()
    ledger.at(1)
    for hours in (2, 3, 4, 5, 6, 7, 10.9, 11):
        ledger.at(hours)
        assert ledger.is_due(view=10), f"too old only after hour 11, not at {hours}"
    ledger.at(11.1)
    assert not ledger.is_due(view=10)
    assert ledger.is_due(view=11)
    ledger.at(11.2, statement(1, view=10), statement(1, view=20))
    assert ledger.recorded() == [20]


def test_a_network_that_stood_still_takes_evidence_of_its_last_blocks() -> None:
    ledger = Blocks()
    ledger.at(1)
    ledger.at(1_000)
    assert ledger.is_due(view=10)
    for more in range(1, 6):
        ledger.at(1_000 + more)
    assert not ledger.is_due(view=10)


def test_the_age_of_a_view_that_was_skipped_is_that_of_the_next_mark() -> None:
    ledger = Blocks()
    ledger.at(1)
    for hours in (6, 7, 8, 9, 10, 11, 11.1):
        ledger.at(hours)
    assert not ledger.is_due(view=9)
    assert not ledger.is_due(view=10)
    assert ledger.is_due(view=11), "somewhere between the block of hour 1 and that of hour 6"


def test_what_no_mark_follows_is_young() -> None:
    ledger = Blocks()
    for hours in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6):
        ledger.at(hours)
    assert ledger.is_due(view=65)
    assert ledger.is_due(view=10_000), "not even the view has come"


def test_marks_are_forgotten_but_for_the_youngest_expired_one_that_tells_what_is_too_old() -> None:
    ledger = Blocks()
    for hours in range(1, 40):
        ledger.at(hours)
        assert len(ledger.marks()) <= 12
    assert ledger.marks() == list(range(28, 40))
    assert not ledger.is_due(view=1)
    assert not ledger.is_due(view=280)
    assert ledger.is_due(view=281)


def test_a_view_that_never_came_is_as_old_as_the_epoch_after_its_own() -> None:
    """A thief who kept the key of an epoch that is over may sign any view of it, however high."""
    ledger = Blocks()
    ledger.at(1)
    state, first = ledger.state, ledger.genesis.time_ms // HOUR * HOUR
    for number in range(12):
        moment = Moment(2 + number, first + (2 + number) * HOUR, 1, 1 + number)
        evidence.end_block(state, moment, moment.time_ms - HOUR)
        due = statements.is_due(statement(1, 10**12), state, moment)
        assert due == (number <= 10), "epoch 1 began with block 2, at hour 2"
