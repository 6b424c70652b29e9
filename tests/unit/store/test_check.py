"""The deep check finds what was damaged, in every store, names it, and leaves everything as it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from consensus.records import MutedUntil
from ledger import wire
from ledger.commitment import TWIG_LEAVES
from ledger.ports import BlockWrites, StateStore
from ledger.receipts_range import GROUP
from ledger.state import State, Table
from lossbook.v1 import block_pb2
from services.stored_chain import block_writes
from store.backup import write_backup_marker
from store.blocks import LevelBlockStore
from store.check import check_home
from store.check_state import check_leaves, check_receipts
from store.errors import HomeInUse
from store.findings import PROBLEMS_SHOWN, Finding, Problems, Verdict
from store.home import Home, HomeKind, create_home, open_home
from store.level import Level
from store.memory import MemoryStateStore
from store.sealed import SealedStore
from store.state import LevelStateStore
from store.votelog import VoteLog
from tests.support.chain import Chain
from tests.support.insurers import FIRST, policy_issue

BLOCKS = 4


def rows_of(store: StateStore) -> list[BlockWrites]:
    """What was committed to a store without filled twigs, block by block."""
    writes = []
    leaves = receipts = 0
    for height in range((store.executed_height() or 0) + 1):
        record = store.height_record(height)
        assert record is not None
        assert record.leaf_count < TWIG_LEAVES
        new_leaves = list(store.leaves(leaves, record.leaf_count))
        new_receipts = list(store.receipt_blobs(receipts, record.receipt_count))
        writes.append(BlockWrites(record, leaves, new_leaves, [], receipts, new_receipts, []))
        leaves, receipts = record.leaf_count, record.receipt_count
    return writes


def make_chain(premium_minor: int = 10_000) -> Chain:
    chain = Chain()
    for number in range(BLOCKS):
        issued = [
            policy_issue(policy_id=bytes([number, at]) * 8, premium_minor=premium_minor + number) for at in range(3)
        ]
        chain.block(*[[chain.ledger.envelope([one])] for one in issued])
    return chain


def fill(path: Path, chain: Chain) -> None:
    store = LevelStateStore(path)
    for writes in rows_of(chain.ledger.store):
        store.commit(writes, sync=True)
    store.close()


@pytest.fixture(scope="module")
def chain() -> Chain:
    return make_chain()


@pytest.fixture(scope="module")
def sound(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A node's home after some blocks."""
    home = create_home(
        tmp_path_factory.mktemp("sound") / "home", HomeKind.NODE, chain.genesis.raw, chain.genesis.chain_id, FIRST.id
    )
    blocks = LevelBlockStore(home.blocks, home.chain_id)
    for block in chain.blocks:
        blocks.commit(block_writes(block))
    blocks.close()
    fill(home.state, chain)
    votes = VoteLog.open(home.votes, home.chain_id, home.organisation)
    for view in range(1, 4):
        votes.append([wire.encode_record(MutedUntil(0, view))])
        votes.sync()
    votes.close()
    (home.keys / "consensus.key").write_bytes(b"secret")
    (home.keys / "consensus.key").chmod(0o600)
    return home


@pytest.fixture
def home(sound: Home, tmp_path: Path) -> Home:
    shutil.copytree(sound.path, tmp_path / "home")
    return open_home(tmp_path / "home", HomeKind.NODE)


def check(home: Home) -> dict[str, Finding]:
    findings = check_home(home.path)
    assert len({finding.what for finding in findings}) == len(findings)
    return {finding.what: finding for finding in findings}


def failed(home: Home) -> dict[str, str]:
    findings = check(home).values()
    assert all(finding.advice for finding in findings if finding.verdict is Verdict.FAILURE)
    return {finding.what: finding.text for finding in findings if finding.verdict is Verdict.FAILURE}


def contents(home: Home) -> dict[str, bytes]:
    return {
        str(path.relative_to(home.path)): path.read_bytes()
        for path in home.path.rglob("*")
        if path.is_file() and path.parent / path.name != home.path / "LOCK"
    }


