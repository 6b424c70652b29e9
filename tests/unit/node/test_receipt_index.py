"""Receipts are found by the envelope's id, for ever, whatever a crash did to the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ledger.codes import Code
from ledger.types import Receipt
from ledger.wire import encode_receipt
from node.receipt_index import CATCH_UP_ROWS, ReceiptIndex

CHAIN = b"c" * 32
ALPHA, BETA = b"a" * 32, b"b" * 32


def receipt(position: int, envelope_id: bytes, code: int = Code.OK) -> Receipt:
    return encode_receipt(
        envelope_id=envelope_id,
        height=position + 1,
        index=0,
        position=position,
        block_time_ms=0,
        code=code,
        operation_codes=(),
    )


def many(count: int) -> list[Receipt]:
    return [receipt(at, at.to_bytes(32, "big")) for at in range(count)]


class State:
    """The receipts of a state."""

    def __init__(self, receipts: Sequence[Receipt]) -> None:
        self.receipts = receipts

    def blobs(self, start: int, stop: int) -> Iterator[bytes]:
        return (each.raw for each in self.receipts[start:stop])


def test_a_receipt_is_found_after_a_restart(tmp_path: Path) -> None:
    index = ReceiptIndex(tmp_path, CHAIN)
    index.add([receipt(0, ALPHA), receipt(1, BETA)])
    assert (index.position(ALPHA), index.position(BETA), index.position(bytes(32))) == (0, 1, None)
    index.close()
    index = ReceiptIndex(tmp_path, CHAIN)
    assert index.position(BETA) == 1
    index.close()


@pytest.mark.parametrize("again", [Code.REPLAYED, Code.EXPIRED, Code.NOT_AFTER_TOO_FAR])
def test_an_envelope_listed_again_keeps_its_first_receipt(tmp_path: Path, again: Code) -> None:
    index = ReceiptIndex(tmp_path, CHAIN)
    index.add([receipt(0, ALPHA), receipt(1, ALPHA, again)])
    index.add([receipt(2, ALPHA, again)])
    assert index.position(ALPHA) == 0
    index.close()


def test_an_envelope_refused_as_untimely_and_executed_later_is_the_executed_one(tmp_path: Path) -> None:
    index = ReceiptIndex(tmp_path, CHAIN)
    index.add([receipt(0, ALPHA, Code.NOT_AFTER_TOO_FAR)])
    assert index.position(ALPHA) == 0
    index.add([receipt(1, ALPHA)])
    assert index.position(ALPHA) == 1
    index.close()


def test_an_index_that_is_behind_catches_up(tmp_path: Path) -> None:
    receipts = many(CATCH_UP_ROWS + 10)
    state = State(receipts)
    index = ReceiptIndex(tmp_path, CHAIN)
    index.add(receipts[:5])
    assert index.catch_up(len(receipts), state.blobs) == len(receipts) - 5
    assert index.catch_up(len(receipts), state.blobs) == 0
    assert all(index.position(each.envelope_id) == each.position for each in receipts)
    index.close()


def test_an_index_ahead_of_a_state_that_lost_its_end_forgets_that_end(tmp_path: Path) -> None:
    receipts = many(10)
    index = ReceiptIndex(tmp_path, CHAIN)
    index.add(receipts)
    index.catch_up(7, State(receipts[:7]).blobs)
    assert index.position(receipts[6].envelope_id) == 6
    assert index.position(receipts[7].envelope_id) is None
    index.add(receipts[7:])  # executed again, the same as before
    assert index.position(receipts[9].envelope_id) == 9
    index.close()


def test_receipts_that_are_indexed_are_passed_over(tmp_path: Path) -> None:
    index = ReceiptIndex(tmp_path, CHAIN)
    index.add([receipt(0, ALPHA)])
    index.add([receipt(0, ALPHA), receipt(1, BETA)])
    assert index.position(BETA) == 1
    index.close()


def test_a_damaged_index_or_one_of_another_network_is_made_anew(tmp_path: Path) -> None:
    index = ReceiptIndex(tmp_path / "index", CHAIN)
    index.add([receipt(0, ALPHA)])
    index.close()
    other = ReceiptIndex(tmp_path / "index", b"d" * 32)
    assert other.position(ALPHA) is None
    assert other.catch_up(1, State([receipt(0, ALPHA)]).blobs) == 1
    other.close()
    (tmp_path / "index" / "CURRENT").write_bytes(b"nonsense\n")
    index = ReceiptIndex(tmp_path / "index", CHAIN)
    assert index.position(ALPHA) is None
    index.close()
