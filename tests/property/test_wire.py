"""Whatever bytes come, a decoder gives a value or a WireError."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import wire
from ledger.operations import ClaimNotify
from lossbook.v1 import block_pb2

DECODERS: dict[str, Callable[[bytes], object]] = {
    "envelope": wire.decode_envelope,
    "batch": wire.decode_batch,
    "batch header": wire.decode_batch_header,
    "payload": wire.decode_payload,
    "header": wire.decode_header,
    "justification": wire.decode_justification,
    "proposal": wire.decode_stored_proposal,
    "certificate": wire.read_certificate,
    "statement": wire.decode_statement,
    "receipt": wire.decode_receipt,
    "record": wire.decode_record,
    "block": lambda raw: wire.decode_block(wire.parse(block_pb2.Block, raw)),
}

ENVELOPE = wire.encode_envelope(
    wire.encode_envelope_body(
        chain_id=bytes(32),
        organisation="insurer-1",
        signer_keys=[bytes(32)],
        not_after_ms=1,
        salt=bytes(16),
        operations=[ClaimNotify(bytes(16), bytes(16), 1, 2)],
    ),
    [bytes(64)],
)


@pytest.mark.parametrize("name", DECODERS)
@given(raw=st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(name: str, raw: bytes) -> None:
    value: object
    try:
        value = DECODERS[name](raw)
    except wire.WireError as error:
        value = error.what and error.problem
    assert value


@given(at=st.integers(0, len(ENVELOPE) - 1), byte=st.integers(0, 255))
def test_an_envelope_with_any_byte_changed_is_refused_or_differs(at: int, byte: int) -> None:
    changed = ENVELOPE[:at] + bytes([byte]) + ENVELOPE[at + 1 :]
    try:
        value = wire.decode_envelope(changed)
    except wire.WireError:
        assert changed != ENVELOPE
    else:
        assert (value.raw == ENVELOPE) == (changed == ENVELOPE)