def rewrite(path: Path, rows: dict[bytes, bytes | None]) -> None:
    """Other rows, with good checksums."""
    level = Level(path, 1 << 20, 1 << 20)
    level.write(rows, sync=True)
    level.close()


def row(path: Path, key: bytes) -> bytes:
    level = Level(path, 1 << 20, 1 << 20)
    value = level.get(key)
    level.close()
    assert value is not None
    return value


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def largest(path: Path) -> Path:
    return max(path.glob("*.l*"), key=lambda file: file.stat().st_size)


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


# -- nothing is wrong --------------------------------------------------------------------------


def test_a_store_that_is_made_anew_is_for_its_owner_only(home: Home) -> None:
    shutil.rmtree(home.state)
    LevelStateStore(home.state).close()
    assert check(home)["permissions"].verdict is Verdict.SUCCESS


def test_a_sound_home_has_nothing_to_mend_and_stays_as_it_is(home: Home) -> None:
    before = contents(home)
    findings = check(home)
    assert {finding.verdict for finding in findings.values()} == {Verdict.SUCCESS}
    expected = ["home", "permissions", "genesis", "votes", "origin", "state", "receipts", "blocks"]
    assert list(findings) == expected
    assert findings["blocks"].text == "4 final blocks, 12 batches, all whole"
    assert findings["votes"].text == "3 records, all whole"
    assert findings["receipts"].text == "12 receipts, all as committed"
    assert contents(home) == before


def test_a_new_home_has_nothing_to_mend(chain: Chain, tmp_path: Path) -> None:
    for kind in HomeKind:
        home = create_home(tmp_path / kind.value, kind, chain.genesis.raw, chain.genesis.chain_id, FIRST.id)
        assert {finding.verdict for finding in check(home).values()} == {Verdict.SUCCESS}


def test_a_replicas_home_has_no_votes_and_an_index(home: Home) -> None:
    schema = home.path / "SCHEMA"
    schema.write_bytes(schema.read_bytes().replace(b'"node"', b'"replica"'))
    shutil.rmtree(home.votes)
    rewrite(home.index, {b"row": b"value"})
    findings = check(home)
    assert "votes" not in findings
    assert findings["index"].text == "1 rows, all readable"
    flip(largest(home.index))
    assert set(failed(home)) == {"index"}
    assert "replica resync" in check(home)["index"].advice


def test_every_sealed_blob_is_compared_with_its_commitment(home: Home) -> None:
    sealed = SealedStore(home.sealed, home.chain_id)
    good, bad = sealed.put(b"one" * 50), sealed.put(b"other" * 50)
    sealed.close()
    assert check(home)["sealed"].text == "2 blobs, all as committed"
    rewrite(home.sealed, {b"s" + bad: b"forged" * 50})
    text = check(home)["sealed"].text
    assert bad.hex() in text
    assert good.hex() not in text
    flip(largest(home.sealed))
    assert set(failed(home)) == {"sealed"}
    assert "resync" not in check(home)["sealed"].advice


def test_a_home_in_use_is_refused(home: Home) -> None:
    with home.lock(), pytest.raises(HomeInUse):
        check_home(home.path)
    check_home(home.path)


def test_what_is_no_home_is_a_finding(tmp_path: Path) -> None:
    (finding,) = check_home(tmp_path)
    assert (finding.what, finding.verdict) == ("home", Verdict.FAILURE)
    assert "SCHEMA" in finding.text


def test_another_schema_is_a_finding(home: Home) -> None:
    schema = home.path / "SCHEMA"
    schema.write_bytes(schema.read_bytes().replace(b'"schema": 1', b'"schema": 9'))
    (finding,) = check_home(home.path)
    assert finding.verdict is Verdict.FAILURE
    assert "schema 9" in finding.text


def test_a_restored_home_is_worth_a_warning(home: Home) -> None:
    write_backup_marker(home.path, "restored by hand")
    assert check(home)["marker"].verdict is Verdict.WARNING


