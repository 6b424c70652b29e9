"""The commands by which a network is founded on old books, and what they say when something does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crypto import keyfile
from ledger.cards import encode_card
from ledger.checkpoints import Anchor, confirmers_of, make_checkpoint
from ledger.genesis import load_genesis
from ledger.header_chain import EpochStart
from ledger.parameters import Parameters
from lossbook_sdk import pins
from tests.support.chain import Chain
from tests.support.commands import document, lossbook
from tests.support.insurers import INSURERS, MARKET, make_genesis, policy_issue
from tests.support.rebuilt import RENEWED, cards
from tests.unit.services.test_archive import make_home


class Desk:
    """What lies before whoever assembles: cards, the archive, the old genesis."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain = Chain()
        self.chain.block([self.chain.ledger.envelope([policy_issue()])])
        self.chain.block()
        self.home = make_home(folder / "home", self.chain)
        self.archive, self.old = folder / "books", folder / "old.json"
        self.old.write_bytes(self.chain.genesis.raw)
        self.cards = [folder / f"{card.id}.json" for card in cards()]
        for path, card in zip(self.cards, cards(), strict=True):
            path.write_bytes(encode_card(card))
        self.told = document("genesis", "archive", "--home", self.home, "--out", self.archive)

    def assemble(self, out: Path, *more: object, code: int = 0) -> str:
        books = ("--continue", self.archive, "--old-genesis", self.old)
        words = ("genesis", "assemble", *self.cards, "--name", "again", "--out", out, *books, *more)
        return lossbook(*words, code=code).output


OTHER_POLICY = b"policy-000000009"


def accept(chain: Chain) -> None:
    """This person accepts a checkpoint of the last block of a chain; all vouch for it."""
    start = EpochStart.of_genesis(chain.genesis)
    confirmers = confirmers_of(chain.ledger.state, [member.id for member in start.validators.members])
    made = make_checkpoint(chain.genesis.chain_id, chain.tip, start, confirmers)
    for each in MARKET:
        made = made.signed(each.id, each.ledger_key)
    pins.accept(pins.pin_path(chain.genesis.chain_id), made, Anchor.of_genesis(chain.genesis))


def history(blocks: int, *, other: bool = False) -> Chain:
    """The desk's network up to this height; or another history, by the same keys, that differs from block 1 on."""
    chain = Chain()
    chain.block([chain.ledger.envelope([policy_issue(policy_id=OTHER_POLICY) if other else policy_issue()])])
    for _ in range(blocks - 1):
        chain.block()
    return chain


