"""All cases, in shards, by as many processes as wanted; what is finished is kept in a file, and not done again.

A shard is 1,024 neighbouring cases, about ten seconds. The state file names the enumeration it belongs to (rounds, and
whether the twin lies) and the digest of the code that was run: results of other code count for nothing.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec

import consensus
from simulator.twins.cases import Case, count
from simulator.twins.liar import Liar
from simulator.twins.world import Instance, World

SHARD_CASES: Final = 1024
FAILURES_KEPT: Final = 100  #: of one shard: more of them say nothing new


class StateFileError(Exception):
    """The state file belongs to another enumeration, or cannot be read.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}. Name another --state, or remove the file to begin anew")
        self.path = path


class Failure(msgspec.Struct, frozen=True):
    """A case in which an invariant broke."""

    case: str
    """``Case.name``."""
    oracle: str
    """The invariant, and what was found."""
    replay: str
    """The command that runs this case again."""


class Shard(msgspec.Struct, frozen=True):
    """What became of the cases from ``number * SHARD_CASES``."""

    number: int
    cases: int
    steps: int
    oracle_checks: int
    culprits_named: int
    """Cases in which evidence against the twin was found (I11 sees to it that it is against nobody else)."""
    cpu_s: float
    failures: tuple[Failure, ...]


class Progress(msgspec.Struct):
    """The state file."""

    rounds: int
    liar: bool
    code: str
    """``code_digest`` of what was run."""
    shards: list[Shard]

    @classmethod
    def load(cls, path: Path | None, rounds: int, *, liar: bool) -> Progress:
        """What was done before; nothing where there is no file.

        Raises:
            StateFileError: it is no state file, or another enumeration's.
        """
        fresh = cls(rounds, liar, code_digest(), [])
        if path is None or not path.exists():
            return fresh
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise StateFileError(path, f"cannot be read ({error})") from error
        if (found.rounds, found.liar) != (rounds, liar):
            raise StateFileError(path, f"belongs to {found.rounds} rounds with liar={found.liar}")
        if found.code != fresh.code:
            raise StateFileError(path, "was made with other code of consensus/ or simulator/twins/")
        return found

    def save(self, path: Path) -> None:
        """As a whole, or not at all."""
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(msgspec.json.encode(self))
        partial.replace(path)


def code_digest() -> str:
    """SHA-256 over the sources whose behaviour is enumerated, hex."""
    rooms = (Path(consensus.__file__).parent, Path(__file__).parent)
    digest = hashlib.sha256()
    for source in sorted(path for room in rooms for path in room.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def shards_of(rounds: int) -> int:
    """How many shards there are: 256 with four rounds."""
    return -(-count(rounds) // SHARD_CASES)


def run_case(case: Case) -> World:
    """One case; AssertionError names the invariant that broke."""
    world = World(case, Liar if case.liar else Instance)
    world.run()
    return world


def run_numbers(numbers: Iterable[int], rounds: int, *, liar: bool, shard: int = 0) -> Shard:
    """These cases, one after the other."""
    started_s = time.process_time()
    cases = steps = checks = named = 0
    failures: list[Failure] = []
    for number in numbers:
        case = Case.from_number(number, rounds, liar=liar)
        world = World(case, Liar if liar else Instance)
        cases += 1
        try:
            world.run()
        except AssertionError as broken:
            if len(failures) < FAILURES_KEPT:
                replay = f"lossbook sim twins --case {case.name}" + (" --liar" if liar else "")
                failures.append(Failure(case.name, str(broken), replay))
        steps += world.steps
        checks += world.oracle.checks
        named += bool(world.oracle.culprits)
    return Shard(shard, cases, steps, checks, named, time.process_time() - started_s, tuple(failures))


def _run_shard(job: tuple[int, int, bool]) -> Shard:
    number, rounds, liar = job
    first = number * SHARD_CASES
    return run_numbers(range(first, min(first + SHARD_CASES, count(rounds))), rounds, liar=liar, shard=number)


def run_shards(progress: Progress, wanted: Sequence[int], jobs: int, state: Path | None) -> Iterator[Shard]:
    """The wanted shards that are not done yet, as they finish; each is saved before it is given out."""
    done = {shard.number for shard in progress.shards}
    todo = [(number, progress.rounds, progress.liar) for number in wanted if number not in done]
    with get_context("spawn").Pool(min(jobs, max(1, len(todo))), initializer=os.nice, initargs=(5,)) as pool:
        for shard in pool.imap_unordered(_run_shard, todo):
            progress.shards.append(shard)
            if state is not None:
                progress.save(state)
            yield shard