def test_few_problems_are_told_and_all_are_counted() -> None:
    problems = Problems()
    for number in range(PROBLEMS_SHOWN + 7):
        problems.add(f"problem {number}")
    text = problems.finding("x", "", "").text
    assert text.startswith("problem 0; problem 1; ")
    assert text.endswith("problem 4; and 7 more")


# -- around the stores -------------------------------------------------------------------------


def test_what_others_could_read_is_found(home: Home) -> None:
    (home.keys / "consensus.key").chmod(0o644)
    home.votes.chmod(0o755)
    text = failed(home)["permissions"]
    assert "consensus.key is open to others (mode 644)" in text
    assert "votes is open to others (mode 755)" in text


def test_another_genesis_is_found(home: Home) -> None:
    home.genesis.write_bytes(home.genesis.read_bytes() + b"\n")
    assert set(failed(home)) == {"genesis"}
    home.genesis.unlink()
    assert set(failed(home)) == {"genesis"}


# -- votes -------------------------------------------------------------------------------------


def test_damaged_votes_are_found(home: Home) -> None:
    log = next(home.votes.glob("*.log"))
    data = bytearray(log.read_bytes())
    data[-40] ^= 1
    log.write_bytes(data)
    before = contents(home)
    assert str(log) in failed(home)["votes"]
    assert "node resync" in check(home)["votes"].advice
    assert contents(home) == before


def test_a_torn_end_is_no_damage_and_is_not_cut_by_looking(home: Home) -> None:
    log = next(home.votes.glob("*.log"))
    log.write_bytes(log.read_bytes() + b"torn")
    before = contents(home)
    assert failed(home) == {}
    assert contents(home) == before


def test_a_missing_vote_log_is_found(home: Home) -> None:
    shutil.rmtree(home.votes)
    assert "no vote log" in failed(home)["votes"]
    assert not home.votes.exists()


def test_a_vote_record_of_no_known_kind_is_found(home: Home) -> None:
    votes = VoteLog.open(home.votes, home.chain_id, home.organisation)
    votes.append([b""])
    votes.close()
    assert "record 4" in failed(home)["votes"]


# -- blocks ------------------------------------------------------------------------------------


def other_batch(home: Home, chain: Chain) -> None:
    one, two = (block.batches[0].header.digest for block in chain.blocks[1:3])
    arrival, other = (row(home.blocks, b"b" + digest) for digest in (one, two))
    rewrite(home.blocks, {b"A" + arrival: one + row(home.blocks, b"A" + other)[32:]})


def garbled_envelopes(home: Home, chain: Chain) -> None:
    batch = chain.blocks[1].batches[0]
    contents = bytearray(batch.envelopes[0])
    contents[-1] ^= 1
    garbled = wire.encode_batch(batch.header.raw, batch.signature, [bytes(contents)])
    arrival = row(home.blocks, b"b" + batch.header.digest)
    rewrite(home.blocks, {b"A" + arrival: batch.header.digest + garbled})


def missing_batch(home: Home, chain: Chain) -> None:
    rewrite(home.blocks, {b"b" + chain.blocks[1].batches[0].header.digest: None})


def unreadable_batch(home: Home, chain: Chain) -> None:
    digest = chain.blocks[1].batches[0].header.digest
    rewrite(home.blocks, {b"A" + row(home.blocks, b"b" + digest): digest + b"\xff"})


def missing_proposal(home: Home, chain: Chain) -> None:
    rewrite(home.blocks, {b"p" + chain.blocks[1].header.digest: None})


def other_proposal(home: Home, chain: Chain) -> None:
    one, two = chain.blocks[1].header.digest, chain.blocks[2].header.digest
    arrival, other = row(home.blocks, b"p" + one), row(home.blocks, b"p" + two)
    rewrite(home.blocks, {b"A" + arrival: one + row(home.blocks, b"A" + other)[32:]})


