"""Bad input over the wire: whatever a client, a relay, a stranger or a validator that lies sends to running nodes.

Three of four validators run; where a test needs a lying one it plays the fourth, with that one's keys.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from contracts.records import POLICIES, PolicyRecord
from crypto import tls
from crypto.hashing import TAG_BATCH_SIGNATURE
from crypto.keys import SigningKey
from crypto.merkle import EMPTY_ROOT
from ledger import operations as ops
from ledger import wire
from ledger.codes import Code
from ledger.types import ENVELOPE_BYTES_MAX, Batch, Receipt
from ledger.wire import decode_receipt, encode_envelope, parse
from lossbook.v1 import envelope_pb2, gateway_pb2, gateway_pb2_grpc, peer_pb2, peer_pb2_grpc, query_pb2, query_pb2_grpc
from services.limits import CHANNEL_OPTIONS
from tests.process.network import INSURERS, SUPERVISOR, Network
from tests.support.insurers import END, LIMIT, LOSS, Organisation, claim_notify, claim_path, key_of, policy_issue

RUNNING = INSURERS[:3]
LIAR = INSURERS[3]
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network.create(tmp_path_factory.mktemp("network")) as made:
        made.start_all(RUNNING)
        yield made
        for daemon in made.daemons.values():
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.said()


def new_id() -> bytes:
    return secrets.token_bytes(16)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def record(network: Network, policy: bytes) -> PolicyRecord | None:
    with network.channel("alpha") as channel:
        query = query_pb2_grpc.QueryServiceStub(channel)
        request = query_pb2.GetRecordRequest(key=POLICIES.prefix + policy)
        answer = query.GetRecord(request, metadata=network.metadata(), timeout=10)
    return POLICIES.decode(answer.value) if answer.found else None


def receipt_of(network: Network, raw: bytes) -> Receipt:
    status = network.submit("alpha", raw)
    assert status.stage == gateway_pb2.STAGE_FINAL, status
    return decode_receipt(status.receipt)


# -- envelopes that no node takes --------------------------------------------------------------------------


def parts(raw: bytes) -> tuple[bytes, list[bytes]]:
    envelope = parse(envelope_pb2.Envelope, raw)
    return envelope.body, list(envelope.signatures)


def altered_body(network: Network, issue: ops.PolicyIssue) -> bytes:
    body, signatures = parts(network.envelope("alpha", issue))
    other = issue.policy_id[:-1] + bytes([issue.policy_id[-1] ^ 1])
    return encode_envelope(body.replace(issue.policy_id, other), signatures)


def one_flipped(network: Network, issue: ops.PolicyIssue) -> bytes:
    body, (first, *rest) = parts(network.envelope("alpha", issue))
    return encode_envelope(body, [first[:-1] + bytes([first[-1] ^ 1]), *rest])


def swapped(network: Network, issue: ops.PolicyIssue) -> bytes:
    body, signatures = parts(network.envelope("alpha", issue))
    return encode_envelope(body, signatures[::-1])


def stripped(raw: bytes) -> bytes:
    body, signatures = parts(raw)
    return encode_envelope(body, signatures[:1])


def oversize(network: Network, issue: ops.PolicyIssue) -> bytes:
    body, signatures = parts(network.envelope("alpha", issue))
    return encode_envelope(body + bytes(ENVELOPE_BYTES_MAX), signatures)


UNDERWRITER = key_of("alpha", "underwriter")

AT_THE_DOOR: dict[str, tuple[Code, Callable[[Network, ops.PolicyIssue], bytes]]] = {
    "wrong chain id": (Code.WRONG_CHAIN, lambda net, op: net.envelope("alpha", op, chain_id=bytes(32))),
    "unknown key": (Code.KEY_NOT_REGISTERED, lambda net, op: net.envelope("alpha", op, keys=[key_of("stranger")])),
    "another's key": (
        Code.KEY_OF_ANOTHER_ORGANISATION,
        lambda net, op: net.envelope("alpha", op, keys=[key_of("beta", "underwriter")]),
    ),
    "one key twice": (Code.BAD_SIGNERS, lambda net, op: net.envelope("alpha", op, keys=[UNDERWRITER, UNDERWRITER])),
    "no key": (Code.BAD_SIGNERS, lambda net, op: net.envelope("alpha", op, keys=[])),
    "bad signature": (Code.BAD_SIGNATURE, one_flipped),
    "signatures in another order": (Code.BAD_SIGNATURE, swapped),
    "altered body": (Code.BAD_SIGNATURE, altered_body),
    "missing co-signature": (Code.MISSING_SIGNATURE, lambda net, op: stripped(net.envelope("alpha", op))),
    "oversize": (Code.TOO_LARGE, oversize),
    "1,001 operations": (Code.TOO_MANY_OPERATIONS, lambda net, op: net.envelope("alpha", *[op] * 1001)),
    "no operation": (Code.NO_OPERATIONS, lambda net, op: net.envelope("alpha")),
    "cut short": (Code.MALFORMED, lambda net, op: net.envelope("alpha", op)[:-1]),
    "no bytes": (Code.MALFORMED, lambda net, op: b""),
}


@pytest.mark.parametrize("case", AT_THE_DOOR)
def test_refused_at_the_door_with_code_and_advice(network: Network, case: str) -> None:
    code, make = AT_THE_DOOR[case]
    issue = policy_issue(policy_id=new_id())
    status = network.submit("beta", make(network, issue))
    assert status.stage == gateway_pb2.STAGE_REJECTED
    assert status.rejection.code == code
    assert len(status.rejection.text) > 20
    assert record(network, issue.policy_id) is None


def test_a_message_larger_than_any_envelope_ends_the_call_and_nothing_else(network: Network) -> None:
    request = gateway_pb2.SubmitRequest(envelope=bytes(16 << 20))
    with network.channel("beta") as channel, pytest.raises(grpc.RpcError) as refused:
        gateway_pb2_grpc.GatewayServiceStub(channel).Submit(request, metadata=network.metadata(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert receipt_of(network, network.envelope("alpha", policy_issue(policy_id=new_id()))).code == Code.OK


def test_expired_and_too_far_ahead(network: Network) -> None:
    issue = policy_issue(policy_id=new_id())
    past = network.envelope("alpha", issue, not_after_ms=network.status("alpha").block_time_ms - 1)
    assert network.submit("alpha", past).stage == gateway_pb2.STAGE_EXPIRED
    far = network.envelope("alpha", issue, not_after_ms=now_ms() + 48 * HOUR_MS)
    assert receipt_of(network, far).code == Code.NOT_AFTER_TOO_FAR
    assert record(network, issue.policy_id) is None


# -- operations that the contract refuses: each alone, and a thousand at once ---------------------------------


CLAIM, POLICY = b"claim-bad-input-", b"policy-bad-input"

REFUSED: list[tuple[ops.Operation, Code]] = [
    (policy_issue(policy_id=b"", limit_minor=1), Code.BAD_ID),
    (policy_issue(policy_id=POLICY), Code.DUPLICATE_ID),
    (policy_issue(policy_id=b"p" * 16, limit_minor=-1), Code.NEGATIVE_AMOUNT),
    (policy_issue(policy_id=b"p" * 16, premium_minor=-1), Code.NEGATIVE_AMOUNT),
    (policy_issue(policy_id=b"p" * 16, limit_minor=1 << 62), Code.AMOUNT_TOO_LARGE),
    (policy_issue(policy_id=b"p" * 16, deductible_minor=LIMIT), Code.BAD_LIMIT),
    (policy_issue(policy_id=b"p" * 16, currency="XXX"), Code.UNKNOWN_CURRENCY),
    (policy_issue(policy_id=b"p" * 16, line=99), Code.UNKNOWN_LINE),
    (policy_issue(policy_id=b"p" * 16, period_start_days=END + 1), Code.BAD_PERIOD),
    (claim_notify(claim_id=new_id(), policy_id=b"p" * 16), Code.UNKNOWN_POLICY),
    (
        claim_notify(claim_id=new_id(), policy_id=POLICY, loss_date_days=END + 1, asserted_date_days=END + 2),
        Code.LOSS_OUTSIDE_PERIOD,
    ),
    (claim_notify(claim_id=new_id(), policy_id=POLICY, asserted_date_days=LOSS - 1), Code.DATES_OUT_OF_ORDER),
    (ops.ClaimRegister(new_id(), LOSS + 2), Code.UNKNOWN_CLAIM),
    (ops.ClaimClose(CLAIM, LOSS + 5), Code.ILLEGAL_TRANSITION),
    (ops.ClaimPay(CLAIM, LOSS + 2, 1_000, "USD"), Code.DATES_OUT_OF_ORDER),
    (ops.ClaimPay(CLAIM, LOSS + 5, -1, "USD"), Code.NEGATIVE_AMOUNT),
    (ops.ClaimPay(CLAIM, LOSS + 5, LIMIT, "USD"), Code.PAYMENT_ABOVE_LIMIT),
    (ops.ClaimPay(CLAIM, LOSS + 5, 1_000, "EUR"), Code.CURRENCY_MISMATCH),
    (ops.ClaimPay(CLAIM, LOSS + 5, 999, "USD"), Code.AMOUNT_NOT_DUE),
]


@pytest.fixture(scope="module")
def due(network: Network) -> None:
    """A claim whose payment of 10.00 is due."""
    to_approved = claim_path(1_000, CLAIM)[:3]
    operations = [policy_issue(policy_id=POLICY), claim_notify(claim_id=CLAIM, policy_id=POLICY), *to_approved]
    assert set(receipt_of(network, network.envelope("alpha", *operations)).operation_codes) == {Code.OK}


@pytest.mark.usefixtures("due")
def test_what_the_contract_refuses_has_its_code_and_the_rest_of_the_envelope_takes_effect(network: Network) -> None:
    good = policy_issue(policy_id=new_id())
    receipt = receipt_of(network, network.envelope("alpha", *[operation for operation, _ in REFUSED], good))
    assert list(receipt.operation_codes) == [*[code for _, code in REFUSED], Code.OK]
    assert receipt.code == Code.OPERATIONS_FAILED
    assert record(network, good.policy_id) is not None
    assert record(network, b"p" * 16) is None


@pytest.mark.usefixtures("due")
def test_the_wrong_role_and_the_wrong_company(network: Network) -> None:
    pay = ops.ClaimPay(CLAIM, LOSS + 5, 1_000, "USD")
    by_handler = receipt_of(network, network.envelope("alpha", pay, desks=("handler", "handler-2")))
    by_beta = receipt_of(network, network.envelope("beta", pay))
    by_supervisor = receipt_of(network, network.envelope(SUPERVISOR, policy_issue(policy_id=new_id())))
    codes = [receipt.operation_codes for receipt in (by_handler, by_beta, by_supervisor)]
    assert codes == [(Code.WRONG_ROLE,), (Code.NOT_YOURS,), (Code.WRONG_KIND,)]


def test_one_pair_of_eyes_is_not_enough_above_the_amount(network: Network) -> None:
    policy, claim = new_id(), new_id()
    steps = claim_path(20_000_000, claim)
    begin = [policy_issue(policy_id=policy), claim_notify(claim_id=claim, policy_id=policy), *steps[:2]]
    assert receipt_of(network, network.envelope("alpha", *begin)).code == Code.OK
    approve = steps[2]
    for desks in (("handler",), ("handler", "adjuster"), ("handler", "finance", "finance-2")):
        alone = receipt_of(network, network.envelope("alpha", approve, desks=desks))
        assert alone.operation_codes == (Code.FOUR_EYES_REQUIRED,)
    both = receipt_of(network, network.envelope("alpha", approve, desks=("handler", "handler-2")))
    assert both.code == Code.OK


def test_a_thousand_operations_are_taken_and_a_replay_answers_the_first_receipt(network: Network) -> None:
    raw = network.envelope("alpha", *[policy_issue(policy_id=new_id()) for _ in range(1000)])
    first = network.submit("alpha", raw)
    assert set(decode_receipt(first.receipt).operation_codes) == {Code.OK}
    for name in RUNNING:
        assert network.submit(name, raw).receipt == first.receipt


# -- a relay, and a validator that lies -----------------------------------------------------------------------


def batch(network: Network, previous: Batch | None, *raws: bytes, key: SigningKey | None = None) -> Batch:
    """The liar's next batch."""
    header = wire.encode_batch_header(
        chain_id=network.genesis.chain_id,
        epoch=0,
        origin=LIAR,
        incarnation=1,
        sequence=1 if previous is None else previous.header.sequence + 1,
        previous=bytes(32) if previous is None else previous.header.digest,
        envelopes=raws,
        attachment_root=EMPTY_ROOT,
    )
    signer = key or network.organisations[LIAR].consensus_key
    assert signer is not None
    return wire.decode_batch(wire.encode_batch(header, signer.sign(TAG_BATCH_SIGNATURE + header), raws))


