"""``lossbook evidence``: what a person sees of it, and what convicts nobody ends with exit code 4."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from consensus.evidence import ConflictingVotes
from consensus.types import Vote
from consensus.votes import vote_message
from ledger import proof_building, wire
from ledger.evidence import EVIDENCE, EvidenceRecord, key_of_act
from ledger.operations import SetChange
from ledger.proof_building import FinalHeader
from ledger.proof_types import HandOver, Proof
from ledger.proofs import verify_proof
from ledger.types import Block, JustifiedHeader, KeyRegistration, Statement
from ledger.wire.proofs import encode_proof
from lossbook.v1 import block_pb2
from lossbook_sdk.query import Found
from lossbook_sdk.trust import Trust
from tests.support.chain import Chain
from tests.support.commands import document, lossbook
from tests.support.epoch_chain import EpochChain
from tests.support.evidence import N, X, forged_statement, market_vote, statement
from tests.support.insurers import INSURERS, market_genesis
from tests.support.voting import next_key

NAME = "0-2-1-7"
LISTED = statement(2, view=7)


class Session:
    """A client of a node that holds a chain; proofs are made and checked as everywhere."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.genesis = chain.genesis
        self.trust = Trust(chain.genesis)
        self.query = Query(chain)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    def record(self, key: bytes, *, prove: bool = False) -> Found | None:
        return self.run(self.query.record(key, prove=prove))  # type: ignore[no-any-return]


class Query:
    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def finalized_height(self) -> int:
        return len(self.chain.blocks)

    def final_header(self, height: int) -> FinalHeader | None:
        block = self.chain.blocks[height - 1] if 1 <= height <= len(self.chain.blocks) else None
        return FinalHeader(JustifiedHeader(block.header, block.justification), block.finalization) if block else None

    first_epoch = 0  #: of the genesis

    def hand_over(self, epoch: int) -> HandOver | None:
        """All of it happens in epoch 0."""
        return None

    async def records(self, prefix: bytes, *, limit: int | None = None) -> AsyncIterator[Found]:
        for at, (key, value) in enumerate(self.chain.ledger.state.committed_after(EVIDENCE)):
            if at != limit:
                yield Found(prefix + key, value, self.finalized_height(), "alpha")

    async def record(self, key: bytes, *, prove: bool) -> Found | None:
        assert prove, "nothing is shown on a node's word"
        if self.chain.ledger.state.committed_bytes(EVIDENCE, key[1:]) is None:
            return None
        subject = proof_building.record_proof(self, self.chain.ledger.state, EVIDENCE, key[1:])
        proof = Proof(self.chain.genesis.chain_id, subject)
        proven = verify_proof(proof, self.chain.genesis)
        return Found(key, proven.value, proven.header.state_height, "alpha", proof, proven)

    async def block(self, height: int) -> Block | None:
        return self.chain.blocks[height - 1]


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Two insurers are recorded; the second block certifies the state after the first."""
    made = Chain()
    made.block(statements=[LISTED.raw, statement(1, view=3).raw])
    made.block()

    @contextmanager
    def client(*_: object) -> Iterator[Session]:
        yield Session(made)

    monkeypatch.setattr("cli.session.client", client)
    return made


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(market_genesis().raw)
    return path


def test_the_list_names_culprit_act_and_block(chain: Chain) -> None:
    first, second = document("evidence", "list")["evidence"]
    assert (first["evidence"], first["organisation"], first["kind"]) == ("0-1-1-3", INSURERS[1].id, "two-notarize")
    assert (second["evidence"], second["view"], second["height"]) == (NAME, 7, 1)
    shown = lossbook("evidence", "list").output
    assert NAME in shown
    assert INSURERS[2].id in shown
    assert document("evidence", "list", "--limit", 1)["more"]


def test_what_is_shown_can_be_handed_on_and_checked_by_anybody(chain: Chain, genesis: Path, tmp_path: Path) -> None:
    out, proof = tmp_path / "double.evidence", tmp_path / "record.proof"
    shown = document("evidence", "show", NAME, "--out", out, "--prove", proof)
    assert (shown["against"], shown["breach"], shown["proven_at"]) == (INSURERS[2].id, "two-notarize", 1)
    assert shown["first_vote"].startswith("notarize ")
    assert out.read_bytes() == LISTED.raw
    words = ("evidence", "verify", out, "--genesis", genesis, "--proof", proof, "--unsafe-old-anchor")
    checked = document(*words)
    assert checked["verified"]
    assert (checked["against"], checked["in_view"], checked["height"]) == (INSURERS[2].id, 7, 1)
    verify = ("proof", "verify", proof, "--genesis", genesis, "--unsafe-old-anchor")
    assert document(*verify)["fields"]["organisation"] == INSURERS[2].id
    told = lossbook("evidence", "show", NAME, "--out", out, "--prove", proof).output
    assert f"lossbook evidence verify {out} --genesis genesis.json --proof {proof}" in told
    assert "convicts nobody" in lossbook("evidence", "show", NAME, "--out", out).output
    assert "two-notarize" in lossbook(*words).output


def test_a_stolen_key_of_an_epoch_that_is_over_convicts_nobody(genesis: Path, tmp_path: Path) -> None:
    """Whoever kept insurer-3's key of epoch 0 signs two votes years later; no ledger takes them any more."""
    forged = tmp_path / "forged.evidence"
    forged.write_bytes(statement(2, view=1_000).raw)
    said = lossbook("evidence", "verify", forged, "--genesis", genesis, code=4).output
    assert f"the key that {INSURERS[2].id} had in epoch 0" in said
    assert "convicts nobody" in said
    made = Later(tmp_path)
    words = ("--proof", made.proof, "--unsafe-old-anchor")
    assert (
        "not the proof of this"
        in lossbook(*("evidence", "verify", forged, "--genesis", genesis, *words), code=4).output
    ), "neither with the record of something that did happen"


