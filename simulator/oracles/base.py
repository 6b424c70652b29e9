"""What oracles see, and how they speak. Arithmetic of their own: nothing here or beside it imports the product."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

NOTARIZE: Final = 1
NULLIFY: Final = 2
FINALIZE: Final = 3
KIND_NAMES: Final = {NOTARIZE: "N", NULLIFY: "X", FINALIZE: "F"}


class Violation(Exception):
    """An invariant does not hold.

    Attributes:
        oracle: which, for example ``I6``.
        text: what was seen.
    """

    def __init__(self, oracle: str, text: str) -> None:
        super().__init__(f"{oracle}: {text}")
        self.oracle = oracle
        self.text = text


class VoteFact(NamedTuple):
    """A genuine vote that left a node."""

    epoch: int
    view: int
    kind: int
    parent_view: int
    digest: bytes
    signer: int
    """Node number: who it is in every epoch."""

    @property
    def target(self) -> tuple[int, bytes]:
        """What is voted on."""
        return (self.parent_view, self.digest)


class CertificateFact(NamedTuple):
    """A certificate that an honest node uttered."""

    epoch: int
    view: int
    kind: int
    parent_view: int
    digest: bytes
    signers: tuple[int, ...]
    """Node numbers; below zero for a signer index that no member of the epoch has."""
    forged: tuple[int, ...]
    """Signers whose signature in it is not theirs."""


class HeaderFact(NamedTuple):
    """A block's header, and what the block lists."""

    digest: bytes
    epoch: int
    height: int
    view: int
    parent_view: int
    parent_digest: bytes
    timestamp_ms: int
    state_height: int
    state_root: bytes
    receipts_root: bytes
    listed: tuple[bytes, ...]
    next_set: bytes = b""
    """Hash of the next epoch's set, in the block that ends an epoch."""


class AckFact(NamedTuple):
    """A genuine acknowledgement: its acker holds this batch and all before it in its incarnation."""

    acker: int
    origin: str
    incarnation: int
    sequence: int
    digest: bytes
    epoch: int = 0


class BatchFact(NamedTuple):
    """One link of an origin's chain."""

    origin: str
    incarnation: int
    sequence: int
    previous: bytes
    digest: bytes


class ReceiptFact(NamedTuple):
    """What became of one envelope."""

    envelope_id: bytes
    position: int
    took_effect: bool
    """False where it was refused as a whole: a replay, or out of its time."""
    succeeded: bool = True
    """Every operation of it did what it says."""


class SeatFact(NamedTuple):
    """A member of one epoch's set, in signer order."""

    node: int
    organisation: str
    key: bytes
    """Empty where it registered none."""


class Timing(NamedTuple):
    """The nodes' settings that oracles need, ms."""

    delay_ms: int
    timeout_ms_max: int
    clock_delta_ms: int


def quorum_of(n: int) -> int:
    """The least number of n of which less than a third may be missing."""
    return next(q for q in range(1, n + 1) if 3 * (n - q) < n)


class World:
    """What all oracles share: who is honest, and every header seen."""

    def __init__(self, n: int, honest: Sequence[int], genesis: HeaderFact, timing: Timing) -> None:
        self.delay_ms, self.timeout_ms_max, self.clock_delta_ms = timing
        self.sets: dict[int, tuple[int, ...]] = {}  #: epoch -> its members' node numbers, in signer order
        self._quorums: dict[int, int] = {}
        self.begin(genesis.epoch, tuple(range(n)))
        self.honest = frozenset(honest)
        self.genesis = genesis
        self.headers: dict[bytes, HeaderFact] = {genesis.digest: genesis}
        #: (epoch, view, kind, parent view, digest) -> who voted so.
        self.boxes: dict[tuple[int, int, int, int, bytes], set[int]] = {}
        self.final: dict[int, bytes] = {}  #: height -> digest, as the first honest node to finalize it said

    def begin(self, epoch: int, members: tuple[int, ...]) -> None:
        """An epoch has these members."""
        self.sets[epoch] = members
        self._quorums[epoch] = quorum_of(len(members))

    def quorum(self, epoch: int) -> int:
        """Q of an epoch."""
        return self._quorums[epoch]

    def faulty_max(self, epoch: int) -> int:
        """f of an epoch."""
        return len(self.sets[epoch]) - self._quorums[epoch]

    def is_tail(self, header: HeaderFact) -> bool:
        """Whether it only repeats the last block of its epoch, which it helps to become final."""
        parent = self.headers.get(header.parent_digest)
        return parent is not None and parent.height == header.height

    def voters(self, epoch: int, view: int, kind: int, parent_view: int = 0, digest: bytes = b"") -> int:
        """How many voted so."""
        return len(self.boxes.get((epoch, view, kind, parent_view, digest), ()))


