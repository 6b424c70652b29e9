import msgspec
import pytest

from ledger.commitment import ProofError
from ledger.ports import CorruptStore
from ledger.receipts_range import GROUP, ReceiptsRange, verify

COUNT = 2 * GROUP + 5
RECEIPTS = [b"receipt %d" % number for number in range(COUNT)]


@pytest.fixture(scope="module")
def grown() -> ReceiptsRange:
    grown = ReceiptsRange(lambda start, stop: iter(RECEIPTS[start:stop]))
    assert grown.extend(RECEIPTS[:GROUP]) == [(0, grown._groups.node(0, 0))]
    assert [group for group, _ in grown.extend(RECEIPTS[GROUP:])] == [1]
    return grown


@pytest.mark.parametrize("position", [0, 1, GROUP - 1, GROUP, 2 * GROUP, COUNT - 1])
def test_every_receipt_proves_under_every_later_count(grown: ReceiptsRange, position: int) -> None:
    for count in {position + 1, GROUP, GROUP + 1, COUNT}:
        if position < count:
            verify(RECEIPTS[position], grown.prove(position, count), grown.root(count))


def test_the_root_at_an_earlier_count_is_the_root_it_had_then(grown: ReceiptsRange) -> None:
    again = ReceiptsRange(lambda start, stop: iter(RECEIPTS[start:stop]))
    for count in (0, 1, 3, GROUP, GROUP + 7):
        again.extend(RECEIPTS[again.count : count])
        assert again.root() == grown.root(count)


def test_loading_gives_the_same_range(grown: ReceiptsRange) -> None:
    loaded = ReceiptsRange(lambda start, stop: iter(RECEIPTS[start:stop]))
    loaded.load([grown._groups.node(0, 0), grown._groups.node(0, 1)], RECEIPTS[2 * GROUP :])
    assert loaded.root() == grown.root()
    verify(RECEIPTS[17], loaded.prove(17, COUNT), grown.root())


def test_invalid_proofs(grown: ReceiptsRange) -> None:
    proof, root = grown.prove(5, COUNT), grown.root()
    replace = msgspec.structs.replace
    for bad, reason in [
        (replace(proof, position=4), "another root"),
        (replace(proof, position=COUNT), "outside the range"),
        (replace(proof, position=-1), "outside the range"),
        (replace(proof, count=COUNT + 1), "another root"),
        (replace(proof, path=proof.path[1:]), "wrong length"),
        (replace(proof, path=(b"", *proof.path[1:])), "wrong length"),
    ]:
        with pytest.raises(ProofError, match=reason):
            verify(RECEIPTS[5], bad, root)
    with pytest.raises(ProofError, match="another root"):
        verify(RECEIPTS[6], proof, root)


def test_invalid_positions(grown: ReceiptsRange) -> None:
    for position, count in [(COUNT, COUNT), (3, 3), (0, COUNT + 1), (-1, 3)]:
        with pytest.raises(IndexError):
            grown.prove(position, count)


def test_altered_receipts_on_disk_are_noticed_before_a_proof_is_made(grown: ReceiptsRange) -> None:
    loaded = ReceiptsRange(lambda start, stop: iter([b"altered", *RECEIPTS[start + 1 : stop]]))
    loaded.load([grown._groups.node(0, 0)], [])
    with pytest.raises(CorruptStore, match="group 0"):
        loaded.prove(3, GROUP)
