"""What one seed does, as data: drawn from the seed, written as JSON, shrunk by leaving faults out.

A run is a pure function of a plan; the plan of a seed is a pure function of the seed and n.
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from simulator.network import Weather
from simulator.node import Boundary, Pace

SAFETY_MS: Final = (2_000, 5_000)
"""How long the faults last; an idle start of half a second not counted."""

FIRST_FAULT_MS: Final = 300
PERMILLE: Final = 1000
HOPELESS_PERMILLE: Final = 60

AMNESIA: Final = ("flip", "restore", "restore-unmarked", "restore-across", "restore-after", "lose-disk")
"""Faults that may take votes from a node: it counts among the f."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One timed fault; which fields matter depends on its kind (``simulator.faults``)."""

    at_ms: int
    kind: str
    node: int = -1
    other: int = -1
    for_ms: int = 0
    amount: int = 0
    where: str = ""


class Liar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Byzantine node, for the whole run."""

    node: int
    kind: str


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients do."""

    every_ms: int = 60
    """Between two submissions, on average."""
    brief_permille: int = 200
    """Envelopes that expire within seconds."""
    again_permille: int = 150
    """Envelopes whose client sends them again, through another insurer's gateway."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One decision of the members, mostly about their set, proposed at a time or once the one before is in force."""

    at_ms: int
    kind: str
    """One of ``CHANGES``."""
    node: int = -1
    """Whom it is about; nobody for ``rotate``, which gives every seat its next key, and ``parameters``."""


SET_CHANGES: Final = ("add", "remove", "suspend", "reinstate", "rotate")
"""Each ends an epoch."""

