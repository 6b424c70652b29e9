"""The ceremony by command: own keys, signed cards, one file, one chain id; and what is refused on the way."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from crypto import keyfile
from ledger.genesis import load_genesis
from ledger.parameters import CurrencyRule
from tests.support.commands import card, document, lossbook


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """Four insurers and a supervisor, assembled."""
    cards = [
        card(tmp_path / name, name, port=7000 + 10 * at) for at, name in enumerate(("alpha", "beta", "gamma", "delta"))
    ]
    cards.append(card(tmp_path / "watch", "watch", "supervisor", 7100))
    lossbook("genesis", "assemble", *cards, "--name", "market", "--out", tmp_path / "genesis.json")
    return tmp_path


def test_everybody_sees_the_same_chain_id(market: Path) -> None:
    chain_id = load_genesis((market / "genesis.json").read_bytes()).chain_id.hex()
    aloud = " ".join(chain_id[at : at + 4] for at in range(0, 64, 4))
    for name in ("alpha", "watch"):
        shown = lossbook(
            *("genesis", "check", market / "genesis.json", "--card", market / name / "card.json", "--chain-id", aloud)
        )
        assert aloud in shown.stdout


def test_assembly_does_not_depend_on_the_order_of_cards(market: Path) -> None:
    cards = [market / name / "card.json" for name in ("watch", "delta", "beta", "gamma", "alpha")]
    lossbook(
        *("genesis", "assemble", *cards, "--name", "market", "--out", market / "again.json"),
        *("--time", "2025-01-31T12:00:00Z"),
    )
    lossbook(
        *("genesis", "assemble", *reversed(cards), "--name", "market", "--out", market / "third.json"),
        *("--time", "2025-01-31T13:00:00+01:00"),
    )
    assert (market / "again.json").read_bytes() == (market / "third.json").read_bytes()


def test_private_keys_are_files_of_the_owner_alone(market: Path) -> None:
    keys = sorted((market / "alpha" / "keys").glob("*.key"))
    assert {"ledger.key", "consensus.key", "underwriter.key", "handler-2.key", "finance-2.key"} <= {
        k.name for k in keys
    }
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE((market / "alpha" / "keys").stat().st_mode) == 0o700
    assert not (market / "watch" / "keys" / "consensus.key").exists()


def test_keys_are_encrypted_unless_danger_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("a passphrase")
    (tmp_path / "pass").chmod(0o600)
    words = ("genesis", "card", "--office", tmp_path / "office", "--id", "watch", "--name", "W", "--kind", "supervisor")
    lossbook(*words, env={"LOSSBOOK_PASSPHRASE_FILE": str(tmp_path / "pass")})
    assert keyfile.is_encrypted(tmp_path / "office" / "keys" / "ledger.key")
    wrong = tmp_path / "wrong"
    wrong.write_text("another")
    wrong.chmod(0o600)
    assert "passphrase is wrong" in lossbook(*words, env={"LOSSBOOK_PASSPHRASE_FILE": str(wrong)}, code=1).output
    refused = lossbook(*words[:3], tmp_path / "new", *words[4:], code=1).output
    assert "LOSSBOOK_PASSPHRASE_FILE" in refused


def test_a_card_can_be_made_again_with_the_same_keys(tmp_path: Path) -> None:
    first = json.loads(card(tmp_path / "office", "alpha").read_bytes())
    again = json.loads(card(tmp_path / "office", "alpha", port=8000).read_bytes())
    assert json.loads(first["card"])["ledger_key"] == json.loads(again["card"])["ledger_key"]
    assert first["card"] != again["card"]


def test_altered_card_is_refused_and_its_organisation_named(market: Path) -> None:
    path = market / "beta" / "card.json"
    path.write_text(path.read_text().replace("beta Ltd", "Beta Ltd"))
    shown = lossbook("genesis", "assemble", path, "--name", "x", "--out", market / "x.json", code=4).output
    assert "card of beta" in shown
    assert "trusted way" in shown
    assert not (market / "x.json").exists()


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\xfe", b'{"card": 1}', b"[]"])
def test_files_that_are_no_cards_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "card.json").write_bytes(raw)
    shown = lossbook("genesis", "assemble", tmp_path / "card.json", "--name", "x", "--out", tmp_path / "g", code=4)
    assert f"{tmp_path / 'card.json'}: " in shown.output, "which of many it is"
    assert "lossbook genesis card" in shown.output


def test_one_organisation_twice_is_refused(market: Path) -> None:
    twin = card(market / "twin", "alpha")
    cards = [market / "alpha" / "card.json", twin]
    assert "alpha" in lossbook("genesis", "assemble", *cards, "--name", "x", "--out", market / "g", code=1).output


def test_genesis_of_another_network_is_refused(market: Path) -> None:
    shown = lossbook("genesis", "check", market / "genesis.json", "--chain-id", "00" * 32, code=4).output
    assert "is of network" in shown


def test_a_card_that_is_missing_from_the_genesis_is_seen(market: Path) -> None:
    stranger = card(market / "stranger", "omega")
    shown = lossbook("genesis", "check", market / "genesis.json", "--card", stranger, code=4).output
    assert "omega" in shown


def test_damaged_genesis_is_refused(market: Path) -> None:
    raw = (market / "genesis.json").read_bytes()
    (market / "bad.json").write_bytes(raw[:-200])
    assert "not a genesis file" in lossbook("genesis", "check", market / "bad.json", code=4).output


def test_an_existing_genesis_is_not_written_over(market: Path) -> None:
    before = (market / "genesis.json").read_bytes()
    words = ("genesis", "assemble", market / "alpha" / "card.json", "--name", "x", "--out", market / "genesis.json")
    assert "not written over" in lossbook(*words, code=1).output
    assert (market / "genesis.json").read_bytes() == before


def test_show_lists_keys_and_roles(market: Path) -> None:
    shown = document("genesis", "show", market / "genesis.json")
    assert [one["id"] for one in shown["organisations"]] == ["alpha", "beta", "delta", "gamma", "watch"]
    roles = {key["label"]: key["roles"] for key in shown["organisations"][0]["keys"]}
    assert roles["handler-1"] == ["claims-handler"]
    assert "claims-handler" in lossbook("genesis", "show", market / "genesis.json").stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--id", "A"), "2 to 32"),
        (("--id", "alpha", "--role-key", "boss=emperor"), "not one of"),
        (("--id", "alpha", "--peer-address", "nowhere"), "host:port"),
    ],
)
def test_cards_that_break_a_rule_are_refused(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    common = ("genesis", "card", "--office", tmp_path, "--name", "A", "--kind", "insurer", "--unsafe-no-passphrase")
    address = () if "--peer-address" in words else ("--peer-address", "127.0.0.1:1")
    assert why in lossbook(*common, *address, *words, code=1).output


@pytest.mark.parametrize(
    "words",
    [
        ("--role-key", "x"),
        ("--role-key", "ledger=admin"),
        ("--role-key", "../x=admin"),
        ("--kind", "bank"),
    ],
)
def test_slips_are_usage_errors(tmp_path: Path, words: tuple[str, ...]) -> None:
    common = ("genesis", "card", "--office", tmp_path, "--name", "A", "--id", "alpha", "--kind", "insurer")
    lossbook(*common, "--unsafe-no-passphrase", *words, code=2)
    assert not list(tmp_path.iterdir())


def test_parameters_by_command(market: Path) -> None:
    cards = [market / name / "card.json" for name in ("alpha", "watch")]
    words = ("genesis", "assemble", *cards, "--name", "x", "--out")
    lossbook(*words, market / "g.json", "--parameter", "k_max=7", "--four-eyes", "50,000 JPY")
    parameters = load_genesis((market / "g.json").read_bytes()).parameters
    assert parameters.k_max == 7
    assert parameters.currencies == {"JPY": CurrencyRule(0, 50_000)}
    assert "k_max" in lossbook(*words, market / "h.json", "--parameter", "k_max=1", code=1).output
    assert "parameters:" in lossbook(*words, market / "h.json", "--parameter", "colour=blue", code=2).output
    lossbook(*words, market / "h.json", "--time", "yesterday", code=2)
    lossbook(*words, market / "h.json", "--time", "2025-01-31T12:00:00", code=2)


# -- keys and profiles -----------------------------------------------------------------------------


def test_key_create_and_show(tmp_path: Path) -> None:
    made = document("key", "create", tmp_path / "new" / "a.key", "--unsafe-no-passphrase")
    shown = document("key", "show", tmp_path / "new" / "a.key")
    assert made == shown
    assert (shown["kind"], shown["encrypted"], len(shown["public_key"])) == ("role", False, 64)
    again = lossbook("key", "create", tmp_path / "new" / "a.key", "--unsafe-no-passphrase", code=1).output
    assert "never overwritten" in again


def test_key_open_to_others_is_refused(tmp_path: Path) -> None:
    lossbook("key", "create", tmp_path / "a.key", "--unsafe-no-passphrase")
    (tmp_path / "a.key").chmod(0o644)
    assert "chmod 600" in lossbook("key", "show", tmp_path / "a.key", code=1).output


def test_profile_create_show_use(market: Path) -> None:
    env = {"LOSSBOOK_PROFILES_DIR": str(market / "profiles")}
    words = ("profile", "create", "one", "--office", market / "alpha", "--genesis", market / "genesis.json")
    lossbook(*words, env=env)
    assert "exists already" in lossbook(*words, env=env, code=1).output
    words = ("profile", "create", "two", "--office", market / "beta", "--genesis", market / "genesis.json")
    lossbook(*words, "--node", "alpha=10.0.0.1:7", env=env)
    assert "no profile is chosen" in lossbook("profile", "show", env=env, code=1).output.lower()
    lossbook("profile", "use", "two", env=env)
    shown = document("profile", "show", env=env)
    assert (shown["organisation"], shown["nodes"]) == ("beta", [{"organisation": "alpha", "address": "10.0.0.1:7"}])
    assert shown["others"] == ["one"]
    assert "claims-handler" in lossbook("profile", "show", "one", env=env).stdout
    assert "no profile 'three'" in lossbook("profile", "use", "three", env=env, code=1).output


def test_a_profile_of_an_organisation_that_joined_after_the_genesis(market: Path) -> None:
    env = {"LOSSBOOK_PROFILES_DIR": str(market / "profiles")}
    own = card(market / "late", "late", port=9500)
    words = ("profile", "create", "late", "--office", market / "late", "--genesis", market / "genesis.json")
    assert "--card if it was voted in later" in lossbook(*words, env=env, code=1).output
    assert "on no card of" in lossbook(*words, "--card", market / "alpha" / "card.json", env=env, code=1).output
    lossbook(*words, "--card", own, env=env)
    shown = document("profile", "show", env=env)
    assert (shown["organisation"], shown["epoch"]) == ("late", 0)
    assert "late" not in shown["validators"]


def test_profile_needs_an_office_that_is_on_the_network(market: Path) -> None:
    env = {"LOSSBOOK_PROFILES_DIR": str(market / "profiles")}
    card(market / "stranger", "omega")
    words = ("profile", "create", "x", "--office", market / "stranger", "--genesis", market / "genesis.json")
    assert "stands on no card" in lossbook(*words, env=env, code=1).output
    assert not (market / "profiles" / "x.toml").exists()


# -- homes -----------------------------------------------------------------------------------------


def test_node_and_replica_homes(market: Path) -> None:
    genesis = market / "genesis.json"
    keys = ("--genesis", genesis, "--keys", market / "alpha" / "keys")
    made = document("node", "init", "--home", market / "node", *keys, "--set", "log.format=json")
    assert made["organisation"] == "alpha"
    assert 'format = "json"' in (market / "node" / "lossbook.toml").read_text()
    lossbook("node", "init", "--home", market / "node", *keys, code=1)
    watch = ("--genesis", genesis, "--keys", market / "watch" / "keys")
    assert document("replica", "init", "--home", market / "replica", *watch)["organisation"] == "watch"
    assert "does not answer" in lossbook("node", "status", "--home", market / "node", code=3).output
    assert "does not answer" in lossbook("replica", "status", "--home", market / "replica", code=3).output
    assert "replica's, not a node's" in lossbook("node", "start", "--home", market / "replica", code=1).output


def test_a_setting_that_was_typed_wrong_is_a_usage_error_and_one_in_the_file_is_not(market: Path) -> None:
    genesis = ("--genesis", market / "genesis.json")
    for daemon, office in (("node", "alpha"), ("replica", "watch")):
        home, keys = market / f"a-{daemon}", ("--keys", market / office / "keys")
        assert (
            "no such setting"
            in lossbook(*(daemon, "init", "--home", home, *genesis, *keys, "--set", "listen.nosuch=3"), code=2).output
        )
        lossbook(daemon, "init", "--home", home, *genesis, *keys)
        start = (daemon, "start", "--home", home)
        assert "no such setting" in lossbook(*start, "--set", "listen.nosuch=3", code=2).output
        assert "no such setting" in lossbook(*start, env={"LOSSBOOK_LISTEN_NOSUCH": "3"}, code=2).output
        file = home / "lossbook.toml"
        file.write_text(file.read_text().replace("[listen]", "[listen]\nnosuch = 3"))
        said = lossbook(*start, code=1).output
        assert "no such setting" in said
        assert str(file) in said


def test_resync_keeps_votes_that_are_whole_and_deletes_nothing(market: Path) -> None:
    keys = ("--genesis", market / "genesis.json", "--keys", market / "alpha" / "keys")
    home = market / "node"
    lossbook("node", "init", "--home", home, *keys)
    (home / "state" / "something").write_text("old")
    kept = document("node", "resync", "--home", home, "--yes")["set_aside"]
    assert (home / "state.aside-1" / "something").read_text() == "old"
    assert str(home / "state.aside-1") in kept
    assert not any(Path(path).name.startswith("votes") for path in kept)
    assert not (home / "RESTORED").exists()
    (home / "state" / "something").write_text("newer")
    document("node", "resync", "--home", home, "--yes")
    assert (home / "state.aside-2" / "something").read_text() == "newer"
    lossbook("node", "resync", "--home", home, code=130, stdin="n\n")
    lossbook("replica", "resync", "--home", home, "--yes", code=1)


def test_resync_of_damaged_votes_keeps_the_blocks_and_marks_the_home(market: Path) -> None:
    keys = ("--genesis", market / "genesis.json", "--keys", market / "alpha" / "keys")
    home = market / "node"
    lossbook("node", "init", "--home", home, *keys)
    (log,) = (home / "votes").glob("*.log")
    log.unlink()
    kept = document("node", "resync", "--home", home, "--yes")["set_aside"]
    assert kept == [str(home / "votes.damaged-1")]
    assert (home / "RESTORED").exists()
    assert {each["what"]: each["verdict"] for each in document("doctor", "--home", home)["findings"]}[
        "stores"
    ] == "success"


def test_home_of_another_networks_genesis_is_refused(market: Path) -> None:
    other = market / "other.json"
    cards = [card(market / name, name) for name in ("omega", "psi")]
    lossbook("genesis", "assemble", *cards, "--name", "other", "--out", other)
    words = ("node", "init", "--home", market / "node", "--genesis", other, "--keys", market / "alpha" / "keys")
    assert "on no card" in lossbook(*words, code=1).output
    assert not (market / "node").exists()


def test_doctor_looks_at_a_home(market: Path) -> None:
    keys = ("--genesis", market / "genesis.json", "--keys", market / "alpha" / "keys")
    home = market / "node"
    lossbook("node", "init", "--home", home, *keys, "--set", "listen.http=")
    found = {each["what"]: each["verdict"] for each in document("doctor", "--home", home)["findings"]}
    assert found["python"] == found["libraries"] == found["genesis"] == found["certificate"] == "success"
    assert found["permissions"] == found["stores"] == "success"
    assert found["key"] == "warning"
    home.chmod(0o755)
    (home / "keys" / "ledger.key").chmod(0o644)
    (home / "votes").rename(home / "gone")
    shown = lossbook("doctor", "--home", home, code=1)
    assert f"chmod 700 {home}" in shown.stdout
    assert "chmod 600" in shown.stdout
    assert "failure  stores" in shown.stdout


def test_a_home_without_a_certificate_gets_one_at_its_start_where_the_ledger_key_is_there(market: Path) -> None:
    home = market / "restored"
    lossbook("node", "init", "--home", home, "--genesis", market / "genesis.json", "--keys", market / "alpha" / "keys")
    (home / "tls" / "leaf.pem").unlink()

    def certificate() -> dict[str, str]:
        found = json.loads(lossbook("doctor", "--home", home, "--json", code=None).stdout)["findings"]
        (one,) = [each for each in found if each["what"] == "certificate"]
        return dict(one)

    assert certificate()["verdict"] == "warning"
    assert "issues itself one at its start" in certificate()["advice"]
    asked = lossbook("node", "status", "--home", home, code=1).output
    assert "this home has no TLS certificate yet" in asked
    assert "Start the daemon with keys/ledger.key" in asked
    (home / "keys" / "ledger.key").unlink()
    assert certificate()["verdict"] == "failure"
    assert "Put the ledger key into the home as" in certificate()["advice"]


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    shown = lossbook("doctor", "--home", tmp_path, code=1).stdout
    assert "lossbook node init" in shown
    shown = lossbook("doctor", env={"LOSSBOOK_PROFILES_DIR": str(tmp_path)}).stdout
    assert "lossbook profile create" in shown
