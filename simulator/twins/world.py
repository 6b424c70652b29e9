"""Five cores, one of them a twin, in virtual time: what happens in one case of the enumeration.

Each instance is the product's ``consensus.core.Core`` over a log of records and a store of blocks; the application is
as small as can be: it builds at once, and every block is valid. A message that an instance sends while in view v
travels by the cut of view v, which lasts ``CUT_MS`` from the first instance's entering: longer than the time-outs and
one retry, so that a view without a quorum on either side is still left. When all have left the views with cuts, every
honest instance has to finalize a block above all that came before (I12). Everything signed, and every Finalization
accepted, goes to the oracle.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from consensus import effects as out
from consensus import events as into
from consensus.config import Config
from consensus.core import Core
from consensus.events import Now, Verdict
from consensus.messages import Message, StartAnswer, StartQuery
from consensus.records import OwnVote, Record
from consensus.types import Certificate, Header, Proposal, Vote, VoteKind
from simulator.twins.blocks import CHAIN_ID, GENESIS_MS, KEYS, FakeKey, child, genesis, justify, sign, validators
from simulator.twins.cases import INSTANCES, TWIN_OF, VALIDATORS, Case
from simulator.twins.oracle import Oracle

CONFIG: Final = Config(CHAIN_ID, delay_ms=10, retry_ms=60, skip_ms=100_000, timeout_ms_max=60, clock_delta_ms=1_000_000)
LATENCY_MS: Final = 1
CUT_MS: Final = 130  #: the capped time-out and one retry
END_MS: Final = 4_000  #: an honest instance that has finalized nothing new by then is stuck
STEPS_MAX: Final = 100_000  #: of all instances in one case; it takes some hundreds


class Stuck(AssertionError):
    """I12: the network was healed, and an honest validator did not finalize anything new."""


class Instance:
    """One running copy of a validator; instance 4 has the key of validator 0."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.signer = number if number < VALIDATORS else TWIN_OF
        self.honest = self.signer != TWIN_OF
        self.log: list[Record] = []
        self.proposals: dict[bytes, Proposal] = {}
        self.final = world.genesis
        self.missing: Certificate | None = None
        self.tick_ms: int | None = None
        self.core = Core.restore(
            CONFIG, world.validators, self.signer, world.genesis, (), self, FakeKey(KEYS[self.signer]), world.now
        )
        if not self.honest:
            # A validator that meets a vote of its own which it does not remember falls silent. A twin does not.
            self.core._tally.notice_own = lambda vote, found: None  # type: ignore[method-assign]  # noqa: SLF001

    # -- the store the core reads ------------------------------------------------------------

    def header(self, digest: bytes) -> Header | None:
        """See ``consensus.ports.Headers``."""
        if digest == self.world.genesis.digest:
            return self.world.genesis
        found = self.proposals.get(digest)
        return found.header if found else None

    def proposal(self, digest: bytes) -> Proposal | None:
        """See ``consensus.ports.Headers``."""
        return self.proposals.get(digest)

    # -- turns -------------------------------------------------------------------------------

    def step(self, event: into.Event) -> None:
        """One event, its effects, and the next time-out."""
        self.world.count_step()
        for effect in self.core.step(event, self.world.now):
            self.carry_out(effect)
        due_ms = self.core.deadline_ms
        if due_ms is not None and (self.tick_ms is None or due_ms < self.tick_ms):
            self.tick_ms = max(due_ms, self.world.now_ms)
            self.world.at(self.tick_ms, self.tick)

    def tick(self) -> None:
        """Time has come, unless an earlier tick took care of it."""
        if self.tick_ms is not None and self.tick_ms <= self.world.now_ms:
            self.tick_ms = None
            self.step(into.Tick())

    def carry_out(self, effect: out.Effect) -> None:
        """What the driver does; the twin that lies overrides it."""
        match effect:
            case out.Persist(OwnVote(vote)):
                self.world.oracle.signed(vote)
            case out.Broadcast(message):
                self.world.send(self, None, message)
            case out.Send(to, message):
                self.world.send(self, to, message)
            case out.Build():
                self.world.at(self.world.now_ms, partial(self.build, effect))
            case out.Verify(proposal):
                self.proposals[proposal.header.digest] = proposal
                self.world.oracle.block(proposal)
                digest = proposal.header.digest
                self.world.at(self.world.now_ms, partial(self.step, into.Verified(digest, Verdict.VALID)))
            case out.FetchBlock(digest, _, sources):
                self.fetch(digest, sources)
            case out.Finalized(certificate):
                self.world.oracle.finalized(certificate)
                self.finalize(certificate)
            case out.Report(evidence):
                self.world.oracle.reported(evidence)
            case out.Alarm(kind, text):
                self.world.alarms.append((self.number, kind, text))
            case _:
                pass

    def build(self, request: out.Build) -> None:
        """A block of its own: the twins never build the same."""
        if self.core.view != request.view:
            return
        payload = b"block of instance %d" % self.number
        justification = justify(request.parent_certificate, request.nullifications)
        header = child(request.parent, request.view, justification, payload)
        vote = sign(VoteKind.NOTARIZE, request.view, self.signer, header)
        self.proposals[header.digest] = Proposal(header, justification, payload, vote)
        self.world.oracle.block(self.proposals[header.digest])
        self.step(into.Built(request.view, header, justification, payload))

    def fetch(self, digest: bytes, sources: Sequence[int]) -> None:
        """From the first source that has the block and can be reached."""
        for other in self.world.instances:
            if other.signer in sources and other is not self and self.world.connected(other, self):
                proposal = other.proposals.get(digest)
                if proposal is not None:
                    event = into.BlockFetched(other.signer, proposal)
                    self.world.after(2 * LATENCY_MS, partial(self.step, event))
                    return

    def finalize(self, certificate: Certificate) -> None:
        """Follow the branch down to the last final block; what is not held is backfilled."""
        header = self.header(certificate.digest)
        if header is None:
            if self.missing is None:
                self.world.after(20, self.backfill)
            self.missing = certificate
        elif header.height > self.final.height:
            self.final = header

    def backfill(self) -> None:
        """Blocks below a Finalization, from whoever has them."""
        certificate, self.missing = self.missing, None
        if certificate is None:
            return
        for other in self.world.instances:
            if other is not self and self.world.connected(other, self) and other.header(certificate.digest):
                digest = certificate.digest
                while (found := other.proposals.get(digest)) is not None and digest not in self.proposals:
                    self.proposals[digest] = found
                    digest = found.header.parent_digest
                self.finalize(certificate)
                self.step(into.HeadersStored(certificate.digest))
                return
        self.missing = certificate
        self.world.after(20, self.backfill)


