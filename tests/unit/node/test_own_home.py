"""A node opens its home in whichever epoch it is, with what is there, and refuses what is another's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crypto import keyfile
from ledger.genesis import load_genesis
from ledger.registrations import register
from node.init import init_home
from node.opening import open_state
from node.own_home import OwnHome, StartError
from services.own_home import NoCertificate
from store.errors import HomeInUse
from store.home import Home, open_all
from tests.support.insurers import FIRST, INSURERS, SUPERVISOR, key_of
from tests.support.voting import NEWCOMER, plain_card, seat_card
from tests.unit.node.test_init import ceremony, make


def newcomers(path: Path, card: bytes) -> Home:
    genesis, keys = ceremony(path, NEWCOMER)
    (path / "card.json").write_bytes(card)
    return init_home(path / "home", genesis=genesis, keys=keys, passphrase=None, card=path / "card.json")


def test_a_home_opens_with_the_state_of_its_genesis_and_is_locked(tmp_path: Path) -> None:
    home = make(tmp_path)
    opened = OwnHome.open(home.path, None)
    try:
        assert opened.state.height == 0
        assert FIRST.consensus_key is not None
        assert opened.keys.has(FIRST.consensus_key.public)
        assert opened.vote_problem == ""
        with pytest.raises(HomeInUse):
            OwnHome.open(home.path, None)
    finally:
        opened.close()
    OwnHome.open(home.path, None).close()


def test_a_home_without_any_consensus_key_opens(tmp_path: Path) -> None:
    """Restored, or in an epoch whose key was lost: the node observes and says so."""
    home = make(tmp_path)
    (home.keys / "consensus.key").unlink()
    opened = OwnHome.open(home.path, None)
    opened.close()
    assert opened.keys.public_keys == []


def test_a_home_with_keys_of_later_epochs_only_opens(tmp_path: Path) -> None:
    home = make(tmp_path)
    (home.keys / "consensus.key").rename(home.keys / "consensus-3.key")
    opened = OwnHome.open(home.path, None)
    opened.close()
    assert opened.keys.made_for(3) is not None


def test_the_home_of_a_newcomer_opens_before_the_ledger_has_heard_of_it(tmp_path: Path) -> None:
    home = newcomers(tmp_path, seat_card(NEWCOMER))
    OwnHome.open(home.path, None).close()
    home.card.unlink()
    with pytest.raises(StartError, match="with its card"):
        OwnHome.open(home.path, None)


def test_a_consensus_key_that_an_admin_registered_is_the_organisations_though_on_no_card(tmp_path: Path) -> None:
    home, key = make(tmp_path), key_of(FIRST.id, "consensus", "registered")
    (home.keys / "consensus.key").unlink()
    keyfile.save(home.keys / "consensus.key", key, "consensus", None, unsafe_plaintext=True)
    with pytest.raises(StartError):
        OwnHome.open(home.path, None)
    stores = open_all(home)
    genesis = load_genesis(home.genesis.read_bytes())
    state = open_state(genesis, stores.state, stores.blocks)
    register(state, FIRST.id, 1, key.public, 1)
    stores.state.commit(state.commit(1, genesis.time_ms + 1, ()))
    stores.close()
    OwnHome.open(home.path, None).close()


def test_invalid_consensus_key_of_another_member(tmp_path: Path) -> None:
    home = make(tmp_path)
    other = INSURERS[1].consensus_key
    assert other is not None
    (home.keys / "consensus.key").unlink()
    keyfile.save(home.keys / "consensus.key", other, "consensus", None, unsafe_plaintext=True)
    with pytest.raises(StartError, match=r"consensus\.key is not the key on the card"):
        OwnHome.open(home.path, None)


def test_invalid_ledger_key_of_another_member(tmp_path: Path) -> None:
    home = make(tmp_path)
    (home.keys / "ledger.key").unlink()
    keyfile.save(home.keys / "ledger.key", INSURERS[1].ledger_key, "ledger", None, unsafe_plaintext=True)
    with pytest.raises(NoCertificate, match="put the right one there"):
        OwnHome.open(home.path, None)


def test_invalid_home_without_its_keys(tmp_path: Path) -> None:
    home = make(tmp_path)
    shutil.rmtree(home.keys)
    with pytest.raises(keyfile.MissingKeyFile, match=r"consensus\.key"):
        OwnHome.open(home.path, None)


def test_invalid_home_of_an_organisation_that_runs_no_node(tmp_path: Path) -> None:
    genesis, keys = ceremony(tmp_path, SUPERVISOR)
    (tmp_path / "card.json").write_bytes(plain_card(SUPERVISOR, peer_address=""))
    with pytest.raises(keyfile.MissingKeyFile):
        init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None, card=tmp_path / "card.json")


def test_what_cannot_be_opened_is_not_left_locked(tmp_path: Path) -> None:
    home = make(tmp_path)
    kept = (home.keys / "ledger.key").read_bytes()
    (home.keys / "ledger.key").unlink()
    keyfile.save(home.keys / "ledger.key", INSURERS[1].ledger_key, "ledger", None, unsafe_plaintext=True)
    with pytest.raises(NoCertificate):
        OwnHome.open(home.path, None)
    (home.keys / "ledger.key").write_bytes(kept)
    OwnHome.open(home.path, None).close()