def other_payload(home: Home, chain: Chain) -> None:
    digest = chain.blocks[1].header.digest
    arrival = row(home.blocks, b"p" + digest)
    changed = block_pb2.Proposal.FromString(row(home.blocks, b"A" + arrival)[32:])
    changed.payload = chain.blocks[2].payload.raw
    changed.justification = chain.blocks[2].justification.raw
    rewrite(home.blocks, {b"A" + arrival: digest + changed.SerializeToString()})


def missing_height(home: Home, chain: Chain) -> None:
    rewrite(home.blocks, {b"h" + u64(2): None})


def other_height(home: Home, chain: Chain) -> None:
    rewrite(home.blocks, {b"h" + u64(2): chain.blocks[2].header.digest})


def other_certificate(home: Home, chain: Chain) -> None:
    rewrite(home.blocks, {b"c" + u64(2): row(home.blocks, b"c" + u64(3))})


def unreadable_certificate(home: Home, chain: Chain) -> None:
    rewrite(home.blocks, {b"c" + u64(2): b"\xff"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (other_batch, "block 2: another batch is stored"),
        (garbled_envelopes, "has other envelopes than its header commits to"),
        (missing_batch, "is missing"),
        (unreadable_batch, "block 2: Batch"),
        (missing_proposal, "block 2: its header and payload are missing"),
        (other_proposal, "block 2: another block is stored under its digest"),
        (other_payload, "block 2: its justification is not the one its header commits to; block 2: its payload is not"),
        (missing_height, "block 2: its height is missing"),
        (other_height, "block 2: it is of another height"),
        (other_certificate, "block 2: its certificate is another block's"),
        (unreadable_certificate, "block 2: "),
    ],
)
def test_damage_among_the_blocks_is_found(
    home: Home, chain: Chain, damage: Callable[[Home, Chain], None], words: str
) -> None:
    damage(home, chain)
    before = contents(home)
    found = failed(home)
    assert set(found) == {"blocks"}
    assert words in found["blocks"]
    assert contents(home) == before


@pytest.mark.parametrize("name", ["blocks", "state"])
def test_a_flipped_bit_and_a_lost_file_are_found(home: Home, name: str) -> None:
    store = home.path / name
    good = contents(home)
    flip(largest(store))
    assert name in failed(home)
    current = store / "CURRENT"
    current.unlink()
    assert "CURRENT is missing" in failed(home)[name]
    shutil.rmtree(store)
    assert "directory is missing" in failed(home)[name]
    assert {path for path in good if not path.startswith(name)} == set(contents(home))


def test_blocks_that_were_lost_behind_the_state_are_found(home: Home) -> None:
    shutil.rmtree(home.blocks)
    home.blocks.mkdir(mode=0o700)
    found = failed(home)
    assert set(found) == {"blocks"}
    assert found["blocks"] == "the state is executed up to height 4, final blocks end at 0"


def test_a_state_that_is_whole_and_not_what_the_network_certified_is_found(home: Home) -> None:
    shutil.rmtree(home.state)
    fill(home.state, make_chain(premium_minor=20_000))
    found = failed(home)
    assert set(found) == {"blocks"}
    assert "block 1: the state was executed from another block" in found["blocks"]
    assert "block 2: it commits to other roots after height 1 than the state has" in found["blocks"]


# -- state -------------------------------------------------------------------------------------


def test_damage_in_the_state_is_found(home: Home) -> None:
    leaf = row(home.state, b"L" + u64(1))
    changed = leaf[:-1] + bytes([leaf[-1] ^ 1])
    rewrite(home.state, {b"L" + u64(1): changed})
    assert set(failed(home)) == {"state"}
    rewrite(home.state, {b"L" + u64(1): b"short"})
    assert "leaf 1" in failed(home)["state"]
    rewrite(home.state, {b"L" + u64(1): None})
    assert "missing" in failed(home)["state"]
    rewrite(home.state, {b"L" + u64(1): leaf})
    assert failed(home) == {}


