"""Plans written for one rule each: where drawn plans seldom bring about what the rule is for."""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from simulator.faults import MARKED
from simulator.network import Weather
from simulator.node import Boundary, Pace
from simulator.plan import Change, Fault, Load, Plan, draw_governed

VALIDATORS: Final = 4
STORM: Final = Weather(delay_ms_min=1, delay_ms_max=80, drop_permille=200)
SLOW: Final = Pace(turn_ms=3, sync_ms=1, check_ms=60, slice_envelopes=1, rotate_bytes=300_000)
WORSE: Final = Weather(delay_ms_min=1, delay_ms_max=80, drop_permille=350)
FINE: Final = Weather(delay_ms_max=5)
AWAY_MS: Final = 5_000
"""Some hundred views in fine weather: certificates are kept of 64 below the floor."""

GONE_MS: Final = 3_000
FOR_EVER_MS: Final = 1_000_000
SNAPSHOT_BLOCKS: Final = 15

ROUNDS: Final = 5
ROUND_MS: Final = 1_100


def restored_while_others_are_away(seed: int) -> Plan:
    """One node's disk is put back again and again, and never does all that it said reach the same others."""
    random = Random(f"restored/{seed}")
    faults: list[Fault] = []
    for number in range(ROUNDS):
        at_ms = 400 + ROUND_MS * number
        faults.append(Fault(at_ms, "isolate", random.randint(1, VALIDATORS - 1), for_ms=1_000))
        at_ms += random.randint(50, 300)
        faults.append(Fault(at_ms, "restore-unmarked", 0, for_ms=random.randint(150, 500)))
    return Plan(
        seed=seed,
        n=VALIDATORS,
        safety_ms=400 + ROUND_MS * ROUNDS + 100,
        weather=STORM,
        load=Load(),
        pacing=SLOW,
        liars=(),
        faults=tuple(faults),
    )


def restored_in_a_worse_storm(seed: int) -> Plan:
    """The same, and a third of what is sent is lost: more often nobody who answers knows what was signed."""
    plan = restored_while_others_are_away(seed)
    return msgspec.structs.replace(plan, weather=WORSE)


def away_for_long(seed: int) -> Plan:
    """One node of the quorum to heal is cut off while the others go through more views than they keep certificates of.

    View by view nobody can help it any more (R11): it has to jump.
    """
    random = Random(f"away/{seed}")
    at_ms = random.randint(300, 600)
    return Plan(
        seed=seed,
        n=VALIDATORS,
        safety_ms=AWAY_MS + 1_000,
        weather=FINE,
        load=Load(every_ms=40),
        pacing=Pace(),
        liars=(),
        faults=(Fault(at_ms, "isolate", random.randrange(VALIDATORS - 1), for_ms=AWAY_MS),),
    )


def back_by_a_snapshot(seed: int) -> Plan:
    """One node is cut off for so long that it fetches the state; clients hand much in twice, meanwhile and after."""
    random = Random(f"snapshot/{seed}")
    return Plan(
        seed=seed,
        n=VALIDATORS,
        safety_ms=GONE_MS + 3_500,
        weather=FINE,
        load=Load(every_ms=40, again_permille=600),
        pacing=Pace(),
        liars=(),
        faults=(Fault(random.randint(300, 600), "isolate", random.randrange(VALIDATORS), for_ms=GONE_MS),),
        snapshot_blocks=SNAPSHOT_BLOCKS,
    )


def destroyed_after_a_restart(seed: int) -> Plan:
    """While nothing is decided one node loses power, starts again, and is soon cut off for ever.

    Every envelope is a batch, and each travels alone: of what the node had promised and makes anew, the others may have
    a part.
    """
    random = Random(f"destroyed/{seed}")
    gone = (VALIDATORS - 1 - seed) % VALIDATORS  # whom nobody mends afterwards
    at_ms = random.randint(500, 700)
    return Plan(
        seed=seed,
        n=VALIDATORS,
        safety_ms=at_ms + 1_000,
        weather=Weather(delay_ms_max=20, split=True),
        load=Load(every_ms=4, brief_permille=0),
        pacing=Pace(),
        liars=(),
        faults=(
            Fault(at_ms, "lose-proposals", for_ms=600),
            Fault(at_ms + 200, "crash", gone, for_ms=50, where=Boundary.AFTER_SENDS.value),
            Fault(at_ms + 250 + random.randint(20, 80), "isolate", gone, for_ms=FOR_EVER_MS),
        ),
        close_bytes=1,
    )


def bits_flip(seed: int) -> Plan:
    """One node's vote log is damaged a bit at a time, and opened again each time."""
    random = Random(f"bits/{seed}")
    faults = [Fault(700 + 600 * number, "flip", 0, for_ms=random.randint(50, 250)) for number in range(5)]
    return Plan(
        seed=seed,
        n=VALIDATORS,
        safety_ms=4_000,
        weather=Weather(delay_ms_max=20),
        load=Load(),
        pacing=Pace(),
        liars=(),
        faults=tuple(faults),
    )


def a_copy_of_an_observer(seed: int) -> Plan:
    """A node joins, nobody hears what it signs then, and a backup of when it still observed is put back.

    The marker alone knows that votes are lost: none of those who answer holds one.
    """
    for_ms = 800 + 40 * seed
    return Plan(
        seed=seed,
        n=VALIDATORS,
        safety_ms=5_000,
        weather=Weather(delay_ms_max=20),
        load=Load(),
        pacing=Pace(),
        liars=(),
        faults=(
            Fault(300, "restore-across", VALIDATORS, for_ms=for_ms, where=MARKED),
            Fault(300, "unheard", VALIDATORS, 1 + seed % 3, for_ms=for_ms + 50, amount=20 + 10 * seed),
        ),
        newcomers=1,
        changes=(Change(400, "add", VALIDATORS),),
        contested=True,
    )


def sets_change(seed: int) -> Plan:
    """The set changes several times, under the faults that are drawn for it."""
    return draw_governed(seed, VALIDATORS)
