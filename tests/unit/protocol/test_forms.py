"""The stranger's reader of protobuf and the product's accept the same bytes: in canonical form, and in any form."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from ledger import operations as ops
from ledger import wire
from ledger.wellformed import structure
from ledger.wire.checks import parse_canonical
from lossbook.v1 import block_pb2, receipt_pb2
from tests.unit.protocol import stranger
from tests.unit.protocol.liars import known, made
from tests.unit.protocol.stranger import Refused

BLOCK = made().blocks[1]
MESSAGES: dict[str, tuple[Any, stranger.Schema, bytes]] = {
    "header": (block_pb2.Header, stranger.HEADER, BLOCK.header.raw),
    "batch header": (block_pb2.BatchHeader, stranger.BATCH_HEADER, BLOCK.batches[0].header.raw),
    "payload": (block_pb2.Payload, stranger.PAYLOAD, BLOCK.payload.raw),
    "receipt": (receipt_pb2.Receipt, stranger.RECEIPT, made().state.receipt_blob(2)),
    "certificate": (
        block_pb2.Certificate,
        stranger.CERTIFICATE,
        wire.certificate_bytes(BLOCK.justification.nullifications[0]),
    ),
}
ENVELOPE = made().envelopes[0].raw
PROPOSAL = next(e for e in made().envelopes if isinstance(e.operations[0], ops.GovernancePropose))
CURRENCY = ENVELOPE.index(b"EUR")


def changed(raw: bytes) -> st.SearchStrategy[bytes]:
    """One byte another, a few bytes more or less, a part moved; mostly near the start, where keys and lengths are."""
    at = st.integers(0, len(raw) - 1) | st.integers(0, min(60, len(raw) - 1))
    few = st.binary(min_size=1, max_size=6) | st.sampled_from(
        (b"\x00", b"\x80\x00", b"\xf8\x07\x01", b"\x7b\x7c", b"\x79" + bytes(8), b"\x7d" + bytes(4), b"\x08\x00")
    )
    return st.one_of(
        st.tuples(at, st.integers(1, 255)).map(lambda p: raw[: p[0]] + bytes((raw[p[0]] ^ p[1],)) + raw[p[0] + 1 :]),
        st.tuples(at, few).map(lambda p: raw[: p[0]] + p[1] + raw[p[0] :]),
        few.map(lambda tail: raw + tail),
        st.tuples(at, st.integers(1, 40)).map(lambda p: raw[: p[0]] + raw[p[0] + p[1] :]),
        at.map(lambda cut: raw[cut:] + raw[:cut]),
    )


def product_reads(kind: Any, raw: bytes) -> bool:
    try:
        parse_canonical(kind, raw)
    except wire.WireError:
        return False
    return True


def stranger_reads(schema: stranger.Schema, raw: bytes) -> bool:
    try:
        stranger.read(raw, schema)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("what", MESSAGES)
@hypothesis.given(data=st.data())
def test_canonical_form(what: str, data: st.DataObject) -> None:
    kind, schema, raw = MESSAGES[what]
    assert product_reads(kind, raw)
    assert stranger_reads(schema, raw)
    other = data.draw(changed(raw))
    assert product_reads(kind, other) == stranger_reads(schema, other)


def product_takes(raw: bytes) -> bool:
    try:
        return not structure(wire.decode_envelope(raw), made().genesis.chain_id)
    except wire.WireError:
        return False


def stranger_takes(raw: bytes) -> bool:
    try:
        stranger.read_envelope(raw, known())
    except Refused:
        return False
    return True


def with_body(body: bytes) -> bytes:
    return wire.encode_envelope(body, made().envelopes[0].signatures)


@hypothesis.given(
    changed(ENVELOPE) | changed(made().envelopes[0].body).map(with_body) | changed(PROPOSAL.body).map(with_body)
)
def test_any_form_of_an_envelope(raw: bytes) -> None:
    assert product_takes(raw) == stranger_takes(raw)


@pytest.mark.parametrize(
    ("raw", "good"),
    [
        (ENVELOPE, True),
        (ENVELOPE + b"\x7b\x08\x01\x7c", True),
        (ENVELOPE + b"\x7b" * 100 + b"\x7c" * 100, True),
        (ENVELOPE + b"\x7b" * 101 + b"\x7c" * 101, False),
        (ENVELOPE + b"\x7b\x74", False),
        (ENVELOPE + b"\x7c", False),
        (ENVELOPE + b"\x7e", False),
        (ENVELOPE[:CURRENCY] + b"\xff" + ENVELOPE[CURRENCY + 1 :], False),
        (with_body(made().envelopes[0].body + b"\x3a\x01\x0a"), False),
        (with_body(made().envelopes[0].body + b"\x3a\x00"), True),
        (with_body(made().envelopes[0].body + b"\x3a\x04\x9a\x06\x01\xff"), True),
    ],
    ids=[
        "as it is",
        "a group",
        "100 groups in each other",
        "101 groups in each other",
        "a group that ends as another",
        "the end of no group",
        "wire type 6",
        "a currency that is no text",
        "an operation that is cut off",
        "an operation of no kind",
        "an operation of a later version",
    ],
)
def test_forms_of_an_envelope(raw: bytes, good: bool) -> None:
    assert (product_takes(raw), stranger_takes(raw)) == (good, good)
