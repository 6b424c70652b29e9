"""Well-formed: the limits, the chain, one valid signature per key in order; and why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from crypto.hashing import TAG_ENVELOPE_SIGNATURE
from crypto.keys import SigningKey
from ledger import operations as ops
from ledger.codes import Code
from ledger.types import ENVELOPE_BYTES_MAX, OPERATIONS_MAX, SIGNERS_MAX, Envelope
from ledger.wellformed import diagnose, read_envelope, signature_jobs, well_formed
from ledger.wire import decode_envelope, encode_envelope, encode_envelope_body
from lossbook.v1 import envelope_pb2
from tests.support.insurers import FIRST, INSURERS, Ledger, key_of, policy_issue

CHAIN = bytes(range(32))
TWO = [FIRST.desks["handler"], FIRST.desks["handler-2"]]


def body_of(
    keys: Sequence[SigningKey] = TWO,
    operations: Sequence[ops.Operation] | None = None,
    chain_id: bytes = CHAIN,
    salt: bytes = bytes(16),
) -> bytes:
    return encode_envelope_body(
        chain_id=chain_id,
        organisation=FIRST.id,
        signer_keys=[key.public for key in keys],
        not_after_ms=1,
        salt=salt,
        operations=[policy_issue()] if operations is None else operations,
    )


def signed(body: bytes, keys: Sequence[SigningKey] = TWO, tag: bytes = TAG_ENVELOPE_SIGNATURE) -> bytes:
    return encode_envelope(body, [key.sign(tag + body) for key in keys])


def judge(raw: bytes) -> Code:
    envelope = read_envelope(raw, CHAIN)
    return well_formed(envelope, CHAIN) if isinstance(envelope, Envelope) else envelope


def test_one_signature_per_listed_key_in_order_is_well_formed() -> None:
    raw = signed(body_of())
    assert judge(raw) == Code.OK
    jobs = signature_jobs(decode_envelope(raw))
    assert [job[0] for job in jobs] == [key.public for key in TWO]


def test_limits_are_inclusive() -> None:
    keys = [key_of("signer", str(i)) for i in range(SIGNERS_MAX)]
    body = body_of(keys, [policy_issue()] * OPERATIONS_MAX)
    assert judge(signed(body, keys)) == Code.OK


def test_invalid_on_another_network() -> None:
    assert judge(signed(body_of(chain_id=bytes(32)))) == Code.WRONG_CHAIN


@pytest.mark.parametrize(
    "signers",
    [
        TWO[::-1],
        [TWO[0], TWO[0]],
        [TWO[0], INSURERS[1].desks["handler"]],
    ],
)
def test_invalid_signatures(signers: list[SigningKey]) -> None:
    assert judge(signed(body_of(), signers)) == Code.BAD_SIGNATURE


def test_invalid_under_another_domain_tag() -> None:
    assert judge(signed(body_of(), tag=b"")) == Code.BAD_SIGNATURE


def test_invalid_once_a_bit_of_the_body_is_altered() -> None:
    body = body_of()
    altered = body.replace(b"USD", b"EUR")
    assert altered != body
    assert (
        judge(encode_envelope(altered, [key.sign(TAG_ENVELOPE_SIGNATURE + body) for key in TWO])) == Code.BAD_SIGNATURE
    )


@pytest.mark.parametrize("signers", [[], TWO[:1], [*TWO, TWO[0]]])
def test_invalid_with_a_signature_too_few_or_too_many(signers: list[SigningKey]) -> None:
    assert judge(signed(body_of(), signers)) == Code.MISSING_SIGNATURE


def test_a_stripped_envelope_uses_up_no_id_and_the_genuine_one_executes() -> None:
    ledger = Ledger()
    genuine = ledger.envelope([policy_issue()], desks=["underwriter", "handler"])
    stripped = decode_envelope(encode_envelope(genuine.body, genuine.signatures[:1]))
    assert stripped.id == genuine.id
    assert well_formed(stripped, ledger.genesis.chain_id) == Code.MISSING_SIGNATURE
    assert ledger.block([genuine]).receipts[0].code == Code.OK


def message(change: Callable[[envelope_pb2.EnvelopeBody], object]) -> bytes:
    body = envelope_pb2.EnvelopeBody.FromString(body_of())
    change(body)
    return signed(body.SerializeToString())


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", Code.MALFORMED),
        (b"\xff" * 40, Code.MALFORMED),
        (encode_envelope(b"\xff\xff", [bytes(64)]), Code.MALFORMED),
        (bytes(ENVELOPE_BYTES_MAX + 1), Code.TOO_LARGE),
        (signed(body_of(operations=[])), Code.NO_OPERATIONS),
        (signed(body_of(operations=[policy_issue()] * (OPERATIONS_MAX + 1))), Code.TOO_MANY_OPERATIONS),
        (signed(body_of(salt=bytes(15))), Code.MALFORMED),
        (signed(body_of(chain_id=b"x")), Code.MALFORMED),
        (encode_envelope(body_of(), [bytes(63), bytes(64)]), Code.MALFORMED),
        (message(lambda b: b.ClearField("signer_keys")), Code.BAD_SIGNERS),
        (message(lambda b: b.signer_keys.append(TWO[0].public)), Code.BAD_SIGNERS),
        (message(lambda b: b.signer_keys.append(bytes(31))), Code.BAD_SIGNERS),
        (message(lambda b: b.signer_keys.extend([bytes([i]) * 32 for i in range(SIGNERS_MAX)])), Code.BAD_SIGNERS),
    ],
    ids=lambda value: value.name if isinstance(value, Code) else "",
)
def test_invalid_bytes_get_a_code_each(raw: bytes, code: Code) -> None:
    assert judge(raw) == code


def test_every_truncation_is_refused_with_a_code() -> None:
    raw = signed(body_of())
    assert all(judge(raw[:cut]) != Code.OK for cut in range(len(raw)))


def test_an_operation_kind_of_a_later_version_is_well_formed() -> None:
    raw = message(lambda b: b.operations.add())
    assert judge(raw) == Code.OK


def test_diagnosis_of_good_bytes_is_no_ok() -> None:
    assert diagnose(signed(body_of())) == Code.MALFORMED
