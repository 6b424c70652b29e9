"""Builds past blocks it dislikes: on an older parent, with missing or forged nullifications for what it skips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.types import Certificate, Header, Proposal, VoteKind
from ledger import wire
from simulator.adversaries.liar import Liar, Send


class LyingLeader(Liar):
    """Without it, and the oracle of the chain, nobody would notice that skipped views go unchecked."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Own proposals name a parent from further back."""
        for to, message in sends:
            if isinstance(message, Proposal) and message.vote.signer == self.seat:
                self.lie("false parent")
                yield to, self._on_older(message)
            else:
                yield to, message

    def _on_older(self, proposal: Proposal) -> Proposal:
        parent, certificate = self._older(proposal)
        justification = wire.make_justification(certificate, self._forged(parent.view, proposal.header.view))
        empty = wire.encode_payload(())
        return self.proposal(
            proposal,
            justification,
            empty.raw,
            height=parent.height + 1,
            parent_view=parent.view if certificate is not None else 0,
            parent_digest=parent.digest,
            timestamp_ms=max(proposal.header.timestamp_ms, parent.timestamp_ms + 1),
            state_height=parent.state_height,
            state_root=parent.state_root,
            receipts_root=parent.receipts_root,
        )

    def _older(self, proposal: Proposal) -> tuple[Header, Certificate | None]:
        """The parent of the honest parent; the genesis where there is none."""
        genesis = self.core._state.genesis
        parent = self.stored(proposal.header.parent_digest)
        if parent is None or parent.header.parent_digest == genesis.digest:
            return genesis, None
        older = self.stored(parent.header.parent_digest)
        return (older.header, parent.justification.parent) if older is not None else (genesis, None)

    def _forged(self, parent_view: int, view: int) -> list[Certificate]:
        skipped = range(parent_view + 1, view)
        quorum = self.size - (self.size - 1) // 3
        match self.random.randrange(4):
            case 0:
                self.lie("missing nullifications")
                return []
            case 1:  # one signer, a quorum of times
                names: Sequence[int] = (self.seat,) * quorum
            case 2:  # signatures of nobody
                names = tuple(range(quorum))
            case _:  # too few
                names = (self.seat,)
        self.lie("forged nullifications")
        return [self.forged_certificate(VoteKind.NULLIFY, each, b"", names) for each in skipped]