@contextlib.contextmanager
def pushed(network: Network, *batches: Batch) -> Iterator[None]:
    """The liar's streams to all others, with these batches on them."""
    over = threading.Event()

    def requests() -> Iterator[peer_pb2.ExchangeRequest]:
        yield peer_pb2.ExchangeRequest(messages=[peer_pb2.PeerMessage(batch=each.raw) for each in batches])
        over.wait(30)

    with contextlib.ExitStack() as stack:
        for name in RUNNING:
            channel = stack.enter_context(network.channel(name, caller=LIAR, role="node"))
            call = peer_pb2_grpc.PeerServiceStub(channel).Exchange(requests(), metadata=network.metadata())
            stack.callback(call.cancel)
            threading.Thread(target=_drain, args=(call,), daemon=True).start()
        stack.callback(over.set)
        yield


def _drain(call: Iterator[peer_pb2.ExchangeResponse]) -> None:
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass


def test_a_copy_stripped_by_a_relay_and_sent_first_does_not_burn_the_genuine_envelope(network: Network) -> None:
    # The way is real: a batch that only this validator made is listed and executed.
    shown = policy_issue(policy_id=new_id())
    first = batch(network, None, network.envelope(LIAR, shown))
    with pushed(network, first):
        network.wait_until("its batch is executed", lambda: record(network, shown.policy_id) is not None)
    # The same way, a co-signature taken off: at the doors, and by a validator in a batch of its own.
    wanted = policy_issue(policy_id=new_id())
    genuine = network.envelope("alpha", wanted, desks=("underwriter", "handler"))
    for name in RUNNING:
        assert network.submit(name, stripped(genuine)).rejection.code == Code.MISSING_SIGNATURE
    beside = policy_issue(policy_id=new_id())
    good, bad = network.envelope(LIAR, beside), stripped(genuine)
    with pushed(network, batch(network, first, good, bad)):
        for _ in range(3):  # blocks go by
            assert receipt_of(network, network.envelope("beta", policy_issue(policy_id=new_id()))).code == Code.OK
        assert record(network, wanted.policy_id) is None
        assert record(network, beside.policy_id) is None  # the whole batch is invalid
        assert receipt_of(network, genuine).operation_codes == (Code.OK,)
    assert record(network, wanted.policy_id) is not None
    assert receipt_of(network, good).code == Code.OK


