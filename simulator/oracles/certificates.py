"""I1, I3, I4, I5, I8: what quorums of genuine votes may exist, and what a certificate must hold."""

from __future__ import annotations

from collections import defaultdict

from simulator.oracles.base import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    CertificateFact,
    Oracle,
    VoteFact,
    World,
)


class Certificates(Oracle):
    """Counts votes into boxes by itself; a box that reaches a quorum is a certificate somebody can make."""

    name = "I1"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._certified: dict[tuple[int, int], set[tuple[int, int, bytes]]] = defaultdict(set)

    def vote(self, vote: VoteFact) -> None:
        """A quorum of one kind for one tuple in a view, compared with the others of the view."""
        box = self.world.boxes.setdefault((vote.epoch, vote.view, vote.kind, vote.parent_view, vote.digest), set())
        if vote.signer in box:
            return
        box.add(vote.signer)
        if len(box) == self.world.quorum(vote.epoch):
            self._reached(vote)

    def _reached(self, vote: VoteFact) -> None:
        same_view = self._certified[vote.epoch, vote.view]
        same_view.add((vote.kind, vote.parent_view, vote.digest))
        finals = [each for each in same_view if each[0] == FINALIZE]
        blocks = [each for each in same_view if each[0] == NOTARIZE]
        nullified = any(each[0] == NULLIFY for each in same_view)
        self.check(len(finals) <= 1, f"two Finalizations in view {vote.view}", "I1")
        self.check(not (finals and nullified), f"Nullification and Finalization in view {vote.view}", "I3")
        self.check(len(blocks) <= 1, f"two Notarizations in view {vote.view}", "I4")
        for _, parent_view, digest in finals:
            voters = self.world.voters(vote.epoch, vote.view, NOTARIZE, parent_view, digest)
            # F votes follow a Notarization, but its last vote may not have been seen yet: then it is here by the end.
            self.check(
                voters > self.world.faulty_max(vote.epoch), f"view {vote.view} is final on {voters} N votes", "I5"
            )

    def certificate(self, node: int, certificate: CertificateFact) -> None:
        """I8: distinct signers, a quorum of them, every signature genuine."""
        where = f"certificate of kind {certificate.kind} for view {certificate.view} at node {node}"
        self.check(len(set(certificate.signers)) == len(certificate.signers), f"{where}: a signer twice", "I8")
        members, quorum = self.world.sets[certificate.epoch], self.world.quorum(certificate.epoch)
        self.check(len(certificate.signers) >= quorum, f"{where}: {len(certificate.signers)} signers", "I8")
        self.check(all(each in members for each in certificate.signers), f"{where}: a stranger", "I8")
        self.check(not certificate.forged, f"{where}: {certificate.forged} never signed it", "I8")

    def finish(self) -> None:
        """I5, in full."""
        for (epoch, view), certified in self._certified.items():
            for kind, parent_view, digest in certified:
                if kind == FINALIZE:
                    voters = self.world.voters(epoch, view, NOTARIZE, parent_view, digest)
                    self.check(voters >= self.world.quorum(epoch), f"view {view} is final without a Notarization", "I5")