CHANGES: Final = (*SET_CHANGES, "card", "key", "parameters")
"""``card``: another ledger key and authority of a node's organisation; ``key``: another signing key of its clients."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of one run."""

    seed: int
    n: int
    safety_ms: int
    weather: Weather
    load: Load
    pacing: Pace
    liars: tuple[Liar, ...]
    faults: tuple[Fault, ...]
    snapshot_blocks: int = 0
    """Further behind than so many blocks a node fetches the state; 0: as the daemon's own default says."""
    hopeless: bool = False
    """More nodes than f may have forgotten votes: nobody may sign twice, and nothing else can be asked for."""
    newcomers: int = 0
    """Nodes of organisations that the genesis does not know, numbered after its validators."""
    changes: tuple[Change, ...] = ()
    """Of the set of validators, keys and parameters; each waits for the one before."""

    contested: bool = False
    """Somebody lies or forgets while the set changes. Admins then see to it that everybody else of the next set has a
    key there, and let nobody in with whom more than f of it might lie or forget; execution may lag behind by a few
    blocks only; those who have joined hand in, too."""

    close_bytes: int = 0
    """A busy origin closes a batch at this size; 0: as the daemon's own default says."""

    later: tuple[int, ...] = ()
    """Nodes that speak as a later minor version of the protocol does."""

    @property
    def governed(self) -> bool:
        """Whether its set may change."""
        return bool(self.changes or self.newcomers)

    @property
    def weak(self) -> frozenset[int]:
        """Nodes that lie, or may forget what they signed: at most f of any set."""
        forgetful = [fault.node for fault in self.faults if fault.kind in AMNESIA]
        return frozenset([*(liar.node for liar in self.liars), *forgetful])

    def to_json(self) -> bytes:
        """As it is kept under tests/regressions."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @classmethod
    def from_json(cls, raw: bytes) -> Plan:
        """Read a plan; msgspec.ValidationError if it is none."""
        return msgspec.json.decode(raw, type=cls)


def faulty_max(n: int) -> int:
    """f."""
    return (n - 1) // 3


def draw(seed: int, n: int, liars: tuple[str, ...] = ()) -> Plan:
    """The plan of a seed.

    Args:
        liars: kinds of Byzantine nodes to choose from.
    """
    random = Random(f"plan/{seed}/{n}")
    safety_ms = random.randint(*SAFETY_MS)
    nodes = list(range(n))
    random.shuffle(nodes)
    byzantine = min(faulty_max(n), random.choice((0, 1, 1, 1, 2, 3))) if liars else 0
    kinds = [liars[seed % len(liars)], *random.choices(liars, k=byzantine)] if byzantine else []  # each in its turn
    chosen = tuple(Liar(node, kind) for node, kind in zip(nodes[:byzantine], kinds, strict=False))
    forgetful = nodes[byzantine : faulty_max(n)]
    honest = nodes[byzantine:]
    faults = [any_fault(random, honest, forgetful, n, safety_ms) for _ in range(random.randint(1, 4 + n // 2))]
    hopeless = random.randrange(PERMILLE) < HOPELESS_PERMILLE
    if hopeless:
        faults += _many_restored(random, honest, safety_ms)
    return Plan(
        seed=seed,
        n=n,
        safety_ms=safety_ms,
        weather=_weather(random),
        load=Load(every_ms=random.choice((40, 80, 160))),
        pacing=Pace(
            turn_ms=random.choice((0, 1, 2, 4)),
            sync_ms=random.choice((0, 0, 1, 4)),
            check_ms=random.choice((1, 1, 5, 60)),
            slice_envelopes=random.choice((1, 8, 64)),
            rotate_bytes=random.choice((150_000, 300_000, 1 << 20)),
        ),
        liars=chosen,
        faults=tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.kind))),
        hopeless=hopeless,
    )


def brief(plan: Plan) -> Plan:
    """The same in half the time: every fault comes, twice as early, and lasts as long as it would, but that healing may
    come first. What follows the attack (healing, drain, rest, reunion) stays as it is; so do plans in which the set
    changes, as one change waits for the other."""
    if plan.governed:
        return plan
    faults = tuple(msgspec.structs.replace(fault, at_ms=fault.at_ms // 2) for fault in plan.faults)
    return msgspec.structs.replace(plan, safety_ms=plan.safety_ms // 2, faults=faults)


GOVERNED_MS: Final = (5_000, 8_000)
"""How long the faults last where the set changes: some changes come into force in it."""


def draw_governed(seed: int, n: int) -> Plan:
    """The plan of a seed in which the set of validators changes under faults.

    Nobody lies or forgets in it: a member that was down when its key was due has a seat without a key, and counts among
    the f as they would.
    """
    random = Random(f"governed/{seed}/{n}")
    base = draw(seed, n)
    safety_ms, newcomers = random.randint(*GOVERNED_MS), random.randint(1, 2)
    honest = list(range(n + newcomers))
    faults = [any_fault(random, honest, [], n + newcomers, safety_ms) for _ in range(random.randint(1, 3))]
    faults += [at_boundary(random, safety_ms) for _ in range(random.randint(1, 3))]
    joining = [Change(random.randint(100, 600), "add", n + number) for number in range(newcomers)]
    begin = [Change(200, "rotate")] if random.random() < 0.3 else []
    leaving = [Change(1_500, random.choice(("remove", "suspend")), random.randrange(n + 1)) for _ in range(2)]
    later = [*joining[1:], *leaving, Change(1_000, "rotate")]
    random.shuffle(later)
    weather = base.weather
    if weather.drop_permille > GOVERNED_DROP_PERMILLE_MAX:
        weather = msgspec.structs.replace(weather, drop_permille=GOVERNED_DROP_PERMILLE_MAX)
    return msgspec.structs.replace(
        base,
        safety_ms=safety_ms,
        weather=weather,
        faults=tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.kind))),
        hopeless=False,
        newcomers=newcomers,
        changes=(*begin, joining[0], *later),
        snapshot_blocks=GOVERNED_SNAPSHOT_BLOCKS if seed // 8 % 2 else 0,
    )


GOVERNED_DROP_PERMILLE_MAX: Final = 100

GOVERNED_SNAPSHOT_BLOCKS: Final = 8
"""In every second plan: so short an absence lets a node fetch the state, mostly of another epoch than its own."""


def draw_mixed(plan: Plan) -> Plan:
    """The same, with honest nodes of two minor versions: one to all but one speak as a later one does."""
    random = Random(f"mixed/{plan.seed}/{plan.n}")
    honest = sorted(set(range(plan.n + plan.newcomers)) - {liar.node for liar in plan.liars})
    later = sorted(random.sample(honest, random.randint(1, len(honest) - 1)))
    return msgspec.structs.replace(plan, later=tuple(later))


def at_boundary(random: Random, safety_ms: int) -> Fault:
    """Whoever builds the next block that ends an epoch dies within that very turn; or all that would make it final is
    lost for a while, so that tails have to."""
    if random.random() < 0.4:
        return Fault(random.randint(0, safety_ms // 2), "lose-finality", for_ms=random.randint(150, 900))
    where = random.choice([each for each in Boundary if each not in (Boundary.IN_EXECUTION, Boundary.IN_ROTATION)])
    at_ms, for_ms = random.randint(0, safety_ms // 2), random.randint(200, 3_000)
    return Fault(at_ms, "crash-at-boundary", for_ms=for_ms, where=where.value)


def _many_restored(random: Random, honest: list[int], safety_ms: int) -> list[Fault]:
    """Backups of most nodes, put back together, with their markers: the operators' worst day."""
    at_ms = random.randint(FIRST_FAULT_MS, safety_ms // 2)
    for_ms = random.randint(200, safety_ms // 2)
    return [Fault(at_ms, "restore", node, for_ms=for_ms) for node in honest[: random.randint(2, len(honest))]]


def _weather(random: Random) -> Weather:
    """From a fine day to a storm."""
    storm = random.random()
    rough = storm > 0.3
    return Weather(
        delay_ms_min=1,
        delay_ms_max=random.choice((5, 20, 40, 80)),
        drop_permille=random.choice((0, 10, 50, 300 if storm > 0.9 else 100)) if rough else 0,
        duplicate_permille=random.choice((0, 20, 100, 500)) if rough else 0,
        late_permille=random.choice((0, 20, 100)) if rough else 0,
        in_order=random.random() < 0.5,
        split=random.random() < 0.3,
    )


Kinds = tuple[tuple[str, int], ...]
_KINDS: Final[Kinds] = (
    ("crash", 8),
    ("crash-all", 2),
    ("crash-all-after-nullify", 1),
    ("pause", 2),
    ("cut", 3),
    ("isolate", 2),
    ("split", 2),
    ("clog", 2),
    ("jump", 2),
    ("drift", 2),
    ("disk-full", 1),
    ("sync-error", 1),
    ("blocks-error", 1),
)
_AMNESIC: Final[Kinds] = (("flip", 2), ("restore", 2), ("restore-unmarked", 2))


def any_fault(random: Random, honest: list[int], forgetful: list[int], n: int, safety_ms: int) -> Fault:
    """One of those that need nothing of the set; ``forgetful``: who may lose votes."""
    kinds = _KINDS + (_AMNESIC if forgetful else ())
    kind = random.choices([name for name, _ in kinds], [weight for _, weight in kinds])[0]
    node, other = random.sample(range(n), 2)
    if kind in AMNESIA:
        node = random.choice(forgetful)
    elif kind not in ("cut", "clog"):
        node = random.choice(honest)
    return Fault(
        at_ms=random.randint(FIRST_FAULT_MS, safety_ms - 500),
        kind=kind,
        node=node,
        other=other,
        for_ms=random.randint(50, 2_000),
        amount=_amount(random, kind, n),
        where=random.choice(list(Boundary)).value if kind == "crash" else "",
    )


def _amount(random: Random, kind: str, n: int) -> int:
    match kind:
        case "jump":
            return random.choice((-6_000, -1_500, 1_500, 6_000))
        case "drift":
            return random.choice((-100_000, -20_000, 20_000, 100_000))
        case "split":
            return random.randrange(1, (1 << n) - 1)
        case "disk-full":
            return random.randint(0, 2_000)
        case _:
            return 0
