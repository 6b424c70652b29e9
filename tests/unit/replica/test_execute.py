"""The replica's own execution, its stores, and what a crash or a lie about roots leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from replica.errors import ReplicaStateError, RootMismatch
from store.errors import FailureKind, StoreFailed
from tests.support.chain import Chain, altered, altered_header
from tests.support.insurers import INSURERS, claim_notify, claim_path, make_genesis, policy_issue
from tests.support.replicas import ReplicaStores, execute


@pytest.fixture
def chain() -> Chain:
    """Four blocks: a policy; a paid claim; nothing; a policy, and one that is refused."""
    made = Chain()
    made.block([made.ledger.envelope([policy_issue()])])
    made.block([made.ledger.envelope([claim_notify(), *claim_path(70_000)])])
    made.block()
    made.block(
        [made.ledger.envelope([policy_issue(policy_id=b"policy-000000002")])], [made.ledger.envelope([policy_issue()])]
    )
    return made


@pytest.fixture
def stores(tmp_path: Path, chain: Chain) -> Iterator[ReplicaStores]:
    made = ReplicaStores(tmp_path, chain.genesis)
    yield made
    made.close()


def test_roots_are_those_of_the_validators_at_every_height(chain: Chain, stores: ReplicaStores) -> None:
    executor = stores.executor()
    execute(executor, chain, chain.blocks)
    for height in range(5):
        own, theirs = executor.roots(height), chain.ledger.state.height_record(height)
        assert own is not None
        assert theirs is not None
        assert (own.state_root, own.receipts_root) == (theirs.state_root, theirs.receipts_root)
    assert executor.roots(5) is None


def test_reports_by_height(chain: Chain, stores: ReplicaStores) -> None:
    executor = stores.executor()
    execute(executor, chain, chain.blocks)
    shown = {}
    for height in range(6):
        report = stores.index.report(height)
        shown[height] = [(row.policies, row.claims, row.paid_claims, row.paid_minor) for row in report.rows]
    assert shown == {
        0: [],
        1: [(1, 0, 0, 0)],
        2: [(1, 1, 1, 70_000)],
        3: [(1, 1, 1, 70_000)],
        4: [(2, 1, 1, 70_000)],
        5: [(2, 1, 1, 70_000)],
    }
    assert (executor.report.operations, executor.report.envelopes) == (8, 4)


def test_goes_on_after_a_restart(chain: Chain, stores: ReplicaStores) -> None:
    execute(stores.executor(), chain, chain.blocks[:3])
    stores.reopen()
    executor = stores.executor()
    assert executor.height == 3
    assert executor.tip == chain.blocks[2].header
    execute(executor, chain, chain.blocks[3:])
    assert executor.roots(4) == chain.ledger.state.height_record(4)
    assert executor.report.operations == 8


def test_a_crash_before_the_state_is_written_costs_nothing(
    chain: Chain, stores: ReplicaStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = stores.executor()
    execute(executor, chain, chain.blocks[:1])

    def full(*_: object, **__: object) -> None:
        raise StoreFailed(FailureKind.DISK_FULL, "write", Path("state"))

    with monkeypatch.context() as patched:
        patched.setattr(stores.state, "commit", full)
        with pytest.raises(StoreFailed):
            execute(executor, chain, chain.blocks[1:2])
    assert stores.index.latest().height == 2, "the index is written first"
    stores.reopen()
    executor = stores.executor()
    assert executor.height == 1
    assert executor.report.operations == 1
    execute(executor, chain, chain.blocks[1:])
    assert executor.roots(4) == chain.ledger.state.height_record(4)
    assert executor.report.operations == 8
    assert executor.report.rows[0].paid_minor == 70_000


def test_two_crashes_at_the_same_place_cost_nothing_either(chain: Chain, stores: ReplicaStores) -> None:
    execute(stores.executor(), chain, chain.blocks[:1])
    stores.index.write(stores.index.latest().__class__(2, 0, (), 9, 9, 9), ())
    for _ in range(2):
        stores.reopen()
        assert stores.executor().report.operations == 1


@pytest.mark.parametrize("root", ["state_root", "receipts_root"])
def test_a_certified_root_that_differs_is_the_divergence_alarm(chain: Chain, stores: ReplicaStores, root: str) -> None:
    block = altered_header(chain.blocks[1], **{root: b"x" * 32})
    block = altered(block, finalization=chain.finalization(block.header))
    executor = stores.executor()
    execute(executor, chain, chain.blocks[:1])
    with pytest.raises(RootMismatch) as caught:
        execute(executor, chain, [block])
    assert (caught.value.height, caught.value.state_height) == (2, 1)
    assert caught.value.what == root.replace("_", " ")
    assert caught.value.certified == b"x" * 32
    assert executor.height == 1
    assert stores.blocks.finalized_height() == 1


def test_an_index_that_lost_rows_is_refused(chain: Chain, stores: ReplicaStores) -> None:
    execute(stores.executor(), chain, chain.blocks)
    with pytest.raises(ReplicaStateError, match="replica resync"):
        stores.index.rewind(5, 0)


def test_a_block_store_that_lost_the_tip_is_refused(chain: Chain, stores: ReplicaStores, tmp_path: Path) -> None:
    execute(stores.executor(), chain, chain.blocks)
    stores.close()
    (tmp_path / "blocks").rename(tmp_path / "elsewhere")
    stores._open()
    with pytest.raises(ReplicaStateError, match="does not hold the block of the executed height 4"):
        stores.executor()


def test_a_state_of_another_genesis_is_refused(chain: Chain, stores: ReplicaStores) -> None:
    execute(stores.executor(), chain, chain.blocks)
    stores._genesis = make_genesis(INSURERS)
    with pytest.raises(ReplicaStateError, match="began with another genesis"):
        stores.executor()


def test_receipts_are_found_by_envelope_id_and_the_first_one_stands(chain: Chain, stores: ReplicaStores) -> None:
    again = chain.blocks[1].batches[0].envelopes[0]
    from ledger.wire import decode_envelope

    envelope = decode_envelope(again)
    chain.block([envelope])
    executor = stores.executor()
    execute(executor, chain, chain.blocks)
    position = stores.index.position(envelope.id)
    assert position == 1
    assert stores.index.position(bytes(32)) is None


def test_stored_blocks_are_served_as_they_came(chain: Chain, stores: ReplicaStores) -> None:
    executor = stores.executor()
    execute(executor, chain, chain.blocks)
    stored = executor.chain.block(4)
    assert stored is not None
    assert list(stored.batches) == [batch.raw for batch in chain.blocks[3].batches]
    assert executor.chain.header(4) == chain.blocks[3].header
    assert executor.chain.block(5) is None
