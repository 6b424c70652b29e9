"""What a client learns of epochs and members: only what is proved, once, kept beside its profile."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from contracts.tables import TABLES
from crypto.hashing import TAG_ENVELOPE_ID, tagged
from crypto.keys import SigningKey
from crypto.tls import make_authority
from ledger import cards, proof_building
from ledger import operations as ops
from ledger.acks import accepted_message
from ledger.cards import sign_card
from ledger.checkpoints import DAY_MS
from ledger.codes import Code
from ledger.epochs import MEMBERSHIP
from ledger.known_epochs import KnownEpochs
from ledger.organisations import CARDS, KEYS, CardRecord
from ledger.proof_building import header_proof
from ledger.proof_errors import BadSignature, ConflictingHistory
from ledger.proof_types import Proof, ReceiptProof, RecordProof
from ledger.proofs import Proven, verify_header_proof
from ledger.state import Table
from ledger.wire import decode_envelope, encode_receipt
from ledger.wire.proofs import encode_receipt_proof, encode_record_proof
from lossbook.v1 import gateway_pb2, query_pb2
from lossbook_sdk import nodes as nodes_module
from lossbook_sdk import profile, trust_file
from lossbook_sdk.answers import Stage, Status
from lossbook_sdk.envelopes import Signed
from lossbook_sdk.errors import CheckpointNeeded, ProfileError, Undecided, VerificationFailed
from lossbook_sdk.gateway import Gateway
from lossbook_sdk.nodes import Nodes
from lossbook_sdk.profile import Node
from lossbook_sdk.stream import BulkSubmitter
from lossbook_sdk.trust import Trust, UnknownEpoch
from tests.support.epoch_chain import EpochChain
from tests.support.gateways import AnyQuery, FakeGateway, PlainConnector, always, final, id_of, nodes_of
from tests.support.insurers import FIRST, INSURERS, key_of, make_genesis, market_genesis, policy_issue
from tests.support.voting import NEWCOMER, next_key, plain_card, seat_card
from tests.unit.sdk.test_gateway import envelope

T = TypeVar("T")
BATCH = tagged(TAG_ENVELOPE_ID, b"some batch")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def later(epochs: int, *, newcomer: bool = False) -> EpochChain:
    """A chain in this epoch, its state certified; the newcomer joins with the first change."""
    chain = EpochChain()
    for epoch in range(epochs):
        add = (seat_card(NEWCOMER),) if newcomer and epoch == 0 else ()
        chain.change(f"change {epoch}", ops.SetChange(add=add))
    chain.block()
    chain.block()
    return chain


def subject(chain: EpochChain, table: Table[Any] = MEMBERSHIP, key: bytes = b"") -> RecordProof:
    return proof_building.record_proof(chain, chain.ledger.state, table, key)


def proof(chain: EpochChain, table: Table[Any] = MEMBERSHIP, key: bytes = b"") -> Proof:
    return Proof(chain.genesis.chain_id, subject(chain, table, key))


def proved_card(chain: EpochChain, trust: Trust, organisation: str) -> Proven:
    return trust.verify(proof(chain, CARDS, organisation.encode()))


class ChainNode(AnyQuery):
    """QueryService of a node that holds the chain; counts what it was asked."""

    def __init__(self, chain: EpochChain, *, forge: bool = False) -> None:
        self.chain = chain
        self.forge = forge
        self.asked: list[bytes] = []

    async def GetRecord(  # noqa: N802
        self, request: query_pb2.GetRecordRequest, context: Any
    ) -> query_pb2.GetRecordResponse:
        self.asked.append(request.key)
        table = next(table for table in TABLES if table.prefix == request.key[:1])
        value = self.chain.ledger.state.committed_bytes(table, request.key[1:])
        if value is None:
            return query_pb2.GetRecordResponse()
        made = encode_record_proof(subject(self.chain, table, request.key[1:]))
        if self.forge:
            certificate = made.header.finalization
            certificate.signatures[0] = bytes(64)
        return query_pb2.GetRecordResponse(found=True, value=value, proof=made)


def chain_node(chain: EpochChain, *, forge: bool = False) -> ChainNode:
    return ChainNode(chain, forge=forge)  # type: ignore[abstract]


# -- epochs ------------------------------------------------------------------------------------------


def test_a_hand_over_is_verified_once_and_known_to_the_next_process(tmp_path: Path) -> None:
    chain, path = later(2), tmp_path / "known.json"
    trust = Trust(chain.genesis, path)
    first = trust.verify(proof(chain)).signatures
    assert trust.latest_epoch == 2
    again = trust.verify(proof(chain)).signatures
    reread = Trust(chain.genesis, path)
    assert reread.latest_epoch == 2
    assert reread.verify(proof(chain)).signatures == again < first
    assert reread.known == trust.known


def test_another_history_is_refused_once_one_is_known(tmp_path: Path) -> None:
    chain = later(1)
    trust = Trust(chain.genesis, tmp_path / "known.json")
    trust.verify(proof(chain))
    other = EpochChain()
    other.block()
    other.change("another", ops.SetChange())
    other.block()
    other.block()
    with pytest.raises(ConflictingHistory):
        Trust(chain.genesis, tmp_path / "known.json").verify(proof(other))


def endless(height: int) -> EpochChain:
    """Made with old keys alone: epoch 0 goes on up to this height, as if it had never ended."""
    chain = EpochChain()
    while chain.finalized_height() < height:
        chain.block()
    return chain


def test_invalid_a_header_of_an_epoch_that_was_over_before_it() -> None:
    chain = later(2)
    trust = Trust(chain.genesis)
    trust.verify(proof(chain))
    end = trust.known.starts[1].genesis.height
    for height in (end, end + 1, chain.finalized_height() + 50):
        with pytest.raises(ConflictingHistory, match=f"block {end} ended epoch 0 before it"):
            verify_header_proof(header_proof(endless(height), height), trust.known)


def test_invalid_a_lower_header_of_an_epoch_that_was_over_when_it_was_made() -> None:
    chain = later(1)
    trust = Trust(chain.genesis)
    trust.verify(proof(chain))
    end = trust.known.starts[1].genesis
    forged = EpochChain()
    forged.block()
    for late_ms, refused in ((-1, False), (0, True), (1, True)):
        header = dataclasses.replace(forged.headers[0].justified.header, timestamp_ms=end.timestamp_ms + late_ms)
        assert (trust.known.end_before(header) == end) is refused


@pytest.mark.parametrize("tails", [(), (0,), (0, 1)])
def test_every_header_up_to_the_end_of_an_epoch_stays_believed(tails: Sequence[int]) -> None:
    chain = EpochChain()
    chain.block()
    chain.change("leave", ops.SetChange(), tails=tails)
    chain.block()
    height = chain.finalized_height()
    known, _ = verify_header_proof(header_proof(chain, height), KnownEpochs.of_genesis(chain.genesis))
    assert 1 in known.starts
    for at in range(1, height + 1):
        verify_header_proof(header_proof(chain, at), known)
    end = chain.final_header(known.starts[1].genesis.height)
    assert end is not None
    assert len(end.tails) == len(tails)
    assert [known.end_before(tail.header) for tail in end.tails] == [None] * len(tails)


def test_a_card_forged_with_the_keys_of_an_epoch_that_is_over_is_not_learned() -> None:
    chain = later(2)
    trust = Trust(chain.genesis)
    trust.verify(proof(chain))
    victim, thief = INSURERS[1], SigningKey.generate()
    forged = EpochChain()
    authority = make_authority(thief, victim.id, datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)).decode()
    body = victim.body(ledger_key=thief.public.hex(), ca_certificate=authority)
    card = sign_card(body, thief, victim.consensus_key)
    forged.ledger.state.put(CARDS, victim.id.encode(), CardRecord(card.text, card.signature, card.possession))
    while forged.finalized_height() < 200:
        forged.block()
    with pytest.raises(ConflictingHistory):
        proved_card(forged, trust, victim.id)


def test_a_card_without_a_usable_certificate_is_remembered_so_that_no_older_authority_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, path = EpochChain(), tmp_path / "known.json"
    with monkeypatch.context() as careless:  # as another program makes it; the ledger does not look at it either
        careless.setattr(cards, "_check_authority", lambda card: None)
        broken = sign_card(FIRST.body(consensus_key="", ca_certificate="no certificate"), FIRST.ledger_key)
    record = CardRecord(broken.text, broken.signature, broken.possession)
    chain.ledger.state.put(CARDS, FIRST.id.encode(), record)
    for _ in range(4):
        chain.block()
    trust = Trust(chain.genesis, path)
    assert trust.card(FIRST.id) is not None, "that of the genesis"
    assert trust.learn_card(proved_card(chain, trust, FIRST.id))
    assert trust.card(FIRST.id) is None
    assert Trust(chain.genesis, path).card(FIRST.id) is None, "nor for the next command"


def test_a_proof_that_fails_teaches_nothing(tmp_path: Path) -> None:
    chain = later(1)
    trust = Trust(chain.genesis, tmp_path / "known.json")
    good = subject(chain)
    certificate = good.header.finalization
    bad = msgspec.structs.replace(
        good,
        header=msgspec.structs.replace(
            good.header, finalization=_replace(certificate, signatures=(bytes(64), *certificate.signatures[1:]))
        ),
    )
    with pytest.raises(BadSignature):
        trust.verify(Proof(chain.genesis.chain_id, bad))
    assert trust.latest_epoch == 0
    assert not (tmp_path / "known.json").exists()


def _replace(certificate: Any, **changes: object) -> Any:
    return dataclasses.replace(certificate, **changes)


def test_a_voucher_is_of_the_latest_epoch_or_the_one_before() -> None:
    chain = later(2)
    trust = Trust(chain.genesis)
    with pytest.raises(UnknownEpoch):
        trust.validator_key(1, FIRST.id)
    trust.verify(proof(chain))
    assert trust.validator_key(2, FIRST.id) == next_key(FIRST.id, 2).public
    assert trust.validator_key(1, FIRST.id) == next_key(FIRST.id, 1).public
    assert trust.validator_key(0, FIRST.id) == b"", "keys of epochs that are long over may be anybody's"
    assert trust.validator_key(2, "stranger") == b""


def sealed(text: str) -> str:
    """With the checksum that a file of this content has, so that only what it says is wrong."""
    document = json.loads(text)
    return json.dumps(document | {"checksum": trust_file.checksum_of(document)})


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("127.0.0.1", "127.0.0.2"),
        lambda text: sealed(text.replace("lossbook-known-1", "lossbook-known-9")),
        lambda text: sealed(text.replace('"chain_id": "', '"chain_id": "00', 1)),
        lambda text: sealed(text.replace(FIRST.id, "insurer-9")),
        lambda text: sealed(text.replace(next_key(FIRST.id, 1).public.hex(), next_key("mallory", 1).public.hex())),
        lambda text: sealed(json.dumps(json.loads(text) | {"epochs": json.loads(text)["epochs"][1:]})),
        lambda text: sealed(json.dumps(json.loads(text) | {"more": 1})),
    ],
    ids=["cut", "checksum", "format", "network", "member", "key", "gap", "field"],
)
def test_invalid_files_are_refused_with_what_to_do(tmp_path: Path, damage: Any) -> None:
    chain, path = later(2, newcomer=True), tmp_path / "known.json"
    trust = Trust(chain.genesis, path)
    trust.verify(proof(chain))
    assert trust.learn_card(proved_card(chain, trust, NEWCOMER.id))
    path.write_text(damage(path.read_text()))
    with pytest.raises(ProfileError, match="cannot be read") as caught:
        Trust(chain.genesis, path)
    assert f"rm {path}" in caught.value.advice


def test_ones_own_card_is_believed_until_one_is_proved_as_of_now() -> None:
    chain = later(1, newcomer=True)
    now_ms = [chain.headers[-1].justified.header.timestamp_ms + 61_000]
    trust = Trust(chain.genesis, now_ms=lambda: now_ms[0])
    trust.believe(NEWCOMER.card(public_address="127.0.0.1:9"))
    card = trust.card(NEWCOMER.id)
    assert card is not None
    assert card.body.public_address == "127.0.0.1:9"
    assert not trust.learn_card(proved_card(chain, trust, NEWCOMER.id)), "one's own daemon may be behind"
    now_ms[0] -= 1_000
    assert trust.learn_card(proved_card(chain, trust, NEWCOMER.id))
    card = trust.card(NEWCOMER.id)
    assert card is not None
    assert card.body == NEWCOMER.body()


@pytest.fixture(scope="module")
def kept_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[EpochChain, Path]:
    chain, path = later(1, newcomer=True), tmp_path_factory.mktemp("known") / "known.json"
    trust = Trust(chain.genesis, path)
    trust.learn_card(proved_card(chain, trust, NEWCOMER.id))
    return chain, path


@pytest.mark.property
@hypothesis.given(data=st.data())
def test_a_damaged_file_is_refused_or_says_what_was_proved(
    kept_file: tuple[EpochChain, Path], data: st.DataObject
) -> None:
    chain, path = kept_file
    raw = path.read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    put = data.draw(st.binary(max_size=3))
    damaged = path.with_name("damaged.json")
    damaged.write_bytes(raw[:at] + put + raw[at + data.draw(st.integers(0, 3)) :])
    try:
        trust = Trust(chain.genesis, damaged)
    except ProfileError:
        return
    good = Trust(chain.genesis, path)
    assert trust.known.starts.keys() <= good.known.starts.keys()
    assert all(trust.known.starts[epoch] == good.known.starts[epoch] for epoch in trust.known.starts)
    card = trust.card(NEWCOMER.id)
    assert card is None or card.text == NEWCOMER.card().text


def test_a_card_that_was_altered_in_the_file_is_refused(tmp_path: Path) -> None:
    chain, path = later(1, newcomer=True), tmp_path / "known.json"
    trust = Trust(chain.genesis, path)
    trust.learn_card(proved_card(chain, trust, NEWCOMER.id))
    path.write_text(sealed(path.read_text().replace("127.0.0.1:4001", "127.0.0.1:6666")))
    with pytest.raises(ProfileError, match="not by its ledger key"):
        Trust(chain.genesis, path)


def test_where_nothing_can_be_written_the_client_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chain = later(1)
    trust = Trust(chain.genesis, tmp_path / "nowhere" / "known.json")
    trust.verify(proof(chain))
    assert trust.latest_epoch == 1
    assert "not kept" in caplog.text


def test_profiles_of_one_network_share_a_file_and_other_networks_do_not(tmp_path: Path) -> None:
    def of(name: str, genesis: bytes) -> Trust:
        (tmp_path / f"{name}.json").write_bytes(genesis)
        text = profile.render(
            organisation=FIRST.id, genesis=f"{name}.json", chain_id=b"", certificate="c", key="k", keys={}
        )
        (tmp_path / f"{name}.toml").write_text(f"trusting_period_days = 3650\n{text}")
        return Trust.of_profile(profile.load(tmp_path / f"{name}.toml"))

    chain = later(1)
    of("one", chain.genesis.raw).verify(proof(chain))
    assert of("two", chain.genesis.raw).latest_epoch == 1
    assert of("three", make_genesis(INSURERS).raw).latest_epoch == 0


# -- cards -------------------------------------------------------------------------------------------


def test_who_joined_is_known_by_a_proved_card_and_after_a_restart(tmp_path: Path) -> None:
    chain, path = later(1, newcomer=True), tmp_path / "known.json"
    trust = Trust(chain.genesis, path)
    assert trust.card(NEWCOMER.id) is None
    assert trust.learn_card(proved_card(chain, trust, NEWCOMER.id))
    for each in (trust, Trust(chain.genesis, path)):
        card = each.card(NEWCOMER.id)
        assert card is not None
        assert card.body == NEWCOMER.body()
        assert NEWCOMER.id in [card.id for card in each.cards_of_validators()]


def test_a_newer_card_replaces_an_older_one_and_never_the_other_way_round() -> None:
    chain = EpochChain()
    chain.block()
    chain.block()
    trust = Trust(chain.genesis)
    old = proved_card(chain, trust, INSURERS[1].id)
    chain.house.pass_("move", ops.CardChange(plain_card(INSURERS[1], public_address="10.0.0.9:1")))
    chain.block()
    assert trust.learn_card(proved_card(chain, trust, INSURERS[1].id))
    assert not trust.learn_card(old)
    card = trust.card(INSURERS[1].id)
    assert card is not None
    assert card.body.public_address == "10.0.0.9:1"


def test_a_record_of_another_table_is_no_card() -> None:
    chain = later(0)
    trust = Trust(chain.genesis)
    proven = trust.verify(proof(chain, KEYS, FIRST.desks["admin"].public))
    with pytest.raises(msgspec.ValidationError):
        trust.learn_card(proven)
    forged = msgspec.structs.replace(proved_card(chain, trust, FIRST.id), key=CARDS.prefix + b"someone")
    assert not trust.learn_card(forged)


# -- vouchers over a connection ------------------------------------------------------------------------


def accepted(raw: bytes, epoch: int, key: SigningKey, origin: str = FIRST.id) -> gateway_pb2.EnvelopeStatus:
    message = accepted_message(market_genesis().chain_id, epoch, origin, BATCH, id_of(raw))
    return gateway_pb2.EnvelopeStatus(
        envelope_id=id_of(raw),
        stage=gateway_pb2.STAGE_ACCEPTED,
        accepted=gateway_pb2.Accepted(
            envelope_id=id_of(raw), origin=origin, epoch=epoch, batch_digest=BATCH, signature=key.sign(message)
        ),
    )


async def told(gateway: FakeGateway, query: ChainNode, **times: float) -> tuple[Status, Nodes]:
    await gateway.start(query=query)
    nodes = nodes_of(gateway)
    try:
        return await Gateway(nodes).submit(envelope(), Stage.ACCEPTED, **times), nodes
    finally:
        await nodes.close()
        await gateway.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes_module, "EPOCH_TRIES", 2)
    monkeypatch.setattr(nodes_module, "EPOCH_PAUSE_S", 0.01)


def test_a_voucher_of_a_later_epoch_is_checked_with_the_key_of_that_epoch() -> None:
    query = chain_node(later(0))
    said = [0, 1]

    def vouched(raw: bytes) -> gateway_pb2.EnvelopeStatus:
        epoch = said.pop(0)
        return accepted(raw, epoch, next_key(FIRST.id, epoch) if epoch else key_of(FIRST.id, "consensus"))

    async def story() -> None:
        gateway = FakeGateway(FIRST.id, always(vouched))
        await gateway.start(query=query)
        nodes = nodes_of(gateway)
        first = await Gateway(nodes).submit(envelope(), Stage.ACCEPTED)
        query.chain = later(1)
        second = await Gateway(nodes).submit(envelope(), Stage.ACCEPTED)
        await nodes.close()
        await gateway.stop()
        assert first.stage is second.stage is Stage.ACCEPTED
        assert nodes.connector.trust.latest_epoch == 1

    run(story())
    assert query.asked == [CARDS.prefix + FIRST.id.encode(), MEMBERSHIP.prefix]


def test_invalid_a_voucher_of_a_later_epoch_by_the_key_of_the_genesis() -> None:
    assert FIRST.consensus_key is not None
    old = FIRST.consensus_key
    gateway = FakeGateway(FIRST.id, always(lambda raw: accepted(raw, 1, old)))
    with pytest.raises(VerificationFailed, match="not signed by insurer-1"):
        run(told(gateway, chain_node(later(1))))


def test_invalid_a_voucher_of_an_epoch_that_nobody_can_prove_is_never_believed() -> None:
    gateway = FakeGateway(FIRST.id, always(lambda raw: accepted(raw, 7, next_key(FIRST.id, 7))))
    with pytest.raises(Undecided, match="PENDING"):
        run(told(gateway, chain_node(later(1)), wait_s=0.3))


def test_invalid_a_forged_proof_teaches_no_epoch_and_costs_the_node_its_turn() -> None:
    gateway = FakeGateway(FIRST.id, always(lambda raw: accepted(raw, 1, next_key(FIRST.id, 1))))

    async def story() -> None:
        await gateway.start(query=chain_node(later(1), forge=True))
        nodes = nodes_of(gateway)
        try:
            await Gateway(nodes).submit(envelope(), Stage.ACCEPTED, wait_s=0.3)
        finally:
            assert nodes.connector.trust.latest_epoch == 0
            assert "does not verify" in str(nodes.attempts) or "no proof leads" in str(nodes.attempts)
            await nodes.close()
            await gateway.stop()

    with pytest.raises(Undecided):
        run(story())


def test_a_stream_checks_vouchers_by_epoch_too() -> None:
    gateway = FakeGateway(FIRST.id, always(lambda raw: accepted(raw, 1, next_key(FIRST.id, 1)), final))
    stages: list[Stage] = []

    async def story() -> None:
        await gateway.start(query=chain_node(later(1)))
        nodes = nodes_of(gateway)
        async with BulkSubmitter(nodes, on_stage=lambda status: stages.append(status.stage)) as bulk:
            await (await bulk.submit(envelope()))
        await nodes.close()
        await gateway.stop()

    run(story())
    assert stages == [Stage.ACCEPTED]


# -- proofs over a connection --------------------------------------------------------------------------


class Replayed:
    """A chain that lists one envelope twice, and what a node may say of it."""

    def __init__(self) -> None:
        self.chain = EpochChain()
        raw = self.chain.ledger.envelope([policy_issue()]).raw
        self.signed = Signed(raw, id_of(raw), 0)
        for _ in range(2):
            self.chain.block(decode_envelope(raw))
        self.chain.block()
        self.chain.block()
        self.first, self.second = (
            proof_building.receipt_proof(self.chain, self.chain.ledger.state, position) for position in (0, 1)
        )
        assert (self.first.receipt.code, self.second.receipt.code) == (Code.OK, Code.REPLAYED)

    def status(self, said: ReceiptProof) -> gateway_pb2.EnvelopeStatus:
        return gateway_pb2.EnvelopeStatus(
            envelope_id=said.receipt.envelope_id,
            stage=gateway_pb2.STAGE_PROVEN,
            receipt=said.receipt.raw,
            proof=encode_receipt_proof(said),
        )

    async def told(
        self, said: ReceiptProof, response: query_pb2.GetReceiptResponse, mine: Signed | None = None
    ) -> Status:
        """The answer to whom waits for PROVEN, of a node that gives this receipt first and this one when asked."""

        class Query(AnyQuery):
            async def GetReceipt(  # noqa: N802
                self, request: query_pb2.GetReceiptRequest, context: object
            ) -> query_pb2.GetReceiptResponse:
                assert request.prove
                return response

        gateway = FakeGateway(FIRST.id, always(lambda raw: self.status(said)))
        await gateway.start(query=Query())  # type: ignore[abstract]
        nodes = nodes_of(gateway, genesis=self.chain.genesis)
        try:
            return await Gateway(nodes).submit(mine or self.signed, Stage.PROVEN)
        finally:
            await nodes.close()
            await gateway.stop()


def test_invalid_the_genuine_proof_of_another_envelope() -> None:
    it = Replayed()
    assert run(it.told(it.first, query_pb2.GetReceiptResponse())).proof == it.first
    with pytest.raises(VerificationFailed, match="answered about another envelope"):
        run(it.told(it.first, query_pb2.GetReceiptResponse(), envelope()))


def test_a_proven_replay_is_answered_with_the_first_receipt_proved() -> None:
    it = Replayed()
    honest = query_pb2.GetReceiptResponse(
        found=True, receipt=it.first.receipt.raw, proof=encode_receipt_proof(it.first)
    )
    status = run(it.told(it.second, honest))
    assert (status.stage, status.receipt, status.proof) == (Stage.PROVEN, it.first.receipt, it.first)


def test_invalid_a_first_receipt_that_is_not_proved_as_the_replay_was() -> None:
    it = Replayed()
    lie = encode_receipt(
        envelope_id=it.signed.id, height=2, index=0, position=0, block_time_ms=1, code=Code.OK, operation_codes=(0,)
    )
    for proved, why in ((None, "it gave none"), (it.first, "it proves another receipt")):
        response = query_pb2.GetReceiptResponse(found=True, receipt=lie.raw)
        if proved is not None:
            response.proof.CopyFrom(encode_receipt_proof(proved))
        with pytest.raises(VerificationFailed, match=why):
            run(it.told(it.second, response))


def test_past_the_trusting_period_whoever_waits_for_proofs_is_told_to_take_a_checkpoint() -> None:
    it = Replayed()
    gateway = FakeGateway(FIRST.id, always(lambda raw: it.status(it.first)))

    async def story(days: int) -> Status:
        now_ms = it.chain.genesis.time_ms + days * DAY_MS
        trust = Trust(it.chain.genesis, trusting_days=30, now_ms=lambda: now_ms)
        await gateway.start()
        nodes = Nodes(PlainConnector(trust, b"", b""), [gateway.node])
        try:
            async with asyncio.timeout(20), BulkSubmitter(nodes, Stage.PROVEN) as bulk:
                outcome = await bulk.submit(it.signed)
                with contextlib.suppress(CheckpointNeeded):
                    await bulk.drain()
                return await outcome
        finally:
            await nodes.close()
            await gateway.stop()

    assert run(story(1)).stage is Stage.PROVEN
    with pytest.raises(CheckpointNeeded, match="30 days") as caught:
        run(story(40))
    assert "lossbook checkpoint accept" in caught.value.advice
    assert caught.value.exit_code == 4


# -- members over a connection -------------------------------------------------------------------------


def test_a_node_of_one_who_joined_is_used_once_its_card_is_proved_by_another() -> None:
    query = chain_node(later(1, newcomer=True))
    old = FakeGateway(FIRST.id, always(final))
    new = FakeGateway(NEWCOMER.id, always(final))

    async def story() -> None:
        await old.start(query=query)
        await new.start()
        nodes = nodes_of(new, old)
        assert nodes.choose() == old.node, "nobody vouches for the first one yet"
        assert (await Gateway(nodes).submit(envelope())).node == FIRST.id
        assert CARDS.prefix + NEWCOMER.id.encode() in query.asked
        assert nodes.choose() == new.node
        assert (await Gateway(nodes).submit(envelope())).node == NEWCOMER.id
        await nodes.close()
        await old.stop()
        await new.stop()

    run(story())


def test_a_node_that_cannot_be_reached_is_asked_after_once() -> None:
    query = chain_node(later(0))

    async def answer(raw: bytes, wait: int) -> list[gateway_pb2.EnvelopeStatus]:
        return [final(raw)]

    dead = FakeGateway(INSURERS[1].id, answer)
    alive = FakeGateway(FIRST.id, answer)

    async def story() -> None:
        await dead.start()
        await dead.stop()
        await alive.start(query=query)
        nodes = nodes_of(dead, alive)
        for _ in range(3):
            await Gateway(nodes).submit(envelope())
        await nodes.close()
        await alive.stop()

    run(story())
    assert query.asked.count(CARDS.prefix + INSURERS[1].id.encode()) == 1


def test_what_may_not_be_believed_any_more_stops_no_call_that_needs_no_proof() -> None:
    query = chain_node(later(1, newcomer=True))
    alive = FakeGateway(FIRST.id, always(final))

    async def story() -> None:
        await alive.start(query=query)
        trust = Trust(market_genesis(), trusting_days=30, now_ms=lambda: market_genesis().time_ms + 31 * DAY_MS)
        gone = Node(NEWCOMER.id, "127.0.0.1:1")
        nodes = Nodes(PlainConnector(trust, b"", b""), [gone, alive.node])
        assert (await Gateway(nodes).submit(envelope())).node == FIRST.id
        assert trust.card(NEWCOMER.id) is None
        await nodes.close()
        await alive.stop()

    run(story())
    assert query.asked


def test_invalid_a_stranger_that_no_proof_names_is_never_dialled() -> None:
    query = chain_node(later(0))
    alive, stranger = FakeGateway(FIRST.id, always(final)), FakeGateway("stranger", always(final))

    async def story() -> None:
        await alive.start(query=query)
        await stranger.start()
        nodes = nodes_of(stranger, alive)
        for _ in range(3):
            assert (await Gateway(nodes).submit(envelope())).node == FIRST.id
        await nodes.close()
        alone = nodes_of(stranger)
        with pytest.raises(ProfileError, match="not known to be a member"):
            await Gateway(alone).submit(envelope(), give_up_s=0.2)
        await alive.stop()
        await stranger.stop()

    run(story())
    assert stranger.seen == []
