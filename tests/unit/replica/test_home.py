"""Making, configuring and resyncing a replica's home."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crypto import keyfile, tls
from crypto.keyfile import KdfCost, WrongPassphrase
from ledger.cards import GenesisError
from ledger.genesis import Permissions, WrongNetwork, assemble, load_genesis
from replica.access import local_address
from replica.config import load_config, sources_of
from replica.daemon import _identity, certificate_check
from replica.errors import ReplicaConfigError
from replica.index import Index
from replica.init import init_home
from replica.resync import resync
from replica.sources import Distrust, Source
from services.http import Check
from services.own_home import LEAF_VALIDITY, NoCertificate, ensure_leaf
from services.settings import SettingError
from store.errors import HomeExists, HomeInUse, HomeMissing
from store.home import HomeKind, create_home, open_home
from tests.support.insurers import INSURERS, MARKET, SUPERVISOR, key_of, market_genesis
from tests.support.tls import market_members
from tests.support.voting import Assembly, plain_card
from tests.unit.services.test_members import rotated

PASSPHRASE = "correct horse"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def ceremony(tmp_path: Path) -> Path:
    """A directory with the genesis and the supervisor's encrypted ledger key."""
    (tmp_path / "genesis.json").write_bytes(market_genesis().raw)
    (tmp_path / "keys").mkdir()
    cost = KdfCost(1, 8 << 10)
    keyfile.save(tmp_path / "keys" / "ledger.key", SUPERVISOR.ledger_key, "ledger", PASSPHRASE, cost=cost)
    return tmp_path


def make(ceremony: Path, **changes: object) -> Path:
    fields: dict[str, object] = {
        "genesis": ceremony / "genesis.json",
        "keys": ceremony / "keys",
        "passphrase": PASSPHRASE,
        "now": NOW,
    }
    return init_home(ceremony / "home", **(fields | changes)).path  # type: ignore[arg-type]