class Oracle:
    """Base of all oracles: every hook lets everything pass."""

    name = ""

    def __init__(self, world: World) -> None:
        self.world = world
        self.checks = 0

    def check(self, holds: bool, text: str, name: str = "") -> None:
        """Count a check; Violation if it does not hold."""
        self.checks += 1
        if not holds:
            raise Violation(name or self.name, text)

    def vote(self, vote: VoteFact) -> None:
        """A vote was seen for the first time."""

    def certificate(self, node: int, certificate: CertificateFact) -> None:
        """An honest node sent a certificate, or put it into its log."""

    def header(self, header: HeaderFact) -> None:
        """A block was seen for the first time."""

    def started(self, node: int, rewound: bool, voting: bool) -> None:
        """An honest node starts; ``rewound``: from a copy of its disk, or with a new vote log; or without any."""

    def epoch(self, node: int, epoch: int, first_height: int, seats: Sequence[SeatFact], proposal_id: bytes) -> None:
        """An honest node begins an epoch; what its state says of it."""

    def proposed(self, proposal_id: bytes, epoch: int, added: Sequence[int], removed: Sequence[int]) -> None:
        """A client proposes this change of an epoch's set; node numbers."""

    def ballot(self, envelope_id: bytes, proposal_id: bytes, voter: int) -> None:
        """A client submits a validator's vote for a proposal; the proposer's is in the proposal."""

    def limit(self, envelope_id: bytes, epoch: int, height: int, k: int) -> None:
        """A client proposes, in an epoch, that blocks from a height on lie at most K above their state; without an
        envelope: the genesis says so."""

    def ready(self, proposal_id: bytes, key: bytes) -> None:
        """The holder of a key of the next epoch says, genuinely, that it is ready for this change."""

    def position(self, node: int, epoch: int, view: int, floor_view: int) -> None:
        """Where an honest node stands after a turn that is on disk."""

    def final(self, node: int, height: int, digest: bytes) -> None:
        """An honest node stored a block as final."""

    def told_final(self, node: int, height: int) -> None:
        """An honest node tells its clients that everything up to a height is final."""

    def holds_final(self, node: int, height: int) -> None:
        """An honest node starts; the highest final block on its disk."""

    def executed(self, node: int, height: int, roots: tuple[bytes, bytes], receipts: Sequence[ReceiptFact]) -> None:
        """An honest node executed a block; roots of state and receipts."""

    def certified_root(self, node: int, state_height: int) -> None:
        """Receipts up to this height are PROVEN at an honest node."""

    def accepted(self, node: int, envelope_ids: Sequence[bytes]) -> None:
        """An honest gateway told clients ACCEPTED."""

    def evidence(self, node: int, culprit: int, text: str) -> None:
        """An honest node reports a culprit."""

    def recorded(self, node: int, culprit: int, act: tuple[int, int, int], height: int) -> None:
        """An honest node executed a block that records a culprit's breach: (epoch, view, kind)."""

    def penalty(self, node: int, peer: int, reason: str) -> None:
        """An honest node does not listen to a peer any more."""

    def alarm(self, node: int, kind: str, text: str) -> None:
        """An honest node alarms its operator."""

    def batch(self, batch: BatchFact) -> None:
        """A batch was seen for the first time."""

    def ack(self, node: int, ack: AckFact, monotonic_ms: int) -> None:
        """An honest node has received an acknowledgement, or made it."""

    def built(self, node: int, header: HeaderFact, monotonic_ms: int) -> None:
        """An honest leader made a block."""

    def notarized(self, node: int, header: HeaderFact, wall_ms: int, floor_view: int) -> None:
        """An honest node votes N for another leader's block."""

    def uttered(self, node: int, what: str, durable: bool) -> None:
        """An honest node says that it holds something; whether it is on its disk."""

    def reopened(self, node: int, missing: int) -> None:
        """An honest node opened its vote log; how many records that were synced are not in it."""

    def retried(self, node: int, epoch: int, view: int, floor_view: int, sent: Collection[tuple[int, int]]) -> None:
        """An honest node sent again what it had said: (kind, view) of the votes."""

    def finish(self) -> None:
        """The run is over."""
