"""Plans in which the set of validators changes while somebody lies or forgets: never more than f of any set on the way.

Drawn from a stream of randomness of its own, so that the plans of ``simulator.plan`` stay what they are.

    a liar       stays, is removed or suspended, or joins with a change of the set
    a copy       of a disk, taken in one epoch, is put back in a later one; or taken right after a hand-over
    a disk       is lost after a hand-over, with the keys on it or without: the node fetches the state, and waits for a
                 change of the set where its key is gone

Beside these: a suspended member is reinstated, an organisation gets another ledger key, clients another signing key,
the network other parameters; load goes on.
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from simulator.faults import MARKED
from simulator.node import Boundary
from simulator.plan import (
    GOVERNED_DROP_PERMILLE_MAX,
    Change,
    Fault,
    Liar,
    Load,
    Plan,
    any_fault,
    at_boundary,
    draw,
    faulty_max,
)

CONTESTED_MS: Final = (6_000, 8_000)
SNAPSHOT_BLOCKS: Final = 6
"""So little a node is behind that fetches the state."""

NEWCOMERS: Final = 2
LIES: Final = ("stays", "leaves", "joins")
LOSSES: Final = ("copy", "disk", "copy-after", "disk-and-keys", "copy-unmarked")
UNMARKED: Final = "unmarked"


def draw_contested(seed: int, n: int, turn: int, kinds: tuple[str, ...]) -> Plan:
    """The plan of a seed.

    Args:
        turn: which of the cases; counted up from plan to plan, all have their turn.
        kinds: of liars, to choose from.
    """
    random = Random(f"contested/{seed}/{n}")
    base = draw(seed, n)
    cases = tuple(case for pair in zip(LIES, LOSSES, strict=False) for case in pair) + LOSSES[len(LIES) :]
    one = cases[turn % len(cases)]
    chosen = (LIES[turn % len(LIES)], LOSSES[turn % len(LOSSES)]) if faulty_max(n) > 1 else (one,)
    lie = next((case for case in chosen if case in LIES), "")
    loss = next((case for case in chosen if case in LOSSES), "")
    liar, victim, guest, other = random.sample(range(n), 4)
    if lie == "joins":
        liar = n
    elif loss and random.random() < 0.3:
        victim = n  # whom an earlier epoch knows as an observer
    safety_ms = random.randint(*CONTESTED_MS)
    liars = (Liar(liar, kinds[turn % len(kinds)]),) if lie else ()
    honest = [node for node in range(n + NEWCOMERS) if not (lie and node == liar)]
    faults = [any_fault(random, honest, [], n + NEWCOMERS, safety_ms) for _ in range(random.randint(1, 3))]
    faults = [_between_any_sends(random, fault, n) for fault in faults]
    faults += [at_boundary(random, safety_ms) for _ in range(random.randint(0, 2))]
    if loss:
        faults += _loss(random, loss, victim, other)
    weather = base.weather
    if weather.drop_permille > GOVERNED_DROP_PERMILLE_MAX:
        weather = msgspec.structs.replace(weather, drop_permille=GOVERNED_DROP_PERMILLE_MAX)
    return msgspec.structs.replace(
        base,
        safety_ms=safety_ms,
        weather=weather,
        load=Load(every_ms=random.choice((40, 80))),
        liars=liars,
        faults=tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.kind))),
        hopeless=False,
        newcomers=NEWCOMERS,
        changes=_changes(random, n, lie, liar, guest, other),
        snapshot_blocks=SNAPSHOT_BLOCKS if loss.startswith("disk") or turn % 2 else 0,
        contested=True,
    )


def _changes(random: Random, n: int, lie: str, liar: int, guest: int, other: int) -> tuple[Change, ...]:
    """What the members decide, one after another; what the rules or the arithmetic forbid by then is passed over."""
    first, second = Change(100, "add", n), Change(0, "add", n + 1)
    beside = [Change(0, "card", random.randrange(n)), Change(0, "key", random.randrange(n))]
    random.shuffle(beside)
    away_and_back = [Change(0, "suspend", guest), Change(0, "reinstate", guest)]
    match lie:
        case "leaves":
            gone = random.choice(("remove", "suspend"))
            middle = [Change(0, gone, liar), beside[0], second, beside[1], *away_and_back]
        case "joins":
            middle = [*away_and_back, beside[0], Change(0, "remove", other), second, beside[1]]
        case _:
            middle = [beside[0], *away_and_back, beside[1], Change(0, "remove", other), second]
    return (Change(50, "parameters"), first, *middle, Change(0, "rotate"))


def _between_any_sends(random: Random, fault: Fault, n: int) -> Fault:
    """A crash between two sends comes after any of them, not always after the first."""
    if fault.where != Boundary.BETWEEN_SENDS:
        return fault
    return msgspec.structs.replace(fault, amount=random.randrange(n))


def _loss(random: Random, loss: str, node: int, other: int) -> list[Fault]:
    """What a node loses; often while nobody hears what it signs in the new epoch, and so few are left that it waits."""
    at_ms, for_ms = random.randint(300, 900), random.randint(1, 600)
    fault = _lost(random, loss, node, at_ms, for_ms)
    if loss == "copy-unmarked" or fault.where == UNMARKED or random.random() < 0.4:
        return [fault]  # what nobody else knows of is the marker's to tell
    fault = msgspec.structs.replace(fault, for_ms=for_ms + 400)
    return [fault, Fault(at_ms, "unheard", node, other, for_ms=for_ms + 450, amount=random.randint(20, 250))]


def _lost(random: Random, loss: str, node: int, at_ms: int, for_ms: int) -> Fault:
    mark = UNMARKED if loss == "copy-unmarked" else random.choice((MARKED, MARKED, UNMARKED))
    match loss:
        case "copy-after":
            return Fault(at_ms, "restore-after", node, for_ms=for_ms, where=mark)
        case "disk" | "disk-and-keys":
            return Fault(at_ms, "lose-disk", node, for_ms=for_ms, where=mark, amount=int(loss == "disk-and-keys"))
        case _:
            mark = MARKED if loss == "copy" else UNMARKED
            return Fault(at_ms, "restore-across", node, for_ms=for_ms, where=mark)
