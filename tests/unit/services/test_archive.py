"""The books of the one home that is left, handed on: whole, provable, and refused where any part is altered."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from consensus.types import Certificate, Header, VoteKind
from consensus.votes import vote_message
from contracts.dispatch import CONTRACTS
from contracts.records import POLICIES
from contracts.tables import TABLES
from ledger import wire
from ledger.archive import ArchiveError, BooksEndTooEarly
from ledger.checkpoints import Checkpoint, confirmers_of, make_checkpoint
from ledger.epochs import Seat
from ledger.execution import ExecutableBlock, Execution, ListedBatch
from ledger.genesis import Genesis, load_genesis, write_genesis_state
from ledger.header_chain import EpochStart
from ledger.parameters import Parameters
from ledger.sealed import Commitment, commitment_of, sealed_in
from ledger.state import State, Table
from ledger.succession import SuccessionError, assemble_on
from ledger.types import Block
from ledger.wire.archives import decode_archive_head, encode_archive_head
from lossbook.v1 import block_pb2
from services.archive_file import ArchiveFile, ArchiveWriter, Frame
from services.archive_making import HomeUnfit, Made, make_archive, missing_blobs
from services.archive_reading import Restored, restore, take_over
from services.stored_chain import block_writes
from store.blocks import LevelBlockStore
from store.errors import HomeInUse
from store.home import HomeKind, create_home, open_home
from store.level import Level
from store.memory import MemoryStateStore
from store.sealed import SealedStore
from store.state import LevelStateStore
from tests.support.chain import Chain
from tests.support.insurers import INSURERS, make_genesis, policy_issue
from tests.support.rebuilt import cards
from tests.support.snapshots import policies
from tests.vectors import small_network


def lost() -> Chain:
    """Five blocks; the last lists envelopes, so its state is certified by nobody."""
    chain = Chain()
    ledger = chain.ledger
    chain.block([ledger.envelope([policy_issue()])])
    chain.block(policies(ledger, 3), policies(ledger, 2, first=3))
    chain.block(skipped_views=1)
    chain.block(policies(ledger, 2, first=5))
    chain.block(policies(ledger, 1, first=7))
    return chain


def make_home(path: Path, chain: Chain, executed: int | None = None, kind: HomeKind = HomeKind.REPLICA) -> Path:
    """A stopped daemon's home that holds the chain as final, executed up to a height."""
    return home_of(path, chain.genesis, chain.blocks, executed, kind)


def home_of(
    path: Path,
    genesis: Genesis,
    final: Sequence[Block],
    executed: int | None = None,
    kind: HomeKind = HomeKind.REPLICA,
) -> Path:
    """A home that holds these blocks."""
    home = create_home(path, kind, genesis.raw, genesis.chain_id, genesis.organisations[0].id)
    with closing(LevelBlockStore(home.blocks, genesis.chain_id)) as blocks:
        for block in final:
            blocks.commit(block_writes(block))
    with closing(LevelStateStore(home.state)) as store:
        state = State.open(store)
        write_genesis_state(genesis, state)
        store.commit(state.commit(0, genesis.time_ms, ()))
        execution = Execution(state, CONTRACTS)
        for block in final[:executed]:
            store.commit(execution.run(_executable(block)).writes)
    return path


def _executable(block: Block) -> ExecutableBlock:
    listed = [ListedBatch(one.header, [wire.decode_envelope(raw) for raw in one.envelopes]) for one in block.batches]
    statements = [wire.decode_statement(raw) for raw in block.payload.statements]
    return ExecutableBlock.of(block.header, listed, statements)


@pytest.fixture(scope="module")
def chain() -> Chain:
    return lost()


@pytest.fixture(scope="module")
def home(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("survivor") / "home", chain)


@pytest.fixture(scope="module")
def made(home: Path) -> Made:
    return make_archive(home, home.parent / "books", CONTRACTS, TABLES)


@pytest.fixture
def archive(made: Made, home: Path) -> Path:
    return home.parent / "books"


def opened(path: Path, genesis: Genesis) -> Restored:
    return restore(ArchiveFile(path), genesis, MemoryStateStore(), CONTRACTS)


def frames(path: Path) -> list[tuple[Frame, bytes]]:
    return list(ArchiveFile(path).frames())