@pytest.fixture(autouse=True)
def _own_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pins.DIRECTORY_VARIABLE, str(tmp_path / "checkpoints"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


def test_the_archive_says_where_the_books_end_and_which_sealed_data_is_missing(desk: Desk) -> None:
    head = desk.chain.ledger.state.head
    assert head is not None
    assert (desk.told["height"], desk.told["state_root"]) == (2, head.state_root.hex())
    assert desk.told["sealed"] == {"referenced": 0, "present": 0, "missing": []}
    out = lossbook("genesis", "archive", "--home", desk.home, "--out", desk.folder / "second").output
    assert "0, of which 0 have no blob here" in out


def test_parameters_stay_unless_they_are_given(desk: Desk, tmp_path: Path) -> None:
    desk.assemble(tmp_path / "same.json")
    desk.assemble(tmp_path / "other.json", "--parameter", "k_max=9", "--four-eyes", "5.00 USD")
    same, other = (load_genesis((tmp_path / name).read_bytes()).parameters for name in ("same.json", "other.json"))
    assert same == Parameters()
    assert (other.k_max, list(other.currencies), other.max_ahead_ms) == (9, ["USD"], Parameters().max_ahead_ms)


def test_check_computes_everything_again(desk: Desk, tmp_path: Path) -> None:
    made = tmp_path / "new.json"
    desk.assemble(made)
    shown = document(
        *("genesis", "check", made, "--card", desk.cards[0], "--state", desk.archive, "--old-genesis", desk.old)
    )
    genesis = load_genesis(made.read_bytes())
    assert genesis.predecessor is not None
    assert shown["last_final_block"] == 2
    assert shown["new_state_root"] == genesis.predecessor.genesis_state_root.hex()
    assert shown["chain_id"] == genesis.chain_id.hex()


def test_show_names_the_network_before(desk: Desk, tmp_path: Path) -> None:
    made = tmp_path / "new.json"
    desk.assemble(made)
    assert document("genesis", "show", made)["predecessor"]["height"] == 2
    said = lossbook("genesis", "show", made).output
    assert all(word in said for word in ("carries on", "last block", "first height"))
    assert document("genesis", "show", desk.old)["predecessor"] is None


def test_invalid_check_without_the_books(desk: Desk, tmp_path: Path) -> None:
    made = tmp_path / "new.json"
    desk.assemble(made)
    assert "--state ARCHIVE --old-genesis FILE" in lossbook("genesis", "check", made, code=4).output


def test_invalid_check_of_a_genesis_that_somebody_altered(desk: Desk, tmp_path: Path) -> None:
    made = tmp_path / "new.json"
    desk.assemble(made)
    file = json.loads(made.read_bytes())
    file["predecessor"]["genesis_state_root"] = "77" * 32
    made.write_text(json.dumps(file))
    words = ("genesis", "check", made, "--state", desk.archive, "--old-genesis", desk.old)
    assert "Do not take part" in lossbook(*words, code=4).output


def test_invalid_archive_without_its_genesis(desk: Desk, tmp_path: Path) -> None:
    words = ("genesis", "assemble", *desk.cards, "--name", "again", "--out", tmp_path / "x", "--continue", desk.archive)
    assert "Give both" in lossbook(*words, code=2).output
    made = tmp_path / "new.json"
    desk.assemble(made)
    assert "Give both" in lossbook("genesis", "check", made, "--state", desk.archive, code=2).output


def test_invalid_time_before_the_last_block(desk: Desk, tmp_path: Path) -> None:
    said = desk.assemble(tmp_path / "x", "--time", "2020-01-01T00:00:00Z", code=1)
    assert "dated later than the genesis" in said
    assert not (tmp_path / "x").exists()


def test_invalid_card_of_the_network_before(desk: Desk, tmp_path: Path) -> None:
    old_card = tmp_path / "old-card.json"
    old_card.write_bytes(encode_card(INSURERS[0].card()))
    books = ("--continue", desk.archive, "--old-genesis", desk.old)
    words = ("genesis", "assemble", old_card, *desk.cards[1:], "--name", "again", "--out", tmp_path / "x", *books)
    assert f"the consensus key of {RENEWED[0].id} was used" in lossbook(*words, code=1).output


def test_invalid_home_that_is_none(tmp_path: Path) -> None:
    said = lossbook("genesis", "archive", "--home", tmp_path, "--out", tmp_path / "books", code=1).output
    assert "SCHEMA" in said


def test_invalid_archive_that_is_a_genesis_file(desk: Desk, tmp_path: Path) -> None:
    words = ("genesis", "assemble", *desk.cards, "--name", "again", "--out", tmp_path / "x")
    assert "is no archive" in lossbook(*words, "--continue", desk.old, "--old-genesis", desk.old, code=4).output


def test_invalid_archive_that_is_damaged_or_of_another_network(desk: Desk, tmp_path: Path) -> None:
    made, damaged, other = tmp_path / "new.json", tmp_path / "damaged", tmp_path / "other.json"
    desk.assemble(made)
    raw = bytearray(desk.archive.read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged.write_bytes(raw)
    other.write_bytes(make_genesis(INSURERS).raw)
    check = ("genesis", "check", made)
    assert "archive, " in lossbook(*check, "--state", damaged, "--old-genesis", desk.old, code=4).output
    said = lossbook(*check, "--state", desk.archive, "--old-genesis", other, code=4).output
    assert f"it is of network {desk.chain.genesis.chain_id.hex()[:16]}" in said
    other.write_text("{}")
    assert "not a genesis file" in lossbook(*check, "--state", desk.archive, "--old-genesis", other, code=4).output
    missing = ("--state", tmp_path / "none", "--old-genesis", desk.old)
    assert "No such file" in lossbook(*check, *missing, code=1).output


def test_invalid_archive_over_a_file_that_is_there(desk: Desk) -> None:
    before = desk.archive.read_bytes()
    said = lossbook("genesis", "archive", "--home", desk.home, "--out", desk.archive, code=1).output
    assert "exists already and is not written over" in said
    assert "another name with --out" in said
    assert desk.archive.read_bytes() == before


# -- with a checkpoint of the old network


def readers(desk: Desk, made: Path, office: Path) -> dict[str, tuple[object, ...]]:
    """Commands that read the books once a genesis is there."""
    for each in cards():
        organisation = next(one for one in RENEWED if one.id == each.id)
        keys = office / each.id
        keys.mkdir(parents=True)
        keyfile.save(keys / "ledger.key", organisation.ledger_key, "ledger", None, unsafe_plaintext=True)
        if organisation.consensus_key is not None:
            keyfile.save(keys / "consensus.key", organisation.consensus_key, "consensus", None, unsafe_plaintext=True)
    books = ("--state", desk.archive, "--old-genesis", desk.old)
    voter, watcher = (next(card.id for card in cards() if card.is_validator is votes) for votes in (True, False))
    return {
        "check": ("genesis", "check", made, *books),
        "node": ("node", "init", "--home", office / "node", "--genesis", made, "--keys", office / voter, *books),
        "replica": (
            "replica",
            "init",
            "--home",
            office / "copy",
            "--genesis",
            made,
            "--keys",
            office / watcher,
            *books,
        ),
    }


@pytest.mark.parametrize("height", [1, 2])
def test_books_that_reach_the_accepted_checkpoint_are_carried_on(desk: Desk, tmp_path: Path, height: int) -> None:
    accept(history(height))
    made = tmp_path / "new.json"
    desk.assemble(made)
    commands = readers(desk, made, tmp_path / "office")
    assert document(*commands["check"])["accepted_before"] == f"the checkpoint of height {height}, which they reach"
    lossbook(*commands["node"])
    lossbook(*commands["replica"])


def test_check_says_where_no_checkpoint_was_accepted(desk: Desk, tmp_path: Path) -> None:
    made = tmp_path / "new.json"
    desk.assemble(made)
    assert document(*readers(desk, made, tmp_path / "office")["check"])["accepted_before"] == (
        "no checkpoint of that network"
    )


def test_invalid_books_whose_last_blocks_were_cut_off(desk: Desk, tmp_path: Path) -> None:
    made = tmp_path / "new.json"
    desk.assemble(made)
    accept(history(3))
    said = [desk.assemble(tmp_path / "x", code=4)]
    said += [lossbook(*words, code=4).output for words in readers(desk, made, tmp_path / "office").values()]
    for text in said:
        assert "the books end at height 2, and you accepted a checkpoint of height 3" in text
        assert "get the archive of a copy that reaches the checkpoint" in text
    assert not any((tmp_path / name).exists() for name in ("x", "office/node", "office/copy"))


@pytest.mark.parametrize(
    ("height", "where"),
    [(1, "block 1: the checkpoint that you accepted has another block at this height"), (2, "another block there")],
)
def test_invalid_books_of_another_history_than_the_accepted_checkpoint(
    desk: Desk, tmp_path: Path, height: int, where: str
) -> None:
    made = tmp_path / "new.json"
    desk.assemble(made)
    accept(history(height, other=True))
    said = [desk.assemble(tmp_path / "x", code=4)]
    said += [lossbook(*words, code=4).output for words in readers(desk, made, tmp_path / "office").values()]
    for text in said:
        assert where in text
        assert "Keep the archive as evidence" in text
    assert not any((tmp_path / name).exists() for name in ("x", "office/node", "office/copy"))


def test_invalid_checkpoint_that_is_damaged(desk: Desk, tmp_path: Path) -> None:
    accept(history(2))
    pins.pin_path(desk.chain.genesis.chain_id).write_bytes(b"{}")
    assert "Remove the file, and accept a fresh checkpoint" in desk.assemble(tmp_path / "x", code=4)
