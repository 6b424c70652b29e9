"""The operators of the organisations, who type what docs/operations.md tells them to after a machine is gone.

    1  a new home from the office, without a consensus key: ``node init``, ``node start``; the others send the state
    2  the key that this node makes for the next epoch is registered: ``key possess``, ``tx build, sign, submit``
    3  a vote for new consensus keys: ``governance propose rotate``, and ``vote`` by as many others as it takes
    4  the epoch ends, and the node votes again

Every command and its answer stand in ``operator.log`` in the office. What fails is typed again: the network is under
fire, and a person would do so.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shlex
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from chaos.fabric import Answer, Fabric
from chaos.validators import Validators
from chaos.watch import Watch
from cli.local import Network
from lossbook_sdk.pins import DIRECTORY_VARIABLE

BACK_S_MAX: Final = 120.0
"""From the beginning of the operator's work until the node votes and is level, on a busy machine."""
AGAIN_S: Final = 0.5
"""Before a command that failed is typed again."""
LOOK_S: Final = 0.1
SNAPSHOT_BLOCKS: Final = 20
"""So that a short chain is worth a snapshot; of the first start only."""
SIGNING: Final = "signing"


class NotBack(Exception):
    """A destroyed validator does not vote again.

    Attributes:
        advice: what to do.
    """

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem)
        self.advice = advice


class Newcomer(msgspec.Struct, frozen=True):
    """A destroyed validator that votes again."""

    validator: str
    back_s: float
    """From when its operator began, until it voted and all were level."""
    epoch: int
    """In which it votes."""
    blocks_from: int
    """First block it holds: above 1, it fetched the state, and not the blocks below."""


def proposed_again(state: str) -> bool:
    """Whether a vote came to nothing, so that there has to be another one."""
    return state in ("expired", "lapsed", "rejected", "superseded", "not-ready")


def voters(shown: dict[str, Any], others: Sequence[str]) -> tuple[str, ...]:
    """Who of the others has to vote for a proposal now, as few as it takes.

    Args:
        shown: what ``governance show --json`` says of it.
    """
    yes = shown["votes"]["yes"]
    left = [name for name in others if name not in yes]
    return tuple(left[: max(0, shown["votes"]["needed"] - len(yes))]) if shown["state"] == "open" else ()


