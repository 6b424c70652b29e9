"""All daemons and homes are destroyed but one: the network is founded anew on its books, by the commands of the page.

docs/operations.md, "Rebuild", is read and carried out by each organisation in a folder of its own: first after only a
validator's home is left, then, of the network so founded, after only the supervisor's replica is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import local
from cli.main import main
from tests.process.network import FAST
from tests.support.commands import document, lossbook
from tests.support.pages import read_page

SUPERVISOR = local.SUPERVISOR
MEMBERS = (*local.INSURERS, SUPERVISOR)
TERMS = ("--line", "home", "--limit", "300000.00 USD", "--deductible", "500.00 USD")
COVER = ("--from", "2025-01-01", "--to", "2025-12-31", "--date", "2025-01-01")


def documented(verb: str) -> list[list[str]]:
    """The commands under "Rebuild" that begin so, as words."""
    section = read_page("operations.md").partition("\n## Rebuild\n")[2].partition("\n## ")[0]
    blocks = "\n".join(re.findall(r"```\n(.*?)```", section, re.DOTALL))
    lines = re.sub(r"\\\n", " ", blocks).splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.strip().startswith(verb)]
    assert found, f"the page does not say how to {verb}"
    return found


def renamed(word: str, generation: int) -> str:
    """A word of the page, when the network that is lost was itself the result of ``generation - 1`` rebuilds."""
    if generation > 1:
        word = re.sub(r"(node|replica|genesis|market)-2", rf"\1-{generation + 1}", word)
        word = re.sub(r"^(\./node|\./replica)$|^(?:market|genesis)(?=\.)", rf"\g<0>-{generation}", word)
        word = word.replace("consensus-before", f"consensus-before-{generation}")
    return word


class Member:
    """An organisation: its folder, as the page assumes it, and its daemon."""

    def __init__(self, name: str, base: Path, folder: Path, http: int) -> None:
        self.name = name
        self.folder = folder
        self.folder.mkdir(parents=True)
        self.kind = "replica" if name == SUPERVISOR else "node"
        (base / name).rename(folder / "office")
        (folder / "office" / self.kind).rename(folder / self.kind)
        shutil.copyfile(base / "genesis.json", folder / "genesis.json")
        card = json.loads(json.loads((folder / "office" / "card.json").read_text())["card"])
        self.peer, self.public = card.get("peer_address", ""), card["public_address"]
        self.http = f"127.0.0.1:{http}"
        self.home = folder / self.kind
        self.process: subprocess.Popen[bytes] | None = None

    def types(self, words: Sequence[str], *more: object) -> None:
        """Carry out a command of the page in this organisation's folder, as this organisation."""
        own = {
            "alpha": self.name,
            "Alpha Insurance": f"{self.name} Ltd",
            "10.0.0.1:7100": self.peer,
            "10.0.0.1:7101": self.public,
        }
        said = [own.get(word, word) for word in words]
        if self.kind == "replica" and "--kind" in said:  # "a supervisor does the same with `--kind supervisor`"
            said[said.index("insurer")] = "supervisor"
            at = said.index("--peer-address")
            del said[at : at + 2]
        with contextlib.chdir(self.folder):
            if said[0] == "lossbook":
                lossbook(*said[1:], *more)
            else:
                subprocess.run(said, check=True)

    def start(self) -> None:
        """In the background."""
        settings = {name: value for name, value in FAST.items() if self.kind == "node" or name.startswith("log.")}
        words = [f"--set={name}={value}" for name, value in {**settings, "listen.http": self.http}.items()]
        command = [sys.executable, "-m", "cli", self.kind, "start", "--home", str(self.home), *words]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.folder / f"{self.home.name}.log"

    def kill(self) -> None:
        """As a power cut."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def status(self) -> dict[str, Any] | None:
        """What it says of itself; None while it does not answer."""
        result = CliRunner().invoke(main, [self.kind, "status", "--home", str(self.home), "--json"])
        return json.loads(result.stdout) if result.exit_code == 0 else None


class Market:
    """Four insurers and their supervisor, and the networks they found one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 1
        self.ended_at = 0  #: last height of the network before
        ports = local.free_ports(20)
        local.create(path / "net", name="market", ports=ports[:15], passphrase=None)
        self.members = {
            name: Member(name, path / "net", path / name, port) for name, port in zip(MEMBERS, ports[15:], strict=True)
        }
        self.kept: subprocess.Popen[bytes] | None = None  #: the daemon of an old home
        self.env = {"LOSSBOOK_PROFILES_DIR": str(path / "profiles")}

    def genesis(self, generation: int) -> Path:
        """The file of a generation."""
        return self.members["alpha"].folder / ("genesis.json" if generation == 1 else f"genesis-{generation}.json")

    def ask(self, name: str, *words: object, code: int = 0) -> Any:
        """A client's command, with its profile for the present network."""
        profile = f"{name}-{self.generation}"
        if not (self.path / "profiles" / f"{profile}.toml").exists():
            office, genesis = self.members[name].folder / "office", self.genesis(self.generation)
            lossbook("profile", "create", profile, "--office", office, "--genesis", genesis, env=self.env)
        return document(*words, "--profile", profile, code=code, env=self.env)

    def policy(self, name: str, *words: object, code: int = 0) -> Any:
        return self.ask(name, "policy", "issue", *TERMS, *COVER, *words, code=code)

    # -- daemons

    def start(self) -> None:
        """Everybody, until all answer."""
        for member in self.members.values():
            member.start()
        for member in self.members.values():
            self.wait(f"{member.name} answers", partial(self.answers, member.name))

    def wait(self, what: str, holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
        until = time.monotonic() + timeout_s
        while not holds():
            said = "\n".join(f"{member.name}: {member.log.read_text()[-1500:]}" for member in self.members.values())
            assert time.monotonic() < until, f"not within {timeout_s} s: {what}\n{said}"
            time.sleep(0.2)

    def answers(self, name: str) -> bool:
        return self.members[name].status() is not None

    def reached(self, name: str, height: int) -> bool:
        return max(self.roots(name), default=0) >= height

    def roots(self, name: str) -> dict[int, str]:
        """State roots of recent heights."""
        status = self.members[name].status()
        assert status is not None
        return {int(each["height"]): str(each["state_root"]) for each in status["roots"]}

    def equal_roots(self, least: int) -> dict[int, str]:
        """Roots that all daemons show, once all have executed this height; they are equal where several show one."""
        for name in MEMBERS:
            self.wait(f"{name} at height {least}", partial(self.reached, name, least))
        shown = [self.roots(name) for name in MEMBERS]
        common = set.intersection(*(set(roots) for roots in shown))
        assert max(common) >= least
        for height in common:
            assert len({roots[height] for roots in shown}) == 1, height
        return {height: shown[0][height] for height in common}

    # -- the day

    def lose_all_but(self, survivor: str) -> None:
        """Every process and every home."""
        for member in self.members.values():
            member.kill()
        for member in self.members.values():
            if member.name != survivor:
                shutil.rmtree(member.home)
        shutil.rmtree(self.members["delta"].folder / "office")  # its keys, too: it makes new ones under the same id

    def rebuild(self, survivor: str) -> dict[str, Any]:
        """What the page says, by everybody; what the survivor's owner was told."""
        [archive] = [words for words in self._page("lossbook genesis") if words[2] == "archive"]
        [card] = [words for words in self._page("lossbook genesis") if words[2] == "card"]
        [assemble] = [words for words in self._page("lossbook genesis") if words[2] == "assemble"]
        [check] = [words for words in self._page("lossbook genesis") if words[2] == "check"]
        [move] = self._page("mv")
        [init_node], [init_replica] = self._page("lossbook node init"), self._page("lossbook replica init")
        owner, alpha = self.members[survivor], self.members["alpha"]
        archive[archive.index("--home") + 1] = f"./{owner.home.name}"
        with contextlib.chdir(owner.folder):
            told = document(*archive[1:])
        name = archive[-1]
        for member in self.members.values():
            if member is not owner:
                shutil.copyfile(owner.folder / name, member.folder / name)
            if member.kind == "node" and (member.folder / "office" / "keys").exists():
                member.types(move)
            member.types(card, "--unsafe-no-passphrase")
            shutil.copyfile(member.folder / "office" / "card.json", alpha.folder / f"{member.name}.json")
        alpha.types([word.replace(f"{alpha.name}.json", "alpha.json") for word in assemble])
        made = assemble[-1]
        for member in self.members.values():
            if member is not alpha:
                shutil.copyfile(alpha.folder / made, member.folder / made)
            member.types(check)
            init = init_node if member.kind == "node" else init_replica
            member.types(init)
            member.home = member.folder / init[init.index("--home") + 1]
        self.generation += 1
        return dict(told)

    def _page(self, verb: str) -> list[list[str]]:
        return [[renamed(word, self.generation) for word in words] for words in documented(verb)]


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    made = Market(tmp_path)
    try:
        yield made
    finally:
        for member in made.members.values():
            member.kill()
        if made.kept is not None:
            made.kept.kill()
            made.kept.wait()


OF_ENVELOPE = "{:032x}"


def signed_and_executed(market: Market, policies: set[str]) -> Path:
    """An envelope file that has been executed: it issued a policy whose id is the generation's number."""
    file = market.path / f"signed-{market.generation}.tx"
    operations = market.path / "operations.json"
    terms = {"line": "home", "currency": "USD", "limit_minor": 1_000_000, "deductible_minor": 0}
    cover = {"period_start_days": "2025-01-01", "period_end_days": "2025-12-31", "asserted_date_days": "2025-01-01"}
    ids = {"policy_id": OF_ENVELOPE.format(market.generation), "subject_id": "00" * 16}
    operations.write_text(json.dumps([{"kind": "policy_issue", **ids, **terms, **cover}]))
    market.ask("alpha", "tx", "build", operations, "--key", "underwriter", "--out", file)
    market.ask("alpha", "tx", "sign", file, "--key", "underwriter")
    market.ask("alpha", "tx", "submit", file)
    return file


def policies_in_report(market: Market) -> int:
    """Policies in the supervisor's totals: those of the networks before are among them."""
    result = CliRunner().invoke(main, ["replica", "report", "--home", str(market.members[SUPERVISOR].home), "--json"])
    return sum(int(row["policies"]) for row in json.loads(result.stdout)["rows"]) if result.exit_code == 0 else -1


def lose_and_rebuild(market: Market, survivor: str, policies: set[str]) -> str:
    """One copy is left; what was final is there again on every daemon, and new business goes on. The new policy."""
    old = market.generation
    height = max(market.roots(survivor))
    before = market.equal_roots(height)
    proof, name = market.path / f"policy-{old}.proof", min(policies)
    market.ask("alpha", "record", "show", f"policy/{name}", "--prove", proof)
    envelope = signed_and_executed(market, policies)
    policies |= {OF_ENVELOPE.format(old)}
    height = max(market.equal_roots(height + 1))
    market.lose_all_but(survivor)

    told = market.rebuild(survivor)
    assert told["height"] >= height
    market.ended_at = told["height"]
    assert told["sealed"] == {"referenced": 0, "present": 0, "missing": []}
    market.start()
    first = told["height"] + 1
    roots = market.equal_roots(first)
    assert roots[told["height"]] == told["state_root"]
    assert {at: root for at, root in roots.items() if at in before} == {
        at: root for at, root in before.items() if at in roots
    }

    assert {
        each["policy_id"] for each in market.ask("alpha", "policy", "list", "--all-insurers")["policies"]
    } == policies
    lossbook("proof", "verify", proof, "--genesis", market.genesis(old))
    lossbook("proof", "verify", proof, "--genesis", market.genesis(old + 1), code=4)
    market.policy("beta", "--id", name, code=1)
    new = str(market.policy("delta", "--wait", "proven")["policy"])
    market.wait("the replica's totals", lambda: policies_in_report(market) == len(policies) + 1)
    said = market.ask("alpha", "tx", "submit", envelope, code=1)
    assert "another network" in said["error"] or "WRONG_CHAIN" in said["error"], said
    market.equal_roots(first + 1)
    return new


def old_blocks_are_served(market: Market, kept: Path, height: int) -> None:
    """A replica's old home, started beside the new network under its old genesis, answers up to where it ended."""
    member = market.members[SUPERVISOR]
    address = f"127.0.0.1:{local.free_ports(1)[0]}"
    env = {"LOSSBOOK_LISTEN_PUBLIC": address, "LOSSBOOK_LISTEN_HTTP": ""}
    command = [sys.executable, "-m", "cli", "replica", "start", "--home", str(kept)]
    with (member.folder / "kept.log").open("ab") as output:
        market.kept = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env})

    def status() -> Any:
        result = CliRunner().invoke(main, ["replica", "status", "--home", str(kept), "--json"], env=env)
        return json.loads(result.stdout) if result.exit_code == 0 else None

    market.wait("the kept replica answers", lambda: status() is not None)
    assert max(int(each["height"]) for each in status()["roots"]) == height


def test_the_network_is_rebuilt_from_one_validator_and_again_from_one_replica(market: Market) -> None:
    market.start()
    policies = {str(market.policy(name, "--wait", "proven")["policy"]) for name in ("alpha", "gamma")}
    policies.add(lose_and_rebuild(market, "alpha", policies))
    kept = market.members[SUPERVISOR].home
    policies.add(lose_and_rebuild(market, SUPERVISOR, policies))
    old_blocks_are_served(market, kept, market.ended_at)
    assert len(policies) == 6