def written(path: Path, parts: Sequence[tuple[Frame, bytes]]) -> Path:
    """An archive of these frames, with a digest that fits: what somebody makes who means to deceive."""
    with path.open("wb") as file:
        writer = ArchiveWriter(file)
        for kind, content in parts:
            writer.write(kind, content)
        writer.finish()
    return path


# -- what it says, and what comes out of it


def test_it_ends_with_the_last_final_block_and_says_so(chain: Chain, made: Made) -> None:
    head = chain.ledger.state.head
    assert head is not None
    assert (made.height, made.finalized_height, made.executed_here) == (5, 5, 0)
    assert (made.state_root, made.receipts_root, made.receipts) == (head.state_root, head.receipts_root, 9)


def test_what_comes_out_is_what_everybody_had(chain: Chain, archive: Path) -> None:
    restored, lived = opened(archive, chain.genesis), chain.ledger.state
    assert restored.head == lived.head
    for table in TABLES:
        assert list(restored.state.iterate(table)) == list(lived.iterate(table))
    count = restored.head.receipt_count
    assert list(restored.state.receipt_blobs(0, count)) == list(lived.receipt_blobs(0, count))
    assert restored.end.finalization == chain.blocks[-1].finalization


@pytest.mark.parametrize("executed", [0, 2, 4])
def test_what_was_final_and_not_executed_is_executed_first(
    chain: Chain, made: Made, tmp_path: Path, executed: int
) -> None:
    home = make_home(tmp_path / "home", chain, executed)
    behind = make_archive(home, tmp_path / "books", CONTRACTS, TABLES)
    assert behind.executed_here == 5 - executed
    assert (behind.height, behind.state_root, behind.digest) == (5, made.state_root, made.digest)


