"""The twin that lies when it leads: it builds past the block everybody else builds on.

Twins alone run honest code, and miss what only a lie can bring about: with the check of skipped views taken out,
honest twins pass every case. This one builds on its parent's parent, and where a nullification of the view it passes
over would have to stand it leaves a gap, or puts one there that it signed in everybody's name.
"""

from __future__ import annotations

from consensus import effects as out
from consensus import events as into
from consensus.types import Certificate, Proposal, VoteKind
from simulator.twins.blocks import FakeKey, child, justify, sign
from simulator.twins.world import Instance


class Liar(Instance):
    """See the module text; which of the two lies it tells alternates with the view."""

    def build(self, request: out.Build) -> None:
        """A block past the one it was asked to build on, to everybody it can reach; and its vote for it."""
        lie = self._lie(request)
        if lie is None:
            super().build(request)
            return
        self.proposals[lie.header.digest] = lie
        self.world.send(self, None, lie)
        finalize = sign(VoteKind.FINALIZE, request.view, self.signer, lie.header)
        self.world.send(self, None, finalize)
        self.step(into.ProposalReceived(self.signer, lie))

    def _lie(self, request: out.Build) -> Proposal | None:
        passed = request.parent
        parent = self.header(passed.parent_digest)
        if passed.height == 0 or parent is None:
            return None
        certificate = self.core.certificate(VoteKind.NOTARIZE, parent.view) if parent.height else None
        if parent.height and certificate is None:
            return None
        held = [self.core.certificate(VoteKind.NULLIFY, view) for view in range(parent.view + 1, request.view)]
        if request.view % 2:
            nullifications = [found for found in held if found is not None]
        else:
            views = range(parent.view + 1, request.view)
            nullifications = [found or _forged(view) for view, found in zip(views, held, strict=True)]
        justification = justify(certificate, nullifications)
        header = child(parent, request.view, justification, b"lie of instance %d" % self.number)
        return Proposal(header, justification, b"", sign(VoteKind.NOTARIZE, request.view, self.signer, header))


def _forged(view: int) -> Certificate:
    """In the names of validators who signed nothing of the kind."""
    signature = FakeKey(b"nobody's").sign(b"nullify %d" % view)
    return Certificate(VoteKind.NULLIFY, 0, view, 0, b"", (0, 1, 2), (signature,) * 3)
