"""Builds past blocks it dislikes: on the genesis or an old parent, with missing or forged nullifications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consensus.effects import Broadcast, Effect
from consensus.types import Certificate, Header, Proposal
from tests.unit.consensus.byzantine import Liar
from tests.unit.consensus.support import N, X, certificate, child, justify


class Skipper(Liar):
    """The lying leader: without it, and the ancestor oracle, nobody would notice that skipped views go unchecked."""

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Broadcast(Proposal() as proposal):
                parent, parent_certificate = self._old_parent(proposal)
                justification = justify(parent_certificate, self._forged(parent.view, proposal.header.view))
                header = child(
                    parent,
                    proposal.header.view,
                    justification,
                    timestamp_ms=proposal.header.timestamp_ms,
                    state_height=parent.state_height,
                    state_root=parent.state_root,
                )
                vote = self.forge(N, header.view, header)
                lie = Proposal(header, justification, b"", vote)
                self.store.proposals[header.digest] = lie
                super().carry_out(Broadcast(lie))
            case _:
                super().carry_out(effect)

    def _old_parent(self, proposal: Proposal) -> tuple[Header, Certificate | None]:
        """The parent of the honest parent; the genesis if there is none."""
        parent = self.store.proposals.get(proposal.header.parent_digest)
        if parent is None or parent.header.parent_view == 0:
            return self.cluster.genesis, None
        grandparent = self.store.proposals.get(parent.header.parent_digest)
        if grandparent is None:
            return self.cluster.genesis, None
        return grandparent.header, parent.justification.parent

    def _forged(self, parent_view: int, view: int) -> Sequence[Certificate]:
        skipped = range(parent_view + 1, view)
        match self.cluster.random.randrange(4):
            case 0:
                return ()
            case 1:  # one signer, a quorum of times
                mine = [certificate(X, u, None, (self.index,), self.cluster.validators) for u in skipped]
                return [replace(c, signers=c.signers * 3, signatures=c.signatures * 3) for c in mine]
            case 2:  # signatures of nobody
                quorum = self.cluster.oracle.quorum
                return [Certificate(X, 0, u, 0, b"", tuple(range(quorum)), (bytes(64),) * quorum) for u in skipped]
            case _:  # too few
                return [certificate(X, u, None, (self.index,), self.cluster.validators) for u in skipped]