class World:
    """The five, their network and their time."""

    def __init__(self, case: Case, twin: type[Instance] = Instance) -> None:
        self.case = case
        self.now_ms = 0
        self.steps = 0
        self._entered_ms: dict[int, int] = {}
        self.alarms: list[tuple[int, str, str]] = []
        self.genesis = genesis()
        self.validators = validators(case.offset)
        self.oracle = Oracle(self.genesis, honest=set(range(VALIDATORS)) - {TWIN_OF})
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self.instances = [(Instance if i < VALIDATORS else twin)(self, i) for i in range(INSTANCES)]

    @property
    def now(self) -> Now:
        """Both clocks, alike everywhere."""
        return Now(self.now_ms, GENESIS_MS + self.now_ms)

    def at(self, time_ms: int, action: Callable[[], None]) -> None:
        """Do it at a virtual time, in the order of asking."""
        self._order += 1
        heapq.heappush(self._queue, (time_ms, self._order, action))

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Do it later."""
        self.at(self.now_ms + delay_ms, action)

    def connected(self, sender: Instance, to: Instance) -> bool:
        """By the cut of the sender's view, while it lasts."""
        view = sender.core.view
        since_ms = self._entered_ms.setdefault(view, self.now_ms)
        return self.now_ms >= since_ms + CUT_MS or self.case.connected(sender.number, to.number, view)

    def send(self, sender: Instance, to: int | None, message: Message) -> None:
        """To every other instance, or to the instances of one validator. Start-up is not cut."""
        if isinstance(message, Vote):
            self.oracle.sent(message)
        elif isinstance(message, Proposal):
            self.oracle.sent(message.vote)
            self.oracle.block(message)
        free = isinstance(message, StartQuery | StartAnswer)
        event = into.received(sender.signer, message)
        for other in self.instances:
            if other is sender or (to is not None and other.signer != to):
                continue
            if free or self.connected(sender, other):
                self.after(LATENCY_MS, partial(other.step, event))

    def count_step(self) -> None:
        """A bound: a case that does not come to an end is a fault."""
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Stuck(f"I12: {STEPS_MAX} steps and no end")

    def run(self) -> None:
        """The whole case; AssertionError names what does not hold."""
        for instance in self.instances:
            instance.step(into.Started(instance.number.to_bytes(32, "big")))
        for instance in self.instances:
            instance.step(into.Work(True))
        honest = [instance for instance in self.instances if instance.honest]
        if not self._run_until(END_MS, lambda: min(i.core.view for i in honest) > len(self.case.cuts)):
            raise Stuck(f"I12: views {[i.core.view for i in honest]} of the honest after {END_MS} ms")
        goal = max(instance.final.height for instance in honest) + 1
        if not self._run_until(2 * END_MS, lambda: all(instance.final.height >= goal for instance in honest)):
            raise Stuck(f"I12: heights {[i.final.height for i in honest]}, and {goal} was expected of all")
        self.oracle.check_chain()

    def _run_until(self, end_ms: int, done: Callable[[], bool]) -> bool:
        while self._queue and self._queue[0][0] <= end_ms:
            if done():
                return True
            time_ms, _, action = heapq.heappop(self._queue)
            self.now_ms = max(self.now_ms, time_ms)
            action()
        return done()