def test_a_validators_home_gives_the_same_archive_as_a_replicas(chain: Chain, made: Made, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", chain, kind=HomeKind.NODE)
    assert make_archive(home, tmp_path / "books", CONTRACTS, TABLES).digest == made.digest


def test_the_first_block_alone_can_be_carried_on(tmp_path: Path) -> None:
    chain = Chain()
    chain.block([chain.ledger.envelope([policy_issue()])])
    make_archive(make_home(tmp_path / "home", chain), tmp_path / "books", CONTRACTS, TABLES)
    assert [kind for kind, _ in frames(tmp_path / "books")] == [Frame.HEAD, Frame.BLOCK]
    assert opened(tmp_path / "books", chain.genesis).head == chain.ledger.state.head


def archive_up_to(path: Path, network: small_network.Network, last: int, behind: int = 0) -> Made:
    """The books of a home that holds these blocks, in ``path / "books"``."""
    final = [
        msgspec.structs.replace(block, tails=network.tails.get(block.header.height, ()))
        for block in network.blocks[:last]
    ]
    if final[-1].finalization is None:
        certificate = network_certificate(network, final[-1].header)
        final[-1] = msgspec.structs.replace(final[-1], finalization=certificate)
    home = home_of(path / "home", network.genesis, final, last - behind)
    return make_archive(home, path / "books", CONTRACTS, TABLES)


@pytest.mark.parametrize(("last", "behind", "epoch"), [(7, 0, 0), (8, 0, 1), (8, 3, 1), (9, 0, 1), (9, 2, 1)])
def test_a_network_whose_validators_have_changed_is_carried_on(
    tmp_path: Path, last: int, behind: int, epoch: int
) -> None:
    """Block 8 ends epoch 0, and is final by a tail: the epoch after it has begun, and the new one comes after that."""
    network = small_network.build_two_epochs()
    made = archive_up_to(tmp_path, network, last, behind)
    assert (made.height, made.executed_here) == (last, behind)
    restored = opened(tmp_path / "books", network.genesis)
    assert restored.head == network.state.height_record(last)
    assert restored.end.epoch == epoch
    genesis = _founded_with(restored, restored.end.finalization)
    assert genesis.first_epoch == epoch + 1
    (tmp_path / "room").mkdir()
    take_over(ArchiveFile(tmp_path / "books"), network.genesis, genesis, tmp_path / "room", CONTRACTS)


def checkpoint_of(network: small_network.Network, height: int) -> Checkpoint:
    """Of a block of either epoch; who vouches for it was asked when it was accepted."""
    header = network.blocks[height - 1].header
    start = EpochStart.of_genesis(network.genesis)
    if header.epoch:
        seated = [member for member in start.validators.members if member.id != "alpha"]
        seats = tuple(Seat(each.id, small_network.consensus_key(each.id, 1).public) for each in seated)
        start = EpochStart.after(network.blocks[7].header, seats)
    confirmers = confirmers_of(network.state, [member.id for member in start.validators.members])
    return make_checkpoint(network.genesis.chain_id, header, start, confirmers)


@pytest.mark.parametrize("last", [7, 8, 9])
def test_books_are_read_from_a_checkpoint_of_either_epoch_if_they_reach_it(tmp_path: Path, last: int) -> None:
    """Blocks 7 and 8 are of epoch 0, block 9 is of epoch 1."""
    network = small_network.build_two_epochs()
    archive_up_to(tmp_path, network, last)
    books = ArchiveFile(tmp_path / "books")
    for height in (7, 8, 9):
        checkpoint, store = checkpoint_of(network, height), MemoryStateStore()
        if height <= last:
            read = restore(books, network.genesis, store, CONTRACTS, checkpoint=checkpoint)
            assert read.head == network.state.height_record(last)
            continue
        with pytest.raises(BooksEndTooEarly, match=f"end at height {last}, and you accepted .* of height {height}"):
            restore(books, network.genesis, store, CONTRACTS, checkpoint=checkpoint)
        assert store.executed_height() is None, "nothing of them was taken in"


def network_certificate(network: small_network.Network, header: Header) -> Certificate:
    """A Finalization by the first epoch's validators."""
    message = vote_message(
        network.genesis.chain_id, VoteKind.FINALIZE, 0, header.view, header.parent_view, header.digest
    )
    signatures = tuple(small_network.consensus_key(name, 0).sign(message) for name in small_network.INSURERS[:3])
    return Certificate(VoteKind.FINALIZE, 0, header.view, header.parent_view, header.digest, (0, 1, 2), signatures)


def test_a_block_without_a_certificate_above_it_is_left_out_and_told(tmp_path: Path) -> None:
    chain = lost()
    chain.block(finalized=False)
    made = make_archive(make_home(tmp_path / "home", chain), tmp_path / "books", CONTRACTS, TABLES)
    assert (made.height, made.finalized_height) == (5, 6)
    assert opened(tmp_path / "books", chain.genesis).head == chain.ledger.state.height_record(5)


def test_the_home_is_not_changed(chain: Chain, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", chain, executed=2)
    before = _contents(home)
    make_archive(home, tmp_path / "books", CONTRACTS, TABLES)
    assert _contents(home) == before
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["books", "home"]


def _contents(home: Path) -> dict[str, bytes]:
    files = (path for path in home.rglob("*") if path.is_file() and path.name != "LOCK")
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).digest() for path in files}


# -- a network on these books


def founded(chain: Chain, archive: Path, parameters: Parameters | None = None) -> Genesis:
    restored = opened(archive, chain.genesis)
    time_ms = restored.head.timestamp_ms + 60_000
    return load_genesis(
        assemble_on(
            cards(),
            restored.state,
            restored.end,
            name="rebuilt",
            time_ms=time_ms,
            parameters=parameters or Parameters(),
        )
    )


def test_every_member_comes_to_the_same_stores(chain: Chain, archive: Path, tmp_path: Path) -> None:
    genesis = founded(chain, archive)
    (tmp_path / "room").mkdir()
    record = take_over(ArchiveFile(archive), chain.genesis, genesis, tmp_path / "room", CONTRACTS)
    with closing(LevelStateStore(tmp_path / "room" / "state")) as store:
        state = State.open(store)
        assert state.head == record
        assert state.height_record(5) == chain.ledger.state.head
        assert list(state.iterate(POLICIES)) == list(chain.ledger.state.iterate(POLICIES))
    with closing(LevelBlockStore(tmp_path / "room" / "blocks", genesis.chain_id)) as blocks:
        assert (blocks.first_height(), blocks.finalized_height()) == (7, None)