class Operators:
    """All of them."""

    def __init__(
        self, network: Network, validators: Validators, fabric: Fabric, watch: Watch, say: Callable[[str], None]
    ) -> None:
        self.newcomers: list[Newcomer] = []
        self._network = network
        self._validators = validators
        self._fabric = fabric
        self._watch = watch
        self._say = say
        self._http = {name: _http_of(Path(place.home)) for name, place in validators.places.items()}

    async def bring_back(self, name: str) -> None:
        """Make a destroyed validator anew, and wait until it votes.

        Raises:
            NotBack: it does not.
        """
        began_s = time.monotonic()
        step = ""
        try:
            async with asyncio.timeout(BACK_S_MAX):
                step = self._begin(name, "a new home is made")
                await self._home(name)
                step = self._begin(name, "its next consensus key is registered")
                epoch = await self._register(name)
                step = self._begin(name, "all vote for new consensus keys")
                await self._rotate(name)
                step = self._begin(name, "the epoch ends")
                newcomer = await self._voting(name, epoch, began_s)
        except TimeoutError:
            raise NotBack(
                f"the destroyed validator {name} did not vote again within {BACK_S_MAX:.0f} s; it got as far as: "
                f"{step}. The node says: {self._said(name)}",
                f"What its operator typed, and was told: {self._log(name)}; the node's own words: "
                f"{self._validators.places[name].log}",
            ) from None
        self.newcomers.append(newcomer)
        self._say(f"{name} votes again, in epoch {newcomer.epoch}, {newcomer.back_s:.1f} s after its operator began")

    # -- steps -------------------------------------------------------------------------------

    async def _home(self, name: str) -> None:
        office, home = self._network.office(name), self._validators.places[name].home
        settings = f"listen.http={self._http[name]}"
        keys = ("--keys", str(office / "keys"), "--without-consensus-key")
        genesis = str(self._network.folder / "genesis.json")
        await self._done(name, "node", "init", "--home", home, "--genesis", genesis, *keys, "--set", settings)
        self._validators.start(name, snapshot_blocks=SNAPSHOT_BLOCKS)

    async def _register(self, name: str) -> int:
        """The epoch for which the key is that the node made."""
        keys = Path(self._validators.places[name].home) / "keys"
        while True:
            epoch = self._next_epoch()
            file = keys / f"consensus-{epoch}.key"
            if file.exists():
                break
            await asyncio.sleep(LOOK_S)
        office = self._network.office(name)
        operation, envelope = (str(office / f"register-{epoch}.{kind}") for kind in ("json", "tx"))
        await self._done(name, "key", "possess", str(file), "--epoch", str(epoch), "--out", operation)
        await self._done(name, "tx", "build", operation, "--key", "admin", "--out", envelope)
        await self._done(name, "tx", "sign", envelope, "--key", "admin")
        await self._done(name, "tx", "submit", envelope)
        return epoch

    async def _rotate(self, name: str) -> None:
        others = [other for other in self._validators.places if other != name]
        proposal, shown = "", None
        while shown is None or shown["state"] == "open" or proposed_again(shown["state"]):
            if shown is None or proposed_again(shown["state"]):
                proposal = secrets.token_hex(16)
                shown = await self._shown(name, proposal, "propose", "rotate", "--id", proposal)
            else:
                votes = [self._shown(each, proposal, "vote", proposal, "yes") for each in voters(shown, others)]
                shown = next((each for each in reversed(await asyncio.gather(*votes)) if each is not None), shown)
                if shown["state"] == "open":
                    shown = await self._shown(name, proposal, "show", proposal) or shown

    async def _voting(self, name: str, epoch: int, began_s: float) -> Newcomer:
        while True:
            seen = self._watch.seen[name]
            if seen is not None and self._watch.level:
                detail = seen.detail
                if detail.get("signing") == SIGNING and detail.get("voting") and int(detail.get("epoch", 0)) >= epoch:
                    back_s = round(time.monotonic() - began_s, 1)
                    return Newcomer(name, back_s, int(detail["epoch"]), int(detail.get("blocks_from", 0)))
            await asyncio.sleep(LOOK_S)

    # -- typing ------------------------------------------------------------------------------

    async def _shown(self, name: str, proposal: str, *words: str) -> dict[str, Any] | None:
        """What a ``governance`` command says of a proposal or, where it fails, what ``show`` does; None: nothing."""
        answer = await self._type(name, "governance", *words, "--json")
        if answer.code:
            answer = await self._type(name, "governance", "show", proposal, "--json")
        document = json.loads(answer.output) if not answer.code else {}
        return document if "state" in document else None

    async def _done(self, name: str, *words: str) -> None:
        while True:
            answer = await self._type(name, *words)
            if not answer.code:
                return
            await asyncio.sleep(AGAIN_S)

    async def _type(self, name: str, *words: str) -> Answer:
        environment = {
            "LOSSBOOK_PROFILE": str(self._network.profile(name)),
            DIRECTORY_VARIABLE: str(self._network.office(name) / "checkpoints"),
        }
        began_s = time.monotonic()
        answer = await asyncio.to_thread(self._fabric.command, words, environment)
        took = f"exit code {answer.code} after {time.monotonic() - began_s:.1f} s"
        with self._log(name).open("a", encoding="utf-8") as log:
            log.write(f"$ lossbook {shlex.join(words)}\n{answer.output}{answer.errors}[{took}]\n\n")
        return answer

    def _log(self, name: str) -> Path:
        return self._network.office(name) / "operator.log"

    def _begin(self, name: str, step: str) -> str:
        self._say(f"{name} was destroyed: {step}")
        return step

    def _next_epoch(self) -> int:
        seen = [each for each in self._watch.seen.values() if each is not None]
        return 1 + max((int(each.detail.get("epoch", 0)) for each in seen), default=0)

    def _said(self, name: str) -> str:
        seen = self._watch.seen[name]
        if seen is None:
            return "it does not answer"
        reasons = seen.detail.get("reasons") or [{"text": f"it is {seen.detail.get('signing')}"}]
        return str(reasons[0]["text"])


def _http_of(home: Path) -> str:
    """A setting that no card has; its operator keeps a copy of the file."""
    settings = tomllib.loads((home / "lossbook.toml").read_text(encoding="utf-8"))
    return str(settings["listen"]["http"])
