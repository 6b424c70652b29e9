"""``lossbook key possess``: what it writes is what the contract demands, and code 423 is what happens without it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from cli.main import main
from crypto import keyfile
from ledger import codes
from ledger import operations as ops
from ledger.codes import Code, advice
from ledger.organisations import find_key
from lossbook_sdk import governance
from lossbook_sdk.operation_json import read_operations
from tests.support.assembly_client import ChainSession
from tests.support.commands import card, document, lossbook
from tests.support.epoch_chain import EpochChain
from tests.support.insurers import FIRST, INSURERS, key_of, market_genesis
from tests.support.voting import Assembly, next_key

NEW = key_of("a new desk")


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(market_genesis().raw)
    return path


def key_file(folder: Path, kind: str = "role") -> Path:
    path = folder / f"{kind}.key"
    keyfile.save(path, next_key(FIRST.id, 1) if kind == "consensus" else NEW, kind, None, unsafe_plaintext=True)
    return path


def possess(file: Path, genesis: Path, *words: object, organisation: str = FIRST.id, code: int = 0) -> str:
    out = genesis.with_name("operation.json")
    common = ("--genesis", genesis, "--organisation", organisation, "--out", out)
    return lossbook("key", "possess", file, *common, *words, code=code).output


def written(genesis: Path) -> ops.Operation:
    (operation,) = read_operations(genesis.with_name("operation.json").read_bytes())
    return operation


def test_a_signing_key_that_signed_itself_is_taken(tmp_path: Path, genesis: Path) -> None:
    house = Assembly()
    shown = possess(key_file(tmp_path), genesis, "--role", "finance", "--role", "auditor")
    assert NEW.public.hex() in shown
    assert "tx build" in shown
    assert house.code(written(genesis), FIRST) == Code.OK


def test_one_key_comes_and_another_goes(tmp_path: Path, genesis: Path) -> None:
    house = Assembly()
    gone = FIRST.desks["auditor"].public
    possess(key_file(tmp_path), genesis, "--role", "auditor", "--drop", gone.hex())
    operation = written(genesis)
    assert isinstance(operation, ops.OrganisationChangeKey)
    assert operation.drop == gone
    assert house.code(operation, FIRST) == Code.OK


def test_one_admin_authorises_what_another_submits(tmp_path: Path, genesis: Path) -> None:
    house = Assembly()
    third = key_of("a third admin")
    change = governance.change_key(house.ledger.genesis.chain_id, FIRST.id, key=third, roles=1)
    assert house.code(change, FIRST) == Code.OK
    other = tmp_path / "authorise.json"
    possess(key_file(tmp_path), genesis, "--role", "api", "--authorise", other)
    (authorisation,) = read_operations(other.read_bytes())
    assert house.code(written(genesis), FIRST) == Code.TWO_ADMINS_REQUIRED
    assert house.code(authorisation, FIRST, ["admin-2"]) == Code.OK
    assert house.code(written(genesis), FIRST) == Code.OK
    words = ("--epoch", 1, "--authorise", other)
    assert "co-sign" in possess(key_file(tmp_path, "consensus"), genesis, *words, code=2)


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> EpochChain:
    made = EpochChain()
    made.block()

    @contextmanager
    def client(*_: object) -> Iterator[ChainSession]:
        yield ChainSession(made)

    monkeypatch.setattr("cli.session.client", client)
    return made


def test_a_stolen_key_is_dropped_and_signs_nothing_more(chain: EpochChain, tmp_path: Path) -> None:
    stolen = FIRST.desks["underwriter"]
    assert find_key(chain.ledger.state, stolen.public) is not None
    shown = document("key", "drop", stolen.public.hex(), "--key", "admin")
    assert (shown["dropped"], shown["receipt"]["code"]) == (stolen.public.hex(), "OK")
    assert find_key(chain.ledger.state, stolen.public) is None
    assert codes.text(Code.UNKNOWN_KEY) in lossbook("key", "drop", stolen.public.hex(), "--key", "admin", code=1).output
    assert "no public key" in lossbook("key", "drop", "00ff", "--key", "admin", code=2).output


def test_the_last_admin_key_stays(chain: EpochChain) -> None:
    first, second = FIRST.desks["admin"], FIRST.desks["admin-2"]
    lossbook("key", "drop", second.public.hex(), "--key", "admin")
    shown = lossbook("key", "drop", first.public.hex(), "--key", "admin", code=1).output
    assert codes.text(Code.LAST_ADMIN_KEY) in shown


def test_a_consensus_key_is_registered_for_the_next_epoch_only(tmp_path: Path, genesis: Path) -> None:
    house = Assembly()
    file = key_file(tmp_path, "consensus")
    possess(file, genesis, "--epoch", 2)
    assert house.code(written(genesis), FIRST) == Code.WRONG_EPOCH
    assert "A consensus key is for the one after it" in advice(Code.WRONG_EPOCH)
    possess(file, genesis, "--epoch", 1)
    assert house.code(written(genesis), FIRST) == Code.OK


def test_code_423_is_what_the_wrong_organisation_gets_and_the_command_is_what_its_advice_names(
    tmp_path: Path, genesis: Path
) -> None:
    house = Assembly()
    for file, words in ((key_file(tmp_path), ("--role", "api")), (key_file(tmp_path, "consensus"), ("--epoch", 1))):
        possess(file, genesis, *words, organisation=INSURERS[1].id)
        assert house.code(written(genesis), FIRST) == Code.BAD_POSSESSION
        possess(file, genesis, *words)
        assert house.code(written(genesis), FIRST) == Code.OK
    assert "`lossbook key possess`" in codes.advice(Code.BAD_POSSESSION)


def test_network_and_organisation_come_from_the_profile_and_the_operation_goes_into_tx_build(tmp_path: Path) -> None:
    cards = [card(tmp_path / "alpha", "alpha", port=1), card(tmp_path / "watch", "watch", "supervisor", 3)]
    lossbook("genesis", "assemble", *cards, "--name", "market", "--out", tmp_path / "genesis.json")
    env = {"LOSSBOOK_PROFILES_DIR": str(tmp_path / "profiles")}
    words = ("profile", "create", "alpha", "--office", tmp_path / "alpha", "--genesis", tmp_path / "genesis.json")
    lossbook(*words, env=env)
    out, tx = tmp_path / "add.json", tmp_path / "add.tx"
    made = document("key", "possess", key_file(tmp_path), "--role", "api", "--out", out, env=env)
    assert (made["organisation"], made["operation"]["kind"]) == ("alpha", "organisation_change_key")
    lossbook("tx", "build", out, "--key", "admin", "--out", tx, env=env)
    assert document("tx", "sign", tx, "--key", "admin", env=env)["missing"] == []


@pytest.mark.parametrize(
    ("kind", "words", "code", "why"),
    [
        ("role", (), 2, "takes --role"),
        ("role", ("--role", "boss"), 2, "is not a role"),
        ("role", ("--role", "api", "--role", "api"), 2, "different roles"),
        ("role", ("--role", "api", "--epoch", 1), 2, "no --epoch"),
        ("role", ("--role", "api", "--drop", "xy"), 2, "no public key"),
        ("consensus", (), 2, "takes --epoch"),
        ("consensus", ("--epoch", 1, "--role", "api"), 2, "neither --role"),
        ("consensus", ("--epoch", 0), 2, "0 is not in the range"),
        ("ledger", ("--role", "api"), 1, "governance propose rotate"),
    ],
)
def test_invalid_combinations_write_nothing(
    tmp_path: Path, genesis: Path, kind: str, words: tuple[object, ...], code: int, why: str
) -> None:
    assert why in possess(key_file(tmp_path, kind), genesis, *words, code=code)
    assert not genesis.with_name("operation.json").exists()


def test_invalid_organisation_and_missing_file(tmp_path: Path, genesis: Path) -> None:
    shown = possess(key_file(tmp_path), genesis, "--role", "api", organisation="Not An Id", code=2)
    assert "no organisation id" in shown
    possess(tmp_path / "none.key", genesis, "--role", "api", code=1)


ADVISED = [(code, words) for code in Code for words in re.findall(r"`lossbook ([^`]*)`", codes.advice(code))]


@pytest.mark.parametrize(("code", "words"), ADVISED, ids=str)
def test_every_command_that_a_code_advises_exists(code: Code, words: str) -> None:
    found: click.Command = main
    for word in words.split():
        if isinstance(found, click.Group) and not word.startswith("-"):
            inner = found.get_command(click.Context(found), word)
            assert inner is not None, f"{code.name} advises `lossbook {words}`"
            found = inner
    assert not isinstance(found, click.Group)