def test_a_record_that_is_not_there(chain: Chain) -> None:
    assert "evidence list" in lossbook("evidence", "show", "0-3-1-7", code=1).output


@pytest.mark.parametrize("name", ["x", "0-2-1", "0-2-1-7-9", "0-2-999-7", "0-2-1--7", f"0-2-1-{1 << 64}"])
def test_invalid_names(name: str) -> None:
    assert "EPOCH-SIGNER-KIND-VIEW" in lossbook("evidence", "show", "--", name, code=2).output


def test_invalid_block_without_the_evidence_that_the_record_names(chain: Chain) -> None:
    chain.blocks[0] = chain.blocks[1]
    assert "does not hold the evidence" in lossbook("evidence", "show", NAME, code=4).output


def legal_pair() -> bytes:
    first, second = (wire.encode_vote(market_vote(kind, 1, 2)) for kind in (N, X))
    votes = block_pb2.ConflictingVotes(first=first, second=second)
    return block_pb2.Statement(conflicting_votes=votes).SerializeToString(deterministic=True)


def of_epoch(epoch: int) -> bytes:
    return wire.encode_statement(ConflictingVotes(*(market_vote(N, 1, 2, block, epoch=epoch) for block in "ab"))).raw


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (forged_statement(2).raw, "bad signature"),
        (legal_pair(), "honest"),
        (wire.encode_statement(KeyRegistration(0, 2, bytes(32), bytes(64), bytes(64))).raw, "accuses nobody"),
        (of_epoch(3), "of epoch 3"),
        (b"", "is no evidence"),
        (LISTED.raw[:-1], "is no evidence"),
        (bytes((256 << 10) + 1), "at most"),
    ],
    ids=["forged", "legal pair", "a key", "later epoch", "empty", "cut", "too long"],
)
def test_invalid_evidence_ends_with_exit_code_4(raw: bytes, why: str, genesis: Path, tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(raw)
    assert why in lossbook("evidence", "verify", tmp_path / "it", "--genesis", genesis, code=4).output


class Later:
    """A breach in epoch 1, recorded there; its evidence and its record's proof in files."""

    def __init__(self, folder: Path, *, record_of: Statement | None = None) -> None:
        chain = EpochChain()
        chain.change("renew", SetChange())
        votes = [
            Vote(
                N,
                1,
                7,
                0,
                digest,
                2,
                next_key(INSURERS[2].id, 1).sign(vote_message(chain.genesis.chain_id, N, 1, 7, 0, digest)),
            )
            for digest in (b"\1" * 32, b"\2" * 32)
        ]
        self.statement = wire.encode_statement(ConflictingVotes(*votes))
        named = record_of or self.statement
        record = EvidenceRecord(1, INSURERS[2].id, 1, 7, chain.finalized_height(), 1, named.digest)
        key = key_of_act(1, 2, 1, 7)
        chain.ledger.state.put(EVIDENCE, key, record)
        chain.ledger.block()
        chain.block()
        chain.block()
        self.evidence, self.proof = folder / "later.evidence", folder / "later.proof"
        self.evidence.write_bytes(self.statement.raw)
        subject = proof_building.record_proof(chain, chain.ledger.state, EVIDENCE, key)
        self.proof.write_bytes(encode_proof(Proof(chain.genesis.chain_id, subject)))


def test_evidence_of_a_later_epoch_is_checked_with_the_proof_of_its_record(genesis: Path, tmp_path: Path) -> None:
    made = Later(tmp_path)
    words = ("evidence", "verify", made.evidence, "--genesis", genesis, "--unsafe-old-anchor")
    assert "--proof" in lossbook(*words, code=4).output
    shown = document(*words, "--proof", made.proof)
    assert (shown["against"], shown["in_epoch"], shown["in_view"]) == (INSURERS[2].id, 1, 7)


def test_invalid_evidence_with_the_proof_of_another_record(genesis: Path, tmp_path: Path) -> None:
    made = Later(tmp_path, record_of=LISTED)
    words = ("evidence", "verify", made.evidence, "--genesis", genesis, "--unsafe-old-anchor", "--proof", made.proof)
    assert "not the proof of this" in lossbook(*words, code=4).output


def test_invalid_evidence_of_another_network(genesis: Path, tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(LISTED.raw)
    other = tmp_path / "other.json"
    other.write_bytes(genesis.read_bytes().replace(b'"name": "', b'"name": "x', 1))
    lossbook("evidence", "verify", tmp_path / "it", "--genesis", other, "--chain-id", "00" * 32, code=4)
    lossbook("evidence", "verify", tmp_path / "it", "--genesis", other, code=4)


def test_a_missing_file(genesis: Path, tmp_path: Path) -> None:
    assert "No such file" in lossbook("evidence", "verify", tmp_path / "none", "--genesis", genesis, code=1).output