def test_a_home_has_everything_a_replica_needs_and_no_votes(ceremony: Path) -> None:
    home = open_home(make(ceremony), HomeKind.REPLICA)
    assert home.organisation == "supervisor"
    assert home.chain_id == market_genesis().chain_id
    assert not home.votes.exists()
    assert not (home.keys / "consensus.key").exists()
    leaf = tls.check_leaf((home.tls / "leaf.pem").read_bytes(), SUPERVISOR.ledger_key.public, NOW)
    assert (leaf.org, leaf.role) == ("supervisor", "replica")
    for secret in (home.tls / "leaf.key", home.keys / "ledger.key"):
        assert secret.stat().st_mode & 0o077 == 0
    assert load_config(home.path, {}).settings.listen.public == "127.0.0.1:4001"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"passphrase": "wrong"}, WrongPassphrase),
        ({"settings": {"follow.sources": "nobody"}}, ReplicaConfigError),
    ],
)
def test_invalid_init_leaves_nothing(ceremony: Path, changes: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        make(ceremony, **changes)
    assert not (ceremony / "home").exists()


def test_invalid_init_with_a_key_of_no_card(ceremony: Path) -> None:
    (ceremony / "keys" / "ledger.key").unlink()
    stranger = key_of("stranger")
    keyfile.save(ceremony / "keys" / "ledger.key", stranger, "ledger", None, unsafe_plaintext=True)
    with pytest.raises(GenesisError, match="stands on no card"):
        make(ceremony)


def test_invalid_init_where_the_genesis_gives_no_permission(ceremony: Path) -> None:
    everybody = tuple(each.id for each in MARKET)
    raw = assemble(
        [each.card() for each in MARKET], name="closed", time_ms=0, permissions=Permissions(everybody, everybody[:-1])
    )
    (ceremony / "genesis.json").write_bytes(raw)
    with pytest.raises(GenesisError, match="does not let supervisor follow"):
        make(ceremony)


def test_invalid_init_over_an_existing_home(ceremony: Path) -> None:
    make(ceremony)
    with pytest.raises(HomeExists):
        make(ceremony)


def test_a_genesis_of_another_network_in_the_home_is_refused(ceremony: Path) -> None:
    home = open_home(make(ceremony), HomeKind.REPLICA)
    with pytest.raises(WrongNetwork):
        home.check_network(bytes(32))


# ---------------------------------------------------------------- settings


def test_command_line_goes_before_environment_before_file(ceremony: Path) -> None:
    home = make(ceremony, settings={"follow.sources": "insurer-1", "listen.http": ""})
    assert load_config(home, {}).settings.follow.sources == "insurer-1"
    environment = {"LOSSBOOK_FOLLOW_SOURCES": "insurer-2"}
    assert load_config(home, environment).settings.follow.sources == "insurer-2"
    overrides = {"follow.sources": "insurer-3"}
    assert load_config(home, environment, overrides).settings.follow.sources == "insurer-3"


def test_an_unknown_setting_is_named(ceremony: Path) -> None:
    with pytest.raises(SettingError, match=r"did you mean follow\.sources"):
        load_config(make(ceremony), {}, {"follow.source": "x"})


def test_a_number_may_be_given_as_text_when_the_home_is_made(ceremony: Path) -> None:
    home = make(ceremony, settings={"follow.trusting_period_days": "60"})
    assert load_config(home, {}).settings.follow.trusting_period_days == 60


def test_invalid_a_number_that_is_none_makes_no_home(ceremony: Path) -> None:
    with pytest.raises(SettingError, match=r"follow\.trusting_period_days"):
        make(ceremony, settings={"follow.trusting_period_days": "a month"})


def test_sources_default_to_the_validators() -> None:
    found = sources_of("", market_members(), "supervisor")
    assert found == [Source(insurer.id, "127.0.0.1:4001") for insurer in INSURERS]


def test_sources_in_the_operators_order_with_own_addresses() -> None:
    found = sources_of(" insurer-3 , insurer-1=[::1]:99 ", market_members(), "supervisor")
    assert found == [Source("insurer-3", "127.0.0.1:4001"), Source("insurer-1", "[::1]:99")]


@pytest.mark.parametrize("text", ["stranger", "insurer-1,insurer-1=h:1"])
def test_invalid_sources(text: str) -> None:
    with pytest.raises(ReplicaConfigError):
        sources_of(text, market_members(), "supervisor")


def test_a_listening_address_that_means_all_is_dialled_here() -> None:
    assert local_address("0.0.0.0:7200") == "127.0.0.1:7200"
    assert local_address("[::]:7200") == "[::1]:7200"
    assert local_address("10.0.0.1:7200") == "10.0.0.1:7200"
    with pytest.raises(ReplicaConfigError):
        local_address("127.0.0.1:0")


# ---------------------------------------------------------------- certificate


def test_a_certificate_is_renewed_in_its_last_third_only(ceremony: Path) -> None:
    home = open_home(make(ceremony), HomeKind.REPLICA)
    public = SUPERVISOR.ledger_key.public
    first = (home.tls / "leaf.pem").read_bytes()
    early = NOW + LEAF_VALIDITY / 2
    assert ensure_leaf(home, public, PASSPHRASE, early) == NOW + LEAF_VALIDITY
    assert (home.tls / "leaf.pem").read_bytes() == first
    late = NOW + LEAF_VALIDITY - timedelta(days=20)
    assert ensure_leaf(home, public, None, late) == NOW + LEAF_VALIDITY, "no passphrase: it goes on with the old one"
    assert ensure_leaf(home, public, PASSPHRASE, late) == late + LEAF_VALIDITY
    assert (home.tls / "leaf.pem").read_bytes() != first


def test_an_expired_certificate_without_the_passphrase_is_one_clear_error(ceremony: Path) -> None:
    home = open_home(make(ceremony), HomeKind.REPLICA)
    with pytest.raises(NoCertificate, match=r"no usable TLS certificate .* none can be issued"):
        ensure_leaf(home, SUPERVISOR.ledger_key.public, None, NOW + timedelta(days=100))


# ---------------------------------------------------------------- resync


def test_resync_sets_the_stores_aside_and_remembers_who_lied(ceremony: Path) -> None:
    path = make(ceremony)
    home = open_home(path, HomeKind.REPLICA)
    index = Index(home.index, home.chain_id)
    index.distrust(Distrust("insurer-1", 7, "forged block: x", 9))
    index.close()
    (home.state / "rows").write_bytes(b"damaged")
    kept = resync(path, "bit rot")
    assert (kept / "state" / "rows").read_bytes() == b"damaged"
    assert (kept / "REASON").read_text() == "bit rot\n"
    assert list(home.state.iterdir()) == []
    index = Index(home.index, home.chain_id)
    assert [each.organisation for each in index.distrusted()] == ["insurer-1"]
    index.close()
    assert resync(path, "again") != kept


def test_resync_of_an_index_that_cannot_be_read(ceremony: Path) -> None:
    path = make(ceremony)
    (path / "index" / "CURRENT").write_bytes(b"garbage")
    resync(path, "damaged index")
    assert list((path / "index").iterdir()) == []


def test_resync_of_a_running_replica_is_refused(ceremony: Path) -> None:
    path = make(ceremony)
    with open_home(path, HomeKind.REPLICA).lock(), pytest.raises(HomeInUse):
        resync(path, "too early")


def test_resync_of_a_nodes_home_is_refused(tmp_path: Path) -> None:
    genesis = market_genesis()
    create_home(tmp_path / "node", HomeKind.NODE, genesis.raw, genesis.chain_id, "insurer-1")
    with pytest.raises(HomeMissing, match="it is a node's"):
        resync(tmp_path / "node", "wrong home")


def test_the_genesis_in_a_home_is_the_file_that_was_given(ceremony: Path) -> None:
    assert load_genesis((make(ceremony) / "genesis.json").read_bytes()).chain_id == market_genesis().chain_id


def test_a_replica_whose_ledger_key_was_replaced_while_it_was_away_starts_with_the_new_key_and_card(
    ceremony: Path,
) -> None:
    home = open_home(make(ceremony), HomeKind.REPLICA)
    state, members = Assembly().ledger.state, market_members()  # as of before the vote
    before, _ = _identity(home, members, state, PASSPHRASE)
    assert tls.check_leaf(before.leaf_pem, SUPERVISOR.ledger_key.public).org == SUPERVISOR.id
    fresh = rotated(SUPERVISOR)
    (home.keys / "ledger.key").unlink()
    keyfile.save(home.keys / "ledger.key", fresh.ledger_key, "ledger", None, unsafe_plaintext=True)
    with pytest.raises(NoCertificate, match="put the new card there, too"):
        _identity(home, members, state, PASSPHRASE)
    home.card.write_bytes(plain_card(fresh))
    after, _ = _identity(home, members, state, PASSPHRASE)
    assert tls.check_leaf(after.leaf_pem, fresh.ledger_key.public).org == SUPERVISOR.id


def test_a_replica_is_not_ready_with_a_certificate_that_is_void_or_ends() -> None:
    assert certificate_check(89, replaced=False) == Check("certificate", True, "TLS certificate ends in 89 days")
    assert not certificate_check(13, replaced=False).ok
    replaced = certificate_check(89, replaced=True)
    assert not replaced.ok
    assert "put the new key into the home as keys/ledger.key" in replaced.text
