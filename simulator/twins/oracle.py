"""Invariants I1-I8 and I11 over everything signed in one case, with arithmetic of its own (docs/consensus.md)."""

from __future__ import annotations

from collections import defaultdict

from consensus.evidence import Evidence
from consensus.types import Certificate, Header, Proposal, Vote, VoteKind
from simulator.twins.blocks import KEYS, FakeKey, vote_message_of

N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE

Box = tuple[VoteKind, int, int, bytes]
"""(kind, view, parent view, digest)."""


class Oracle:
    """Told of every vote, block and Finalization as they appear; AssertionError names what broke."""

    def __init__(self, genesis: Header, honest: set[int]) -> None:
        self.honest = honest
        self.quorum = next(q for q in range(1, len(KEYS) + 1) if 3 * (len(KEYS) - q) < len(KEYS))
        self.genesis = genesis
        self.checks = 0
        self.culprits: set[int] = set()
        self._verify = FakeKey(b"").verify
        self._headers: dict[bytes, Header] = {genesis.digest: genesis}
        self._signers: dict[Box, set[int]] = defaultdict(set)
        self._said: dict[tuple[int, int], set[Box]] = defaultdict(set)
        self._certified: dict[int, set[Box]] = defaultdict(set)
        self._final: dict[int, bytes] = {}

    def signed(self, vote: Vote) -> None:
        """I6: what an honest validator says in one view, over all its lives."""
        said = self._said[vote.signer, vote.view]
        said.add((vote.kind, vote.view, vote.parent_view, vote.digest))
        if vote.signer in self.honest:
            kinds = sorted(kind for kind, _, _, _ in said)
            blocks = {(parent, digest) for kind, _, parent, digest in said if kind is not X}
            self._hold(len(kinds) == len(set(kinds)), f"I6: validator {vote.signer} votes twice in view {vote.view}")
            self._hold(not {X, F} <= set(kinds), f"I6: X with F of validator {vote.signer} in view {vote.view}")
            self._hold(len(blocks) <= 1, f"I6: validator {vote.signer} votes for two blocks in view {vote.view}")
        self.sent(vote)

    def sent(self, vote: Vote) -> None:
        """A vote is on its way, whoever signed it: I1, I3, I4, I5."""
        box = (vote.kind, vote.view, vote.parent_view, vote.digest)
        signers = self._signers[box]
        if vote.signer in signers or not self._verify(KEYS[vote.signer], vote_message_of(vote), vote.signature):
            return
        signers.add(vote.signer)
        if len(signers) != self.quorum:
            return
        here = self._certified[vote.view]
        here.add(box)
        for kind, invariant in ((F, "I1: two Finalizations"), (N, "I4: two Notarizations")):
            self._hold(sum(held[0] is kind for held in here) <= 1, f"{invariant} in view {vote.view}")
        kinds = {held[0] for held in here}
        self._hold(not {X, F} <= kinds, f"I3: Nullification and Finalization of view {vote.view}")
        if vote.kind is F:
            self._hold((N, *box[1:]) in here, f"I5: Finalization without Notarization in view {vote.view}")
            self._final[vote.view] = vote.digest

    def block(self, proposal: Proposal) -> None:
        """A block exists."""
        self._headers[proposal.header.digest] = proposal.header

    def finalized(self, certificate: Certificate) -> None:
        """I8: an honest validator accepted a Finalization."""
        box = (F, certificate.view, certificate.parent_view, certificate.digest)
        signers = set(certificate.signers)
        self._hold(len(signers) >= self.quorum, f"I8: {len(signers)} signers finalize view {certificate.view}")
        self._hold(signers <= self._signers[box], f"I8: a signer of view {certificate.view} never signed")

    def reported(self, evidence: Evidence) -> None:
        """I11."""
        self._hold(evidence.culprit not in self.honest, f"I11: evidence against honest {evidence.culprit}")
        self.culprits.add(evidence.culprit)

    def check_chain(self) -> None:
        """I2 and I7, over all Finalizations."""
        if not self._final:
            return
        block = self._headers[self._final[max(self._final)]]
        chain = {block.digest}
        while block.digest != self.genesis.digest:
            parent = self._headers[block.parent_digest]
            for view in range(parent.view + 1, block.view):
                self._hold(view not in self._final, f"I2: finalized view {view} was skipped by view {block.view}")
                nullified = len(self._signers[X, view, 0, b""]) >= self.quorum
                self._hold(nullified, f"I7: view {view} was skipped without a Nullification")
            chain.add(parent.digest)
            block = parent
        for view, digest in self._final.items():
            self._hold(digest in chain, f"I2: the final block of view {view} is no ancestor of the highest")

    def _hold(self, holds: bool, text: str) -> None:
        self.checks += 1
        if not holds:
            raise AssertionError(text)
