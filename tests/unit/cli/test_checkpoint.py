"""``lossbook checkpoint`` and the proofs that start from one: made, signed, accepted, and never left again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crypto import keyfile
from ledger import operations as ops
from ledger import proof_building, wire
from ledger.checkpoints import DAY_MS, decode_checkpoint, encode_checkpoint
from ledger.epochs import EPOCHS, MEMBERSHIP
from ledger.organisations import ORGANISATIONS
from ledger.proof_types import Proof
from ledger.proofs import verify_proof
from ledger.state import Table
from ledger.types import Block
from ledger.wire.proofs import encode_proof
from lossbook_sdk.pins import DIRECTORY_VARIABLE
from lossbook_sdk.query import Found
from replica.init import init_home
from tests.support.commands import document, lossbook
from tests.support.epoch_chain import EpochChain
from tests.support.insurers import (
    GENESIS_TIME_MS,
    INSURERS,
    SUPERVISOR,
    Organisation,
    key_of,
    make_genesis,
    market_genesis,
)

TABLES: dict[bytes, Table[Any]] = {each.prefix: each for each in (ORGANISATIONS, MEMBERSHIP, EPOCHS)}


class Session:
    """A client of a node that holds a chain; proofs are made and checked as everywhere."""

    def __init__(self, chain: EpochChain, organisation: str) -> None:
        self.chain = chain
        self.genesis = chain.genesis
        self.query = Query(chain)
        self.profile = SimpleNamespace(organisation=organisation)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    def record(self, key: bytes, *, prove: bool = False) -> Found | None:
        assert prove, "nothing is taken on a node's word"
        chain = self.chain
        proof = Proof(
            chain.genesis.chain_id, proof_building.record_proof(chain, chain.ledger.state, table(key), key[1:])
        )
        proven = verify_proof(proof, chain.genesis)
        return Found(key, proven.value, proven.header.state_height, "alpha", proof, proven)


class Query:
    def __init__(self, chain: EpochChain) -> None:
        self.chain = chain

    async def records(self, prefix: bytes, *, limit: int | None = None) -> AsyncIterator[Found]:
        for key, value in self.chain.ledger.state.committed_after(table(prefix)):
            yield Found(prefix + key, value, 1, "alpha")

    async def block(self, height: int) -> Block | None:
        found = self.chain.final_header(height)
        if found is None:
            return None
        justified, payload = found.justified, wire.encode_payload(())
        return Block(justified.header, justified.justification, payload, (), found.finalization, found.tails)


def table(key: bytes) -> Table[Any]:
    return TABLES[key[:1]]


def two_epochs(*, fork: bool = False) -> EpochChain:
    """Epoch 0 ends with a tail; a fork of it renews with another member gone."""
    made = EpochChain()
    made.block()
    if fork:
        made.block()
    made.change("next", ops.SetChange(remove=(INSURERS[3 if fork else 0].id,)), tails=(0,))
    made.block(finalized=False)
    made.block()
    made.block()
    return made


@pytest.fixture(scope="module")
def chain() -> EpochChain:
    return two_epochs()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chain: EpochChain) -> Path:
    """Ledger keys, the genesis, and a clock some days after it."""
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "pins"))
    at_day(monkeypatch, 10)
    talk_to(monkeypatch, chain)
    (tmp_path / "genesis.json").write_bytes(market_genesis().raw)
    for organisation in (*INSURERS, SUPERVISOR):
        key = tmp_path / f"{organisation.id}.key"
        keyfile.save(key, organisation.ledger_key, "ledger", None, unsafe_plaintext=True)
    return tmp_path


def at_day(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr("lossbook_sdk.envelopes.now_ms", lambda: GENESIS_TIME_MS + number * DAY_MS)


def talk_to(monkeypatch: pytest.MonkeyPatch, chain: EpochChain) -> None:
    @contextmanager
    def client(profile: str | None = None, *_: object) -> Iterator[Session]:
        yield Session(chain, profile or SUPERVISOR.id)

    monkeypatch.setattr("cli.session.client", client)


def made(desk: Path, *by: Organisation, name: str = "checkpoint.json") -> Path:
    """A checkpoint that the supervisor made and these signed."""
    out = desk / name
    lossbook("checkpoint", "make", "--out", out, "--key", desk / "supervisor.key")
    for organisation in by:
        lossbook(*signing(desk, organisation, out))
    return out


def signing(desk: Path, organisation: Organisation, file: Path) -> tuple[object, ...]:
    """How its people sign a file."""
    return ("checkpoint", "sign", file, "--key", desk / f"{organisation.id}.key", "--profile", organisation.id)


def test_a_list_that_no_honest_node_gives_is_the_nodes_fault(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def records(self: Query, prefix: bytes, *, limit: int | None = None) -> AsyncIterator[Found]:
        yield Found(prefix + b"\xff\xfe", b"\x00garbage", 1, "alpha")

    monkeypatch.setattr(Query, "records", records)
    refused = lossbook("checkpoint", "make", "--out", desk / "out.json", "--key", desk / "supervisor.key", code=4)
    assert "alpha served does not verify" in refused.output
    assert "defect" not in refused.output


def proof_of(chain: EpochChain, path: Path, height: int | None = None) -> Path:
    """A proof of epoch 0's record under the last block (of this height)."""
    subject = proof_building.record_proof(chain, chain.ledger.state, EPOCHS, bytes(8))
    path.write_bytes(encode_proof(Proof(chain.genesis.chain_id, subject)))
    return path