def test_damage_among_the_receipts_is_found(home: Home) -> None:
    receipt = row(home.state, b"R" + u64(4))
    rewrite(home.state, {b"R" + u64(4): receipt + b"\0"})
    assert failed(home) == {"receipts": "the receipts up to height 2 do not lead to its receipts root"}
    rewrite(home.state, {b"R" + u64(4): None})
    assert set(failed(home)) == {"receipts"}


def test_a_damaged_height_is_found_by_all_who_need_it(home: Home) -> None:
    rewrite(home.state, {b"H" + u64(2): row(home.state, b"H" + u64(3))})
    assert set(failed(home)) == {"state", "receipts", "blocks"}


def test_a_state_of_another_beginning_is_found(home: Home, chain: Chain) -> None:
    (first, *_) = rows_of(chain.ledger.store)
    anew = MemoryStateStore()
    state = State.open(anew)
    state.put(NUMBERS, b"alien", Number(1))
    alien = state.commit(0, first.record.timestamp_ms, ())
    shutil.rmtree(home.state)
    store = LevelStateStore(home.state)
    store.commit(alien, sync=True)
    store.close()
    assert failed(home)["origin"] == "the state of height 0 is not that of the genesis"


class Number(msgspec.Struct, frozen=True, gc=False, array_like=True):
    number: int


NUMBERS = Table(200, Number)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with filled twigs and groups, and removed keys."""
    path = tmp_path_factory.mktemp("large") / "state"
    store = LevelStateStore(path)
    state = State.open(store)
    for height in range(4):
        for at in range(1500):
            state.put(NUMBERS, u64(at + height * 500), Number(height))
        state.delete(NUMBERS, u64(height * 500))
        store.commit(state.commit(height, height, [b"receipt %d %d" % (height, at) for at in range(1500)]))
    store.close()
    return path


def test_filled_twigs_and_groups_are_hashed_again(large: Path, tmp_path: Path) -> None:
    path = tmp_path / "state"
    shutil.copytree(large, path)
    check_large(path, state="", receipts="")
    twig, group = row(path, b"T" + u64(1)), row(path, b"G" + u64(1))
    rewrite(path, {b"T" + u64(1): bytes(32), b"G" + u64(1): bytes(32)})
    check_large(
        path,
        state="the stored root of twig 1 is not that of its leaves",
        receipts="the stored root of group 1 is not that of its receipts",
    )
    rewrite(path, {b"T" + u64(1): twig, b"G" + u64(1): group})
    leaf = row(path, b"L" + u64(TWIG_LEAVES - 1))
    rewrite(path, {b"L" + u64(TWIG_LEAVES - 1): leaf[:-1] + bytes([leaf[-1] ^ 1]), b"R" + u64(GROUP - 1): b"other"})
    check_large(path, state="stored root of twig 0", receipts="stored root of group 0")
    rewrite(path, {b"T" + u64(1): None, b"G" + u64(1): None, b"R" + u64(9): None})
    check_large(path, state="twig 0", receipts="row R 9 is missing")


def check_large(path: Path, *, state: str, receipts: str) -> None:
    store = LevelStateStore(path)
    for finding, words in ((check_leaves(store, "advice"), state), (check_receipts(store, "advice"), receipts)):
        assert (finding.verdict is Verdict.FAILURE) == bool(words), finding
        assert words in finding.text
    store.close()


def test_a_removal_of_what_is_not_there_is_found(large: Path, tmp_path: Path) -> None:
    path = tmp_path / "state"
    shutil.copytree(large, path)
    leaf = row(path, b"L" + u64(0))
    key_bytes = 1 + len(u64(0))
    removal = bytes([2]) + leaf[1:9] + u64(1) + leaf[17:19] + bytes(4) + leaf[23 : 23 + key_bytes]
    rewrite(path, {b"L" + u64(0): removal})
    check_large(path, state="leaf 0 removes a key that is not there", receipts="")