def test_a_batch_under_another_key_than_its_origins_is_not_taken(network: Network) -> None:
    issue = policy_issue(policy_id=new_id())
    forged = batch(network, None, network.envelope(LIAR, issue), key=key_of("stranger"))
    with pushed(network, forged):
        assert receipt_of(network, network.envelope("beta", policy_issue(policy_id=new_id()))).code == Code.OK
        assert record(network, issue.policy_id) is None


# -- who may call at all --------------------------------------------------------------------------------------


def called_with(network: Network, leaf: bytes, key: bytes, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    """How alpha's peer service ends a call with this certificate."""
    member = network.members.get("alpha")
    assert member is not None
    credentials = grpc.ssl_channel_credentials(member.ca_pem, key, leaf)
    options = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", "alpha.lossbook")]
    with grpc.secure_channel(member.public_address, credentials, options=options) as channel:
        call = peer_pb2_grpc.PeerServiceStub(channel).Exchange(iter(()), metadata=metadata, timeout=5)
        with pytest.raises(grpc.RpcError) as refused:
            list(call)
        code: grpc.StatusCode = refused.value.code()
        return code


def leaf_of(authority: SigningKey, name: str, ends: timedelta = timedelta(days=1)) -> tuple[bytes, bytes]:
    begun = datetime.now(UTC) - timedelta(days=2)
    return tls.issue_leaf(authority, name, "node", begun, ends + timedelta(days=2))


@pytest.mark.parametrize(
    ("authority", "name", "ends"),
    [
        ("stranger", "stranger", timedelta(days=1)),
        ("stranger", "beta", timedelta(days=1)),
        ("gamma", "beta", timedelta(days=1)),
        ("beta", "beta", timedelta(days=-1)),
    ],
    ids=["unregistered", "unregistered in a member's name", "a member in another's name", "expired"],
)
def test_invalid_certificates_get_no_connection(network: Network, authority: str, name: str, ends: timedelta) -> None:
    leaf, key = leaf_of(Organisation(authority, "insurer").ledger_key, name, ends)
    assert called_with(network, leaf, key, network.metadata()) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ((), "same genesis.json"),
        ((("lossbook-chain", "00" * 32), ("lossbook-protocol", "1")), "same genesis.json"),
        ((("lossbook-chain", "{chain}"), ("lossbook-protocol", "2")), "run the same major version"),
    ],
    ids=["no metadata", "another network", "another protocol version"],
)
def test_invalid_metadata_is_refused_and_logged_with_what_to_do(
    network: Network, metadata: tuple[tuple[str, str], ...], said: str
) -> None:
    leaf, key = leaf_of(network.organisations["beta"].ledger_key, "beta")
    filled = tuple((name, value.format(chain=network.genesis.chain_id.hex())) for name, value in metadata)
    assert called_with(network, leaf, key, filled) is grpc.StatusCode.FAILED_PRECONDITION
    assert said in network.daemons["alpha"].said()