def test_another_quorums_finalization_in_the_genesis_is_checked_and_taken(
    chain: Chain, archive: Path, tmp_path: Path
) -> None:
    restored = opened(archive, chain.genesis)
    other = chain.finalization(chain.blocks[-1].header, (1, 2, 3))
    genesis = _founded_with(restored, other)
    (tmp_path / "room").mkdir()
    take_over(ArchiveFile(archive), chain.genesis, genesis, tmp_path / "room", CONTRACTS)


def test_invalid_finalization_in_the_genesis(chain: Chain, archive: Path, tmp_path: Path) -> None:
    last = chain.blocks[-1].header
    forged = {
        "too few": chain.finalization(last, (0, 1)),
        "another block": chain.finalization(chain.blocks[-2].header, (0, 1, 2)),
        "bad signature": replace(chain.finalization(last), signatures=(bytes(64),) * 3),
    }
    for name, finalization in forged.items():
        genesis = _founded_with(opened(archive, chain.genesis), finalization)
        (tmp_path / name).mkdir()
        with pytest.raises(SuccessionError, match="Finalization in the genesis is not one"):
            take_over(ArchiveFile(archive), chain.genesis, genesis, tmp_path / name, CONTRACTS)


def _founded_with(restored: Restored, finalization: Certificate) -> Genesis:
    end = msgspec.structs.replace(restored.end, finalization=finalization)
    time_ms = restored.head.timestamp_ms + 60_000
    return load_genesis(
        assemble_on(cards(), restored.state, end, name="rebuilt", time_ms=time_ms, parameters=Parameters())
    )


def test_invalid_genesis_on_a_state_that_somebody_altered(chain: Chain, archive: Path, tmp_path: Path) -> None:
    """The forger's machine leaves a policy out; nobody else's comes to that root."""
    restored = opened(archive, chain.genesis)
    honest = founded(chain, archive)
    assert honest.predecessor is not None
    restored.state.delete(POLICIES, policy_issue().policy_id)
    forged = assemble_on(
        cards(), restored.state, restored.end, name="rebuilt", time_ms=honest.time_ms, parameters=Parameters()
    )
    (tmp_path / "room").mkdir()
    with pytest.raises(SuccessionError, match="the books carried on have the root"):
        take_over(ArchiveFile(archive), chain.genesis, load_genesis(forged), tmp_path / "room", CONTRACTS)


def test_invalid_archive_of_fewer_blocks_than_the_genesis_says(chain: Chain, archive: Path, tmp_path: Path) -> None:
    genesis, short = founded(chain, archive), lost()
    del short.blocks[4:]
    make_archive(make_home(tmp_path / "home", short), tmp_path / "short", CONTRACTS, TABLES)
    (tmp_path / "room").mkdir()
    with pytest.raises(SuccessionError, match=r"Finalization in the genesis|end with the height"):
        take_over(ArchiveFile(tmp_path / "short"), chain.genesis, genesis, tmp_path / "room", CONTRACTS)


def test_invalid_archive_with_a_genesis_that_begins_with_empty_books(
    archive: Path, chain: Chain, tmp_path: Path
) -> None:
    (tmp_path / "room").mkdir()
    with pytest.raises(SuccessionError, match="begins with empty books"):
        take_over(ArchiveFile(archive), chain.genesis, chain.genesis, tmp_path / "room", CONTRACTS)


# -- what is refused


def refused(path: Path, genesis: Genesis) -> str:
    with pytest.raises(ArchiveError) as refusal:
        opened(path, genesis)
    return str(refusal.value)


def test_invalid_old_genesis(archive: Path) -> None:
    assert "it is of network" in refused(archive, make_genesis(INSURERS))


def test_invalid_damage_anywhere(archive: Path, chain: Chain, tmp_path: Path) -> None:
    raw, dice = archive.read_bytes(), random.Random(31)
    for at in [0, len(raw) - 1, *dice.sample(range(len(raw)), 60)]:
        (tmp_path / "bad").write_bytes(raw[:at] + bytes((raw[at] ^ 1 << dice.randrange(8),)) + raw[at + 1 :])
        refused(tmp_path / "bad", chain.genesis)


