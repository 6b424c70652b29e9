"""A validator ends at any boundary between two effects, on real files, and never says a second, different thing.

The boundaries of one run are counted first; then the same run is made once for each of them. Afterwards everything that
the validator ever put on disk or on the wire is judged together (``Said``), and the network has to come to rest with
all envelopes final and equal roots everywhere.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ledger.types import Envelope
from node.turn import AlarmNotice
from simulator import cluster as simulator
from store.errors import FailureKind, StoreFailed
from tests.support.cluster import Cluster
from tests.support.disk_node import DiskNode, Faults
from tests.support.insurers import market_genesis
from tests.support.notices import assert_agreement, executed
from tests.unit.node.test_cluster import policy

pytestmark = pytest.mark.slow

VICTIM = market_genesis().validator_set().leader(2)  #: leads a view of the run
MINUTE_MS = 60_000


class Run:
    """One run of a cluster one of whose validators is on disk: an envelope, a restart if it ends, and then another."""

    def __init__(
        self,
        home: Path,
        *,
        power: bool = False,
        marked: bool = False,
        crash_at: int | None = None,
        fail_at: int | None = None,
        number: int = errno.EIO,
    ) -> None:
        def on_disk(cluster: simulator.Cluster, index: int) -> DiskNode:
            return DiskNode(cluster, index, home, power=power)

        self.cluster = Cluster(seed=1, liars={VICTIM: on_disk})  # type: ignore[dict-item]
        node = self.cluster.nodes[VICTIM]
        assert isinstance(node, DiskNode)
        node.faults.crash_at, node.faults.fail_at, node.faults.number = crash_at, fail_at, number
        self.node = node
        self.node.disk.marker = self.marked = marked
        self.ends: list[Exception | None] = []  #: of each end, the error of a store or None for a crash

    def go(self) -> None:
        """The whole run."""
        try:
            self._go()
        finally:
            self.node.dispose()

    def _go(self) -> None:
        cluster = self.cluster
        cluster.start()
        cluster.run(200)
        self._execute(policy(cluster, 1))
        cluster.run(500)
        self._restart_if_it_ended()
        if self.ends:
            self._execute(policy(cluster, 2))
            cluster.run(500)
        assert cluster.run(MINUTE_MS, lambda: len({each.validator.executed_height for each in cluster.nodes}) == 1)
        self._check()

    def _execute(self, envelope: Envelope) -> None:
        """Submitted to the validator on disk, again after each of its ends, until all have executed it."""
        node = self.node
        while not self._all_executed(envelope):
            self._restart_if_it_ended()
            node.submit(envelope)
            done = self.cluster.run(MINUTE_MS, lambda: node.ended or self._all_executed(envelope))
            assert done, node.faults.names[-5:]

    def _restart_if_it_ended(self) -> None:
        node = self.node
        while node.ended:
            self.ends.append(node.error)
            node.close()
            self.cluster.run(100)
            node.start()

    def _all_executed(self, envelope: Envelope) -> bool:
        height = executed(self.cluster.nodes[(VICTIM + 1) % 4], envelope)
        nodes = self.cluster.nodes
        return height is not None and all(
            not getattr(node, "ended", False) and node.validator.executed_height >= height for node in nodes
        )

    def _check(self) -> None:
        self.cluster.nodes[VICTIM].notices[:] = [
            notice
            for notice in self.node.notices
            if not (isinstance(notice, AlarmNotice) and notice.kind == "muted" and self.marked)
        ]
        assert_agreement(self.cluster)
        records = [node.state.height_record(self.node.validator.executed_height) for node in self.cluster.nodes]
        assert len({record.state_root for record in records if record is not None}) == 1
        assert None not in records


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """Where the homes lie: in memory where there is such a place. The order of the calls and the bytes matter here, and
    hundreds of runs would wait for thousands of syncs."""
    shared = Path("/dev/shm")  # noqa: S108 - a directory of its own is made in it
    with TemporaryDirectory(prefix="lossbook-", dir=shared if os.access(shared, os.W_OK) else None) as made:
        yield Path(made)


@pytest.fixture
def homes(memory: Path) -> Iterator[Path]:
    """Of one test."""
    with TemporaryDirectory(dir=memory) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def faultless(memory: Path) -> Faults:
    """The boundaries of a run without faults."""
    run = Run(memory / "faultless")
    run.go()
    assert not run.ends
    return run.node.faults


def test_the_run_has_every_kind_of_boundary(faultless: Faults) -> None:
    counted = Counter(faultless.names)
    assert faultless.boundaries > 100
    assert set(counted) >= {
        "blocks: write",
        "blocks: synced",
        "write 00000001.log",
        "sync 00000001.log",
        "write HEAD",
        "votes: synced",
        "state: write",
        "state: written",
        "send Proposal",
        "send Vote",
        "send Certificate",
        "send Batch",
        "send Ack",
    }


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
def test_ending_at_any_boundary_never_makes_a_validator_say_two_things(
    faultless: Faults, homes: Path, power: bool
) -> None:
    for number in range(1, faultless.boundaries + 1):
        run = Run(homes / f"{number}", power=power, crash_at=number)
        run.go()
        assert len(run.ends) == 1, (number, faultless.names[number - 1])


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["input/output error", "disk full"])
def test_any_store_operation_that_fails_ends_voting_and_nothing_of_the_turn_leaves(
    faultless: Faults, homes: Path, number: int
) -> None:
    """``Said`` checks at each message that what it needs was durable; the next start finds all that was."""
    kind = FailureKind.from_errno(number)
    assert len(faultless.may_fail) > 30
    for at in faultless.may_fail:
        run = Run(homes / f"{at}", fail_at=at, number=number)
        run.go()
        (failed,) = run.ends
        assert isinstance(failed, StoreFailed), faultless.names[at - 1]
        assert failed.kind is kind


def test_a_crash_while_the_backup_marker_goes_leaves_the_bound_in_the_log(homes: Path) -> None:
    """Whatever happens around it, a node restored from a backup is muted by the marker, by the log, or by both."""
    first = Run(homes / "first", marked=True)
    first.go()
    names = first.node.faults.names
    at = names.index("marker: remove") + 1
    for number in range(at - 6, at + 2):
        run = Run(homes / f"{number}", marked=True, crash_at=number)
        run.go()
        assert not run.node.disk.marker
        assert run.node.said.muted_until, f"at {names[number - 1]}"