# -- making and signing --------------------------------------------------------------------------


def test_the_supervisor_makes_it_members_sign_it_and_anybody_accepts_it(desk: Path, chain: EpochChain) -> None:
    file = made(desk, INSURERS[1], INSURERS[2])
    genesis = ("--genesis", desk / "genesis.json")
    shown = document("checkpoint", "verify", file, *genesis)
    assert shown["confirmed_by"] == ["insurer-2", "insurer-3", "supervisor"]
    assert (shown["epoch"], shown["height"]) == (1, chain.finalized_height())
    assert shown["members"] == ["insurer-2", "insurer-3", "insurer-4"]
    assert shown["header_digest"] == chain.headers[-1].justified.header.digest.hex()
    assert shown["believed_before"] == "the genesis"
    assert not list((desk / "pins").glob("*")), "verify changes nothing"
    accepted = document("checkpoint", "accept", file, *genesis)
    assert Path(accepted["kept_in"]).read_bytes() == file.read_bytes()
    again = document("checkpoint", "verify", file, *genesis)
    assert again["believed_before"] == f"the checkpoint of height {chain.finalized_height()}"


def test_people_read_what_they_sign(desk: Path) -> None:
    out = lossbook("checkpoint", "make", "--out", desk / "c.json", "--key", desk / "supervisor.key").output
    for words in (
        "height",
        "valset_hash".replace("valset_hash", "validator set"),
        "state root",
        "signed by",
        "supervisor",
    ):
        assert words in out


def test_invalid_a_key_of_nobody_concerned(desk: Path) -> None:
    said = lossbook("checkpoint", "make", "--out", desk / "c.json", "--key", desk / "insurer-1.key", code=1).output
    assert "ledger key of no supervisor and no validator of that block" in said
    assert not (desk / "c.json").exists()


