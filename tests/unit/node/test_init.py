"""A validator's home is made whole from genesis and keys, or not at all."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crypto import keyfile, tls
from crypto.keys import SigningKey
from ledger import operations as ops
from ledger.cards import GenesisError, decode_card
from node.config import load_config
from node.init import init_home
from node.keys import KeyFiles
from services.own_home import LEAF_VALIDITY, NoCertificate, ensure_leaf, known_cards, ledger_key_in_use
from services.settings import SettingError
from store.errors import HomeExists
from store.home import Home, HomeKind, open_all, open_home
from tests.support.insurers import FIRST, INSURERS, SUPERVISOR, Ledger, Organisation, market_genesis
from tests.support.voting import NEWCOMER, Assembly, plain_card, seat_card
from tests.unit.services.test_members import rotated

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ceremony(path: Path, organisation: Organisation = FIRST, **keys: SigningKey) -> tuple[Path, Path]:
    """Genesis file and directory of keys, as the ceremony leaves them."""
    genesis = path / "genesis.json"
    genesis.write_bytes(market_genesis().raw)
    directory = path / "keys"
    directory.mkdir()
    chosen = {"ledger": organisation.ledger_key, "consensus": organisation.consensus_key, **keys}
    for kind, key in chosen.items():
        if key is not None:
            keyfile.save(directory / f"{kind}.key", key, kind, None, unsafe_plaintext=True)
    return genesis, directory


def make(path: Path, **settings: str) -> Home:
    genesis, keys = ceremony(path)
    return init_home(path / "home", genesis=genesis, keys=keys, passphrase=None, settings=settings, now=NOW)


def test_a_home_holds_network_keys_certificate_and_settings(tmp_path: Path) -> None:
    home = make(tmp_path)
    assert (home.organisation, home.chain_id) == (FIRST.id, market_genesis().chain_id)
    assert home.genesis.read_bytes() == market_genesis().raw
    assert keyfile.load(home.keys / "consensus.key", None, "consensus").public == FIRST.consensus_key.public  # type: ignore[union-attr]
    leaf = tls.check_leaf((home.tls / "leaf.pem").read_bytes(), FIRST.ledger_key.public, NOW)
    assert (leaf.org, leaf.role, leaf.not_after) == (FIRST.id, "node", NOW + LEAF_VALIDITY)
    for private in (home.keys / "ledger.key", home.keys / "consensus.key", home.tls / "leaf.key"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    open_all(open_home(home.path, HomeKind.NODE)).close()


def test_addresses_come_from_the_card_and_settings_go_before_them(tmp_path: Path) -> None:
    home = make(tmp_path, **{"listen.public": "127.0.0.1:9999", "consensus.delay_ms": "250"})
    settings = load_config(home.path, {}).settings
    card = market_genesis().organisation(FIRST.id)
    assert card is not None
    assert settings.listen.peer == card.body.peer_address
    assert settings.listen.public == "127.0.0.1:9999"
    assert settings.consensus.delay_ms == 250


def test_invalid_setting_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"consensus\.delay_ms"):
        make(tmp_path, **{"consensus.delay_ms": "soon"})
    assert not (tmp_path / "home").exists()


def test_a_home_for_a_card_that_was_voted_in_holds_the_card(tmp_path: Path) -> None:
    genesis, keys = ceremony(tmp_path, NEWCOMER)
    card = tmp_path / "card.json"
    card.write_bytes(seat_card(NEWCOMER, peer_address="127.0.0.1:7900"))
    home = init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None, card=card, now=NOW)
    assert home.organisation == NEWCOMER.id
    assert decode_card(home.card.read_bytes()) == decode_card(card.read_bytes())
    assert load_config(home.path, {}).settings.listen.peer == "127.0.0.1:7900"
    state = Ledger().state
    assert [known.id for known in known_cards(home, state)] == [NEWCOMER.id]
    assert ledger_key_in_use(home, state) == NEWCOMER.ledger_key.public, "the state has not heard of it yet"


def test_a_machine_that_is_gone_with_its_consensus_keys_has_a_home_again_that_observes(tmp_path: Path) -> None:
    genesis, keys = ceremony(tmp_path)
    (keys / "consensus.key").unlink()
    with pytest.raises(keyfile.MissingKeyFile, match="--without-consensus-key"):
        init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None)
    assert not (tmp_path / "home").exists()
    home = init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None, consensus_key=False, now=NOW)
    found = KeyFiles(home.keys, None)
    assert (found.card_key, found.public_keys) == (None, [])
    assert found.key_for(1).public == keyfile.public_key(home.keys / "consensus-1.key")


def test_a_consensus_key_of_an_epoch_that_is_over_is_not_taken_along(tmp_path: Path) -> None:
    genesis, keys = ceremony(tmp_path)
    home = init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None, consensus_key=False, now=NOW)
    assert [path.name for path in home.keys.iterdir()] == ["ledger.key"]


def test_invalid_a_supervisor_has_no_node_without_a_consensus_key_either(tmp_path: Path) -> None:
    genesis, keys = ceremony(tmp_path, SUPERVISOR)
    with pytest.raises(GenesisError, match="no validator's"):
        init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None, consensus_key=False)
    assert not (tmp_path / "home").exists()


def test_a_card_of_the_genesis_is_not_kept_twice(tmp_path: Path) -> None:
    home = make(tmp_path)
    assert not home.card.exists()
    assert ledger_key_in_use(home, Ledger().state) == FIRST.ledger_key.public


def test_the_ledger_key_in_use_is_the_one_that_was_voted_for(tmp_path: Path) -> None:
    """The old key, of which the state knows, is good no more; the new one is, also before the state knows it."""
    home, market = make(tmp_path), Assembly()
    after = rotated(FIRST)
    card = plain_card(after)
    before_vote, after_vote = Ledger().state, market.ledger.state
    market.pass_("rotate", ops.CardChange(card))
    with pytest.raises(NoCertificate, match=r"put the new card there, too, as .*card\.json"):
        ledger_key_in_use(home, after_vote)
    (home.keys / "ledger.key").unlink()
    keyfile.save(home.keys / "ledger.key", after.ledger_key, "ledger", None, unsafe_plaintext=True)
    assert ledger_key_in_use(home, after_vote) == after.ledger_key.public
    with pytest.raises(NoCertificate):
        ledger_key_in_use(home, before_vote)
    home.card.write_bytes(card)
    assert ledger_key_in_use(home, before_vote) == after.ledger_key.public
    market.pass_("rotate again", ops.CardChange(plain_card(rotated(FIRST, "third"))))
    with pytest.raises(NoCertificate):
        ledger_key_in_use(home, after_vote)  # the card in the home is one that the state knows to be replaced
    (home.keys / "ledger.key").unlink()
    assert ledger_key_in_use(home, after_vote) == rotated(FIRST, "third").ledger_key.public
    assert ledger_key_in_use(home, before_vote) == FIRST.ledger_key.public


def test_a_certificate_is_not_issued_by_another_key_than_the_cards(tmp_path: Path) -> None:
    home = make(tmp_path)
    after = rotated(FIRST)
    with pytest.raises(NoCertificate, match="not the key on the organisation's card"):
        ensure_leaf(home, after.ledger_key.public, None, NOW)


def test_invalid_card_of_another_organisation(tmp_path: Path) -> None:
    genesis, keys = ceremony(tmp_path, NEWCOMER)
    card = tmp_path / "card.json"
    card.write_bytes(seat_card(INSURERS[1]))
    with pytest.raises(GenesisError, match="another ledger key"):
        init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None, card=card)
    card.write_bytes(b"{}")
    with pytest.raises(GenesisError, match="not a card file"):
        init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None, card=card)
    assert not (tmp_path / "home").exists()


def test_invalid_keys_of_nobody_on_the_genesis(tmp_path: Path) -> None:
    genesis, keys = ceremony(tmp_path, Organisation("stranger", "insurer"))
    with pytest.raises(GenesisError, match="--card"):
        init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None)
    assert not (tmp_path / "home").exists()


def test_invalid_consensus_key_of_another_member(tmp_path: Path) -> None:
    other = INSURERS[1].consensus_key
    assert other is not None
    genesis, keys = ceremony(tmp_path, consensus=other)
    with pytest.raises(GenesisError, match="not the one on the card"):
        init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None)


def test_invalid_supervisor_has_no_consensus_key_and_runs_no_validator(tmp_path: Path) -> None:
    genesis, keys = ceremony(tmp_path, SUPERVISOR)
    with pytest.raises(keyfile.MissingKeyFile):
        init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None)


def test_invalid_second_home_over_the_first(tmp_path: Path) -> None:
    home = make(tmp_path)
    with pytest.raises(HomeExists):
        init_home(home.path, genesis=tmp_path / "genesis.json", keys=tmp_path / "keys", passphrase=None)


def test_invalid_genesis_file(tmp_path: Path) -> None:
    genesis, keys = ceremony(tmp_path)
    genesis.write_bytes(genesis.read_bytes().replace(b"insurer-2", b"insurer-X"))
    with pytest.raises(GenesisError):
        init_home(tmp_path / "home", genesis=genesis, keys=keys, passphrase=None)
