"""A model that forces forks: more than f validators run two copies of themselves, or vote for everything.

Each copy is a real core that follows the rules, under a key it shares with another. The network falls into two parts
again and again; what the copies say in one part the other does not hear. Honest validators do what the rules say, and
accept what more than f liars make of it: final blocks that contradict each other.
"""

from __future__ import annotations

from consensus.effects import Broadcast, Effect, Send
from consensus.evidence import Evidence
from consensus.forks import FinalChain
from consensus.messages import Message
from consensus.types import Certificate, Proposal, Vote
from tests.unit.consensus.cluster import Cluster, Network, Node
from tests.unit.consensus.support import F, N, X, vote_for

PHASES = 6
PHASE_MS = (150, 900)


class Unwatched:
    """In place of the oracle, whose invariants do not hold here."""

    def __init__(self) -> None:
        self.evidence: list[Evidence] = []
        self.finalizations: dict[bytes, Certificate] = {}

    def signed(self, vote: Vote) -> None:
        pass

    def sent(self, vote: Vote) -> None:
        pass

    def block(self, proposal: Proposal) -> None:
        pass

    def finalized(self, certificate: Certificate) -> None:
        self.finalizations.setdefault(certificate.digest, certificate)

    def reported(self, evidence: Evidence) -> None:
        self.evidence.append(evidence)


class Copy(Node):
    """One copy of a validator; an honest one has only one."""

    cluster: ForkCluster

    def carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            for node in self.cluster.copies(effect.to):
                self.cluster.transmit(self.index, node.index, effect.message)
        else:
            super().carry_out(effect)

    def _fetch(self, digest: bytes, sources: tuple[int, ...]) -> None:
        reached = [node.index for source in sources for node in self.cluster.copies(source)]
        super()._fetch(digest, tuple(reached))

    def _backfill(self, generation: int) -> None:
        """Only from those whose final chain goes on from the own one."""
        tip = self.store.final[-1]
        cut = set(self.cluster.network.cut)
        for other in self.cluster.nodes:
            if other.height < tip.height or other.store.final[tip.height].digest != tip.digest:
                self.cluster.network.cut.add((other.index, self.index))
        super()._backfill(generation)
        self.cluster.network.cut = cut


class Twin(Copy):
    """A copy of a validator that does not mind what the other one signs."""

    honest = False

    def start(self) -> None:
        super().start()
        self.running._tally.notice_own = lambda vote, found: None  # type: ignore[method-assign]


class DoubleTwin(Twin):
    """It also casts all three votes for every proposal it meets."""

    def receive(self, sender: int, message: Message) -> None:
        if isinstance(message, Proposal) and self.own_index is not None:
            header = message.header
            for kind in (N, X, F):
                target = (0, b"") if kind is X else (header.parent_view, header.digest)
                vote = vote_for(kind, header.view, self.own_index, *target, self.cluster.validators)
                super().carry_out(Broadcast(vote))
        super().receive(sender, message)


class ForkCluster(Cluster):
    """n validators, the first f + 1 of them in two copies."""

    def __init__(self, seed: int, n: int = 4) -> None:
        super().__init__(n, seed, network=Network(latency_ms=(1, 30)), start=False)
        self.oracle = self.unwatched = Unwatched()  # type: ignore[assignment]
        self.liars = set(self.random.sample(range(n), self.validators.f + 1))
        kinds: dict[int, type[Twin]] = {signer: self.random.choice((Twin, Twin, DoubleTwin)) for signer in self.liars}
        self.nodes = [kinds.get(signer, Copy)(self, signer, signer) for signer in range(n)]
        self.nodes += [kinds[signer](self, n + at, signer) for at, signer in enumerate(sorted(self.liars))]
        for node in self.nodes:
            node.start()

    def copies(self, signer: int) -> list[Node]:
        return [node for node in self.nodes if node.own_index == signer]

    def transmit(self, sender: int, to: int, message: Message) -> None:
        """Its receiver sees the validator that sent it, not which copy."""
        if not self.network.connected(sender, to):
            return
        signer = self.nodes[sender].own_index
        assert signer is not None
        if signer != self.nodes[to].own_index:
            self.at(self.random.randint(*self.network.latency_ms), self.nodes[to].receive, signer, message)

    def run_phases(self) -> None:
        """One part after another; every liar has a copy in each."""
        for _ in range(PHASES):
            honest = [node.index for node in self.nodes if node.honest]
            self.random.shuffle(honest)
            middle = self.random.randint(1, len(honest) - 1)
            parts = [set(honest[:middle]), set(honest[middle:])]
            for signer in self.liars:
                one, two = (node.index for node in self.copies(signer))
                first = self.random.randrange(2)
                parts[first].add(one)
                parts[1 - first].add(two)
            self.network.groups = parts
            self.submit()
            self.run(self.random.randint(*PHASE_MS))

    def chain(self, node: Node) -> FinalChain:
        """What this copy accepted as final, with one Finalization: of the last block that has one."""
        final = node.store.final[1:]
        while final and final[-1].digest not in self.unwatched.finalizations:
            final.pop()
        blocks = tuple((header, node.store.proposals[header.digest].justification) for header in final)
        return FinalChain(blocks, (self.unwatched.finalizations[final[-1].digest],) if final else ())
