"""What the operator of a destroyed validator types, and that it goes on where a command fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from chaos import operators
from chaos.fabric import Answer, Fabric
from chaos.operators import Newcomer, NotBack, Operators, proposed_again, voters
from chaos.validators import Validators
from chaos.watch import Seen, Watch
from cli.daemons import DaemonPlace
from cli.local import Network

NAMES = ("alpha", "beta", "gamma", "delta")
GONE = "gamma"


class Ledger:
    """A network as commands show it; gamma's node makes its keys and votes as the daemon would."""

    def __init__(self, base: Path, *, failing: Sequence[str] = (), fruitless: int = 0, epoch: int = 0) -> None:
        self.typed: list[str] = []
        self.said: list[str] = []
        self.failing = list(failing)
        """Verbs of which the first command fails, after it has taken effect or before."""
        self.fruitless = fruitless
        """Votes that come to nothing because too few are ready."""
        self.epoch = epoch
        self.yes: list[str] = []
        self.proposal = ""
        self.registered = False
        self.places = {name: DaemonPlace(name, "node", str(base / name / "node"), "127.0.0.1:1") for name in NAMES}
        for place in self.places.values():
            Path(place.home).mkdir(parents=True)
            (Path(place.home) / "lossbook.toml").write_text(f'[listen]\nhttp = "127.0.0.1:{len(place.home)}"\n')
        self.network = Network(str(base), tuple(self.places.values()))
        self.keys = Path(self.places[GONE].home) / "keys"
        self.started = 0
        self.level = True

    @property
    def seen(self) -> dict[str, Seen | None]:
        detail = {"epoch": self.epoch, "signing": "signing", "voting": True, "blocks_from": 1}
        gone = {**detail, "blocks_from": 40} if self.yes == ["done"] else {**detail, "signing": "observing"}
        return {name: Seen(7, 7, True, gone if name == GONE else detail, 0) for name in NAMES}

    def start(self, name: str, *, snapshot_blocks: int) -> None:
        assert (name, snapshot_blocks) == (GONE, operators.SNAPSHOT_BLOCKS)
        self.keys.mkdir()
        # It made one for the next epoch as it knew it before it had caught up, and then for the real one.
        for epoch in {1, self.epoch + 1}:
            (self.keys / f"consensus-{epoch}.key").touch()

    def command(self, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
        who = Path(environment["LOSSBOOK_PROFILE"]).stem
        verb = words[2] if words[:2] == ["governance", "propose"] else words[1]
        self.typed.append(f"{who}: {words[0]} {verb}")
        fails = verb in self.failing
        if fails:
            self.failing.remove(verb)
            if verb == "vote":  # it was counted, and nobody heard of it
                self.yes.append(who)
            return Answer(3, "", "no node answers")
        if words[0] == "governance":
            return self.governance(who, words)
        if words[1] == "possess":
            assert words[2:5] == (str(self.keys / f"consensus-{self.epoch + 1}.key"), "--epoch", str(self.epoch + 1))
        self.registered = self.registered or words[1] == "submit"
        return Answer(0, "", "")

    def governance(self, who: str, words: Sequence[str]) -> Answer:
        if words[1] == "propose":
            self.proposal, self.yes = words[words.index("--id") + 1], [who]
        elif words[2] != self.proposal:
            return Answer(1, "", "there is no such proposal")
        elif words[1] == "vote":
            self.yes.append(who)
        state = "open" if len(self.yes) < 3 else "readiness"
        if state == "readiness" and self.fruitless:
            self.fruitless -= 1
            state = "not-ready"
        shown = {"state": state, "votes": {"needed": 3, "yes": list(self.yes)}}
        if state == "readiness":
            assert self.registered, "or its seat would stay silent"
            self.epoch, self.yes = self.epoch + 1, ["done"]
        return Answer(0, json.dumps(shown), "")

    def operators(self) -> Operators:
        return Operators(
            self.network, cast("Validators", self), cast("Fabric", self), cast("Watch", self), self.said.append
        )


def brought_back(ledger: Ledger) -> Newcomer:
    made = ledger.operators()
    asyncio.run(made.bring_back(GONE))
    (newcomer,) = made.newcomers
    return newcomer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "AGAIN_S", 0.0)
    monkeypatch.setattr(operators, "LOOK_S", 0.0)


REGISTERED = ["gamma: node init", "gamma: key possess", "gamma: tx build", "gamma: tx sign", "gamma: tx submit"]


def test_the_operator_follows_the_book(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    newcomer = brought_back(ledger)
    assert (newcomer.validator, newcomer.epoch, newcomer.blocks_from) == (GONE, 1, 40)
    assert ledger.typed[:6] == [*REGISTERED, "gamma: governance propose"]
    assert sorted(ledger.typed[6:]) == ["alpha: governance vote", "beta: governance vote"]
    assert "votes again, in epoch 1" in ledger.said[-1]
    log = (tmp_path / GONE / "operator.log").read_text()
    assert "$ lossbook node init" in log
    assert "--without-consensus-key" in log
    assert f"listen.http=127.0.0.1:{len(ledger.places[GONE].home)}" in log


def test_a_key_is_registered_for_the_epoch_that_follows_the_present_one(tmp_path: Path) -> None:
    assert brought_back(Ledger(tmp_path, epoch=2)).epoch == 3


@pytest.mark.parametrize("verb", ["init", "possess", "build", "sign", "submit"])
def test_a_command_that_fails_is_typed_again(tmp_path: Path, verb: str) -> None:
    ledger = Ledger(tmp_path, failing=[verb])
    brought_back(ledger)
    assert len([typed for typed in ledger.typed if typed.endswith(verb)]) == 2


def test_a_proposal_nobody_heard_of_is_made_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, failing=["propose"])
    brought_back(ledger)
    assert ledger.typed.count("gamma: governance propose") == 2


def test_a_vote_without_an_answer_is_looked_for_before_it_is_cast_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, failing=["vote"])
    assert brought_back(ledger).epoch == 1
    assert len([typed for typed in ledger.typed if typed.endswith("vote")]) == 2


def test_a_vote_that_came_to_nothing_is_followed_by_another_proposal(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, fruitless=1)
    assert brought_back(ledger).epoch == 1
    assert ledger.typed.count("gamma: governance propose") == 2


def test_invalid_a_validator_that_does_not_come_back_is_told_with_the_step_and_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "BACK_S_MAX", 0.05)
    ledger = Ledger(tmp_path)
    ledger.level = False
    with pytest.raises(NotBack, match="gamma did not vote again") as told:
        brought_back(ledger)
    begun = ledger.said[-1].removeprefix("gamma was destroyed: ")
    assert f"it got as far as: {begun}. The node says:" in str(told.value)
    assert "operator.log" in told.value.advice


@pytest.mark.parametrize(
    ("state", "yes", "expected"),
    [
        ("open", ["gamma"], ("alpha", "beta")),
        ("open", ["gamma", "alpha"], ("beta",)),
        ("open", ["gamma", "delta", "alpha"], ()),
        ("readiness", ["gamma"], ()),
    ],
)
def test_as_few_vote_as_it_takes(state: str, yes: list[str], expected: tuple[str, ...]) -> None:
    shown: dict[str, Any] = {"state": state, "votes": {"needed": 3, "yes": yes}}
    assert voters(shown, ("alpha", "beta", "delta")) == expected


def test_only_what_came_to_nothing_is_proposed_again() -> None:
    assert proposed_again("lapsed")
    assert proposed_again("not-ready")
    assert not any(proposed_again(state) for state in ("open", "readiness", "boundary", "in-force"))
