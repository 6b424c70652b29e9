"""Invariants I1-I11 over everything ever signed, with arithmetic of its own.

Nothing here uses ``ValidatorSet.quorum`` or the core's certificates for counting: a fault in either would hide itself.
"""

from __future__ import annotations

from collections import defaultdict

from consensus.evidence import Evidence
from consensus.types import Certificate, Header, Proposal, ValidatorSet, Vote
from consensus.votes import vote_message
from tests.unit.consensus.support import CHAIN_ID, F, N, X, fake_signature


class Oracle:
    """Told of every vote, block and Finalization as they appear."""

    def __init__(self, validators: ValidatorSet, genesis: Header, honest: set[int]) -> None:
        count = len(validators.members)
        self.quorum = next(q for q in range(1, count + 1) if 3 * (count - q) < count)
        self.keys = [member.public_key for member in validators.members]
        self.genesis = genesis
        self.honest = honest
        self.headers: dict[bytes, Header] = {genesis.digest: genesis}
        #: (kind, view, parent view, digest) -> signers
        self.boxes: dict[tuple[int, int, int, bytes], set[int]] = defaultdict(set)
        self.by_signer: dict[tuple[int, int], set[tuple[int, int, bytes]]] = defaultdict(set)
        self.certified: dict[int, set[tuple[int, int, int, bytes]]] = defaultdict(set)
        self.final_digests: dict[int, bytes] = {}
        self.evidence: list[Evidence] = []

    def signed(self, vote: Vote) -> None:
        """An honest node logged a vote: I6, over all its lives."""
        mine = self.by_signer[vote.signer, vote.view]
        mine.add((vote.kind, vote.parent_view, vote.digest))
        if vote.signer in self.honest:
            where = f"node {vote.signer} in view {vote.view}: {mine}"
            for kind in (N, F):
                assert sum(k == kind for k, _, _ in mine) <= 1, f"I6: two {kind.name}, {where}"
            kinds = {k for k, _, _ in mine}
            assert not {X, F} <= kinds, f"I6: X with F, {where}"
            assert len({(p, d) for k, p, d in mine if k in (N, F)}) <= 1, f"I6: N(c) with F(c'), {where}"
        self.sent(vote)

    def sent(self, vote: Vote) -> None:
        """A vote went over the network (Byzantine ones are only seen here)."""
        box = self.boxes[vote.kind, vote.view, vote.parent_view, vote.digest]
        if vote.signer in box or not self._genuine(vote):
            return
        box.add(vote.signer)
        if len(box) == self.quorum:
            self._certified(vote)

    def _genuine(self, vote: Vote) -> bool:
        message = vote_message(CHAIN_ID, vote.kind, vote.epoch, vote.view, vote.parent_view, vote.digest)
        return vote.signature == fake_signature(self.keys[vote.signer], message)

    def _certified(self, vote: Vote) -> None:
        same_view = self.certified[vote.view]
        same_view.add((vote.kind, vote.view, vote.parent_view, vote.digest))
        finals = {key for key in same_view if key[0] == F}
        assert len(finals) <= 1, f"I1: two Finalizations in view {vote.view}"
        assert len({key for key in same_view if key[0] == N}) <= 1, f"I4: two Notarizations in view {vote.view}"
        if finals:
            assert not any(key[0] == X for key in same_view), f"I3: Nullification and Finalization of {vote.view}"
        for _, _, parent_view, digest in finals:
            assert (N, vote.view, parent_view, digest) in same_view, f"I5: Finalization without N in {vote.view}"
            self.final_digests[vote.view] = digest

    def block(self, proposal: Proposal) -> None:
        """A block exists."""
        self.headers[proposal.header.digest] = proposal.header

    def finalized(self, certificate: Certificate) -> None:
        """A node accepted a Finalization: I8."""
        key = (F, certificate.view, certificate.parent_view, certificate.digest)
        assert len(set(certificate.signers)) >= self.quorum, "I8: no quorum"
        assert set(certificate.signers) <= self.boxes[key], "I8: a signer that never signed"

    def reported(self, evidence: Evidence) -> None:
        """I11."""
        assert evidence.culprit not in self.honest, f"I11: evidence names an honest node: {evidence}"
        self.evidence.append(evidence)

    def check_chain(self) -> list[Header]:
        """I2 and I7 over all Finalizations; the finalized chain, oldest first."""
        if not self.final_digests:
            return []
        chain = [self.headers[self.final_digests[max(self.final_digests)]]]
        while chain[-1].digest != self.genesis.digest:
            block, parent = chain[-1], self.headers[chain[-1].parent_digest]
            assert block.height == parent.height + 1, "heights are consecutive"
            assert block.parent_view == parent.view, "parent view"
            for skipped in range(parent.view + 1, block.view):
                assert skipped not in self.final_digests, f"I2: finalized view {skipped} was skipped"
                assert len(self.boxes[X, skipped, 0, b""]) >= self.quorum, f"I7: view {skipped} skipped"
            chain.append(parent)
        digests = {header.digest for header in chain}
        for view, digest in self.final_digests.items():
            assert digest in digests, f"I2: the final block of view {view} is no ancestor of the highest"
        return chain[::-1]
