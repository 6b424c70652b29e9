"""Receipts."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.types import Receipt
from ledger.wire.checks import DIGEST, exact, parse_canonical
from lossbook.v1 import receipt_pb2


def encode_receipt(
    *,
    envelope_id: bytes,
    height: int,
    index: int,
    position: int,
    block_time_ms: int,
    code: int,
    operation_codes: Sequence[int],
    original_position_plus_1: int = 0,
) -> Receipt:
    """Make a receipt and its exact bytes (a leaf of the receipts range)."""
    raw = receipt_pb2.Receipt(
        envelope_id=envelope_id,
        height=height,
        index=index,
        position=position,
        block_time_ms=block_time_ms,
        code=code,
        operation_codes=operation_codes,
        original_position_plus_1=original_position_plus_1,
    ).SerializeToString(deterministic=True)
    return Receipt(
        envelope_id,
        height,
        index,
        position,
        block_time_ms,
        code,
        tuple(operation_codes),
        original_position_plus_1,
        raw,
    )


def decode_receipt(raw: bytes) -> Receipt:
    """Read a receipt.

    Raises:
        WireError: does not parse, is not in canonical form, or an id of wrong length.
    """
    m = parse_canonical(receipt_pb2.Receipt, raw)
    return Receipt(
        exact("Receipt", "envelope_id", m.envelope_id, DIGEST),
        m.height,
        m.index,
        m.position,
        m.block_time_ms,
        m.code,
        tuple(m.operation_codes),
        m.original_position_plus_1,
        raw,
    )