def test_invalid_cut_off_anywhere(archive: Path, chain: Chain, tmp_path: Path) -> None:
    raw = archive.read_bytes()
    for length in [0, 5, 19, 24, 100, len(raw) // 2, len(raw) - 33, len(raw) - 1]:
        (tmp_path / "bad").write_bytes(raw[:length])
        assert "cut off" in refused(tmp_path / "bad", chain.genesis) or length == 0
    (tmp_path / "bad").write_bytes(raw + b"x")
    assert "damaged" in refused(tmp_path / "bad", chain.genesis)


def test_invalid_bits_altered_by_somebody_who_fits_the_digest(archive: Path, chain: Chain, tmp_path: Path) -> None:
    """Every frame, many bits: each is refused, or (a signature beyond the quorum's need is not there) nothing is."""
    dice = random.Random(5)
    parts = frames(archive)
    for index, (kind, content) in enumerate(parts):
        for _ in range(25):
            at = dice.randrange(len(content))
            bad = content[:at] + bytes((content[at] ^ 1 << dice.randrange(8),)) + content[at + 1 :]
            written(tmp_path / "bad", [*parts[:index], (kind, bad), *parts[index + 1 :]])
            try:
                found = opened(tmp_path / "bad", chain.genesis)
            except ArchiveError:
                continue
            assert found.head == chain.ledger.state.head  # what nothing commits to: a block's own certificate


@pytest.mark.parametrize("index", range(20))
def test_invalid_without_a_part_or_with_one_twice(archive: Path, chain: Chain, tmp_path: Path, index: int) -> None:
    parts = frames(archive)
    if index < len(parts):
        refused(written(tmp_path / "less", [*parts[:index], *parts[index + 1 :]]), chain.genesis)
        refused(written(tmp_path / "more", [*parts[: index + 1], *parts[index:]]), chain.genesis)


def test_invalid_order(archive: Path, chain: Chain, tmp_path: Path) -> None:
    parts = frames(archive)
    for left in range(len(parts) - 1):
        swapped = [*parts[:left], parts[left + 1], parts[left], *parts[left + 2 :]]
        path = written(tmp_path / "bad", swapped)
        if parts[left][0] is parts[left + 1][0] is Frame.CHUNK:
            assert opened(path, chain.genesis).head == chain.ledger.state.head  # one of leaves, one of receipts
        else:
            refused(path, chain.genesis)


def test_invalid_head_that_names_another_state(archive: Path, chain: Chain, tmp_path: Path) -> None:
    (_, raw), *rest = frames(archive)
    head = decode_archive_head(raw)
    good = {name: getattr(head, name) for name in head.__struct_fields__ if name != "raw"}
    for name, other, problem in (
        ("leaf_count", head.leaf_count + 1, "do not give the state root"),
        ("log_root", bytes(32), "do not give the state root"),
        ("receipt_count", head.receipt_count - 1, "do not give the root"),
        ("receipts_tree_root", bytes(32), "do not give the root"),
        ("leaf_count", 0, "outside the limits"),
        ("state_header", None, "is missing"),
        ("state_header", chain.blocks[1].header, "another one is there"),
        ("chain_id", bytes(32), "it is of network"),
    ):
        bad = encode_archive_head(**{**good, name: other})
        assert problem in refused(written(tmp_path / "bad", [(Frame.HEAD, bad.raw), *rest]), chain.genesis)


def test_invalid_last_block_that_too_few_have_finalized(archive: Path, chain: Chain, tmp_path: Path) -> None:
    (_, raw), *rest = frames(archive)
    head = decode_archive_head(raw)
    good = {name: getattr(head, name) for name in head.__struct_fields__ if name != "raw"}
    last = chain.blocks[-1].header
    for certificate in (
        chain.finalization(last, (0, 1)),
        chain.certificate(VoteKind.NOTARIZE, last.view, last.parent_view, last.digest),
    ):
        proof = msgspec.structs.replace(head.last, finalization=certificate)
        bad = encode_archive_head(**{**good, "last": proof})
        assert "head" in refused(written(tmp_path / "bad", [(Frame.HEAD, bad.raw), *rest]), chain.genesis)


def test_invalid_block_with_another_envelope_in_it(archive: Path, chain: Chain, tmp_path: Path) -> None:
    parts = frames(archive)
    kind, raw = parts[-1]
    assert kind is Frame.BLOCK
    message = block_pb2.Block.FromString(raw)
    message.batches[0] = block_pb2.Block.FromString(raw).batches[0]
    other = wire.encode_block(chain.blocks[3]).batches[0]
    message.batches[0] = other
    bad = written(tmp_path / "bad", [*parts[:-1], (kind, message.SerializeToString())])
    assert "its batches are not those it lists" in refused(bad, chain.genesis)


# -- homes that cannot hand on


def test_invalid_home_with_damaged_books(chain: Chain, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", chain)
    with closing(LevelStateStore(home / "state")) as store:
        leaf = store.leaf(40)
    with closing(Level(home / "state", 1 << 20, 1 << 20)) as rows:
        rows.write({b"L" + (40).to_bytes(8, "big"): leaf[:-1] + b"\x77"}, sync=True)
    with pytest.raises(HomeUnfit, match=r"the books in .* are not whole: state"):
        make_archive(home, tmp_path / "books", CONTRACTS, TABLES)
    assert not (tmp_path / "books").exists()


def test_invalid_home_in_which_the_tail_that_ended_an_epoch_is_missing(tmp_path: Path) -> None:
    network = small_network.build_two_epochs()
    with pytest.raises(HomeUnfit, match="block 8: its certificate is another block's"):
        make_archive(home_of(tmp_path / "home", network.genesis, network.blocks), tmp_path / "books", CONTRACTS, TABLES)


def test_invalid_home_in_which_nothing_is_final(tmp_path: Path) -> None:
    with pytest.raises(HomeUnfit, match="no block above the genesis is final there"):
        make_archive(make_home(tmp_path / "home", Chain()), tmp_path / "books", CONTRACTS, TABLES)


def test_invalid_home_whose_daemon_runs(home: Path, tmp_path: Path) -> None:
    with open_home(home, HomeKind.REPLICA).lock(), pytest.raises(HomeInUse):
        make_archive(home, tmp_path / "books", CONTRACTS, TABLES)


def test_invalid_out_that_exists(home: Path, archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(FileExistsError, match="not written over"):
        make_archive(home, archive, CONTRACTS, TABLES)
    assert archive.read_bytes() == before


# -- sealed data


class Person(msgspec.Struct, frozen=True, array_like=True):
    name: Commitment
    others: tuple[Commitment, ...]
    by_kind: dict[str, Commitment]
    key: bytes


class Enrolment(msgspec.Struct, frozen=True, array_like=True):
    number: int
    person: Person
    earlier: Person | None = None


PEOPLE = Table(0xF0, Enrolment, "people")


def person(name: bytes, *others: bytes) -> Person:
    return Person(commitment_of(name) if name else b"", tuple(map(commitment_of, others)), {}, b"\x01" * 32)


def test_sealed_fields_are_found_wherever_records_declare_them() -> None:
    state = State(MemoryStateStore())
    first = msgspec.structs.replace(person(b"a", b"b", b"c"), by_kind={"x": commitment_of(b"d")})
    state.put(PEOPLE, b"1", Enrolment(1, first, person(b"e")))
    state.put(PEOPLE, b"2", Enrolment(2, person(b"")))
    state.commit(0, 1, ())
    found = list(sealed_in(state, [PEOPLE]))
    assert [each.commitment for each in found] == [commitment_of(name) for name in (b"a", b"b", b"c", b"d", b"e")]
    assert {(each.table, each.key) for each in found} == {("people", b"1")}


def test_no_record_of_today_declares_a_sealed_field(chain: Chain) -> None:
    assert list(sealed_in(chain.ledger.state, TABLES)) == []


def test_sealed_blobs_that_are_not_in_the_home_are_listed(tmp_path: Path) -> None:
    chain = Chain()
    blobs = [b"one", b"two", b"three"]
    chain.ledger.state.put(PEOPLE, b"1", Enrolment(1, person(*blobs)))

    state = chain.ledger.state
    chain.block([chain.ledger.envelope([policy_issue()])])
    home = create_home(tmp_path / "home", HomeKind.REPLICA, chain.genesis.raw, chain.genesis.chain_id, "insurer-1")
    with closing(SealedStore(home.sealed, chain.genesis.chain_id)) as store:
        store.put(b"two")
    sealed = list(sealed_in(state, [PEOPLE]))
    assert [each.commitment for each in missing_blobs(home, sealed)] == [commitment_of(b"one"), commitment_of(b"three")]
