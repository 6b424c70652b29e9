"""The commands by which a network is founded on old books, and what they say when something does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.cards import encode_card
from ledger.genesis import load_genesis
from ledger.parameters import Parameters
from tests.support.chain import Chain
from tests.support.commands import document, lossbook
from tests.support.insurers import INSURERS, policy_issue
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
    assert "Do not take part" in lossbook(*words, code=1).output


def test_invalid_archive_without_its_genesis(desk: Desk, tmp_path: Path) -> None:
    words = ("genesis", "assemble", *desk.cards, "--name", "again", "--out", tmp_path / "x", "--continue", desk.archive)
    assert "Give both" in lossbook(*words, code=1).output


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
    assert "is no archive" in lossbook(*words, "--continue", desk.old, "--old-genesis", desk.old, code=1).output