def test_invalid_members_do_not_sign_what_their_own_node_does_not_prove(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk_to(monkeypatch, two_epochs(fork=True))
    file = made(desk)
    before = file.read_bytes()
    longer = two_epochs()
    for _ in range(5):
        longer.block()
    talk_to(monkeypatch, longer)
    said = lossbook(*signing(desk, INSURERS[1], file), code=4).output
    assert "is not what your own node proves: valset_hash, header_digest" in said
    assert file.read_bytes() == before


def test_a_member_whose_node_is_behind_is_told_to_wait(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made(desk)
    behind = EpochChain()
    behind.block()
    behind.block()
    talk_to(monkeypatch, behind)
    said = lossbook(*signing(desk, INSURERS[1], file), code=1).output
    assert "no final block of height" in said


def test_invalid_a_file_of_another_network_is_named_before_a_key_is_asked_for(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(desk)
    before = file.read_bytes()
    other = EpochChain()
    other.genesis = make_genesis(INSURERS)
    talk_to(monkeypatch, other)
    said = lossbook("checkpoint", "sign", file, "--key", desk / "none.key", code=4).output
    assert f"is of network {market_genesis().chain_id.hex()[:16]}, and your profile is of" in said
    assert other.genesis.chain_id.hex()[:16] in said
    assert file.read_bytes() == before


def test_invalid_another_organisations_key(desk: Path) -> None:
    file = made(desk)
    before = file.read_bytes()
    words = ("--key", desk / "insurer-2.key", "--profile", "insurer-3")
    for verb in (("make", "--out", desk / "other.json"), ("sign", file)):
        said = lossbook("checkpoint", *verb, *words, code=1).output
        assert "this is the ledger key of insurer-2, and your profile is insurer-3's. Nothing was signed" in said
    assert file.read_bytes() == before
    assert not (desk / "other.json").exists()


def test_invalid_a_file_that_is_there_is_not_written_over(desk: Path) -> None:
    file = made(desk, INSURERS[1])
    before = file.read_bytes()
    said = lossbook("checkpoint", "make", "--out", file, "--key", desk / "supervisor.key", code=1).output
    assert "exists already and is not written over" in said
    assert file.read_bytes() == before


# -- verifying and accepting -----------------------------------------------------------------------


def test_invalid_too_few_signatures(desk: Path) -> None:
    file = made(desk, INSURERS[1])
    for verb in ("verify", "accept"):
        said = lossbook("checkpoint", verb, file, "--genesis", desk / "genesis.json", code=4).output
        assert "1 more of insurer-1, insurer-3, insurer-4" in said
        assert "lossbook checkpoint sign" in said


def test_invalid_files(desk: Path) -> None:
    genesis = ("--genesis", desk / "genesis.json")
    for words in (("checkpoint", "verify"), ("checkpoint", "accept")):
        assert "No such file" in lossbook(*words, desk / "none.json", *genesis, code=1).output
    (desk / "bad.json").write_text("{}")
    assert "this is no checkpoint" in lossbook("checkpoint", "verify", desk / "bad.json", *genesis, code=4).output
    file = made(desk)
    assert "--home of a replica, or --genesis" in lossbook("checkpoint", "accept", file, code=2).output
    (desk / "pins").mkdir()
    (desk / "pins" / f"{market_genesis().chain_id.hex()}.json").write_text("{}")
    assert "Remove the file" in lossbook("checkpoint", "verify", file, *genesis, code=4).output


def test_signatures_that_do_not_count_are_named_with_the_reason(desk: Path) -> None:
    file = made(desk, INSURERS[1], INSURERS[2])
    thief = key_of("insurer-4", "stolen and replaced")
    file.write_bytes(encode_checkpoint(decode_checkpoint(file.read_bytes()).signed("insurer-4", thief)))
    words = ("checkpoint", "verify", file, "--genesis", desk / "genesis.json")
    shown = document(*words)
    assert shown["confirmed_by"] == ["insurer-2", "insurer-3", "supervisor"]
    assert shown["not_counted"] == {"insurer-4": "the signature is bad"}
    assert "insurer-4: the signature is bad" in lossbook(*words).output


def test_a_stopped_replica_accepts_and_keeps_it(desk: Path) -> None:
    (desk / "keys").mkdir()
    keyfile.save(desk / "keys" / "ledger.key", SUPERVISOR.ledger_key, "ledger", None, unsafe_plaintext=True)
    home = init_home(desk / "home", genesis=desk / "genesis.json", keys=desk / "keys", passphrase=None).path
    file = made(desk, INSURERS[1], INSURERS[2])
    shown = document("checkpoint", "accept", file, "--home", home)
    assert shown["confirmed_by"] == ["insurer-2", "insurer-3", "supervisor"]
    assert (home / "checkpoint.json").read_bytes() == file.read_bytes()
    few = made(desk, name="few.json")
    said = lossbook("checkpoint", "accept", few, "--home", home, code=4).output
    assert "asks for 1 more of insurer-2, insurer-3, insurer-4" in said, "f + 1 of the three who vote by now"
    assert (home / "checkpoint.json").read_bytes() == file.read_bytes()


# -- proofs that start from one --------------------------------------------------------------------


def test_a_long_range_fork_by_old_keys_is_refused_once_a_checkpoint_was_accepted(desk: Path, chain: EpochChain) -> None:
    genesis = ("--genesis", desk / "genesis.json")
    forged = proof_of(two_epochs(fork=True), desk / "forged.proof")
    assert document("proof", "verify", forged, *genesis)["from"] == "the genesis", "old keys sign as well as new ones"
    lossbook("checkpoint", "accept", made(desk, INSURERS[1], INSURERS[2]), *genesis)
    said = lossbook("proof", "verify", forged, *genesis, code=4).output
    assert "Two histories were signed" in said
    later = two_epochs()
    later.block()
    later.block()
    shown = document("proof", "verify", proof_of(later, desk / "good.proof"), *genesis)
    assert shown["from"] == f"the checkpoint of height {chain.finalized_height()}"


def test_a_checkpoint_may_be_named_for_one_verification(desk: Path, chain: EpochChain) -> None:
    genesis = ("--genesis", desk / "genesis.json")
    forged = proof_of(two_epochs(fork=True), desk / "forged.proof")
    file = made(desk, INSURERS[1], INSURERS[2])
    lossbook("proof", "verify", forged, *genesis, "--checkpoint", file, code=4)
    assert document("proof", "verify", forged, *genesis)["verified"], "it was not accepted for good"
    few = made(desk, name="few.json")
    assert "asks for" in lossbook("proof", "verify", forged, *genesis, "--checkpoint", few, code=4).output


def test_invalid_a_proof_below_the_accepted_checkpoint(desk: Path, chain: EpochChain) -> None:
    genesis = ("--genesis", desk / "genesis.json")
    early = EpochChain()
    early.block()
    proof = proof_of(early, desk / "early.proof")
    document("proof", "verify", proof, *genesis)
    lossbook("checkpoint", "accept", made(desk, INSURERS[1], INSURERS[2]), *genesis)
    assert "Ask for the proof anew" in lossbook("proof", "verify", proof, *genesis, code=4).output


def test_past_the_trusting_period_a_proof_is_not_believed_silently(
    desk: Path, chain: EpochChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = ("proof", "verify", proof_of(chain, desk / "p.proof"), "--genesis", desk / "genesis.json")
    at_day(monkeypatch, 31)
    said = lossbook(*verify, code=4).output
    assert "the genesis is 31 days old by this machine's clock, and the trusting period is 30 days" in said
    assert "lossbook checkpoint accept" in said
    assert document(*verify, "--trusting-period", 40)["verified"]
    assert document(*verify, "--unsafe-old-anchor")["verified"]
