"""Body backfill: how a node that was away gets the finalized blocks it missed.

Driven by finality alone, independent of votes and timers (consensus.md §6, third mechanism). One
request at a time; what a peer answers is believed only as a whole: a hash chain from our final
block up to one that a valid Finalization names, every header with the preimage of the justification
it commits to, and that justification proving its parent and its skipped views.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.events import Now
from consensus.justification import HeaderRules
from consensus.types import Certificate, Header, Proposal, ValidatorSet, Vote, VoteKind
from consensus.votes import VoteChecker
from ledger.types import Block
from node.turn import FetchBlocks, Turn

UNSIGNED = bytes(64)  #: in place of a leader's vote that backfill does not know; nobody relies on it
RETRY_DELAYS = 6  #: times D before a request that nobody answered is made again


class BadBlocks(Exception):
    """What a peer served is not the finalized chain.

    Attributes:
        height: first block that is wrong.
        problem: what is wrong with it.
    """

    def __init__(self, height: int, problem: str) -> None:
        super().__init__(f"block {height}: {problem}")
        self.height = height
        self.problem = problem


class ChainRules:
    """What backfilled headers and certificates have to satisfy: the core's own rules."""

    def __init__(self, rules: HeaderRules, checker: VoteChecker) -> None:
        self._rules = rules
        self._checker = checker

    def certificate_problem(self, certificate: Certificate) -> str | None:
        """None if the certificate is genuine."""
        return self._checker.certificate_problem(certificate, lambda _: False)

    def block_problem(self, block: Block, parent: Header) -> str | None:
        """None if the block follows its parent and everything it commits to is in hand and holds."""
        header = block.header
        if header.parent_digest != parent.digest:
            return f"does not follow block {parent.height}"
        if header.payload_root != block.payload.root:
            return "its header commits to another list of batches"
        if block.payload.batch_digests != tuple(batch.header.digest for batch in block.batches):
            return "its batches are not those it lists"
        if header.justification_digest != block.justification.digest:
            return "its header commits to another justification"
        return (
            self._rules.header_problem(header)
            or self._rules.justification_problem(header, block.justification, self.certificate_problem)
            or self._rules.placement_problem(header, block.justification, parent, None)
        )


def as_proposal(block: Block, leader: int) -> Proposal:
    """A served block in the form in which blocks are kept; the leader's own vote is not known."""
    header = block.header
    vote = Vote(VoteKind.NOTARIZE, header.epoch, header.view, header.parent_view, header.digest, leader, UNSIGNED)
    return Proposal(header, block.justification, block.payload.raw, vote)


def check_chain(blocks: Sequence[Block], parent: Header, rules: ChainRules) -> tuple[Sequence[Block], Certificate]:
    """The blocks up to the last one with a Finalization, and that Finalization.

    Raises:
        BadBlocks: a link, a commitment or a certificate does not hold.
    """
    last = max((i for i, block in enumerate(blocks) if block.finalization is not None), default=None)
    if last is None:
        raise BadBlocks(parent.height + 1, "no Finalization among the blocks served")
    chain = blocks[: last + 1]
    for block in chain:
        problem = rules.block_problem(block, parent)
        if problem is not None:
            raise BadBlocks(block.header.height, problem)
        parent = block.header
    certificate = chain[-1].finalization
    if certificate is None or (certificate.kind, certificate.view, certificate.digest) != (
        VoteKind.FINALIZE,
        parent.view,
        parent.digest,
    ):
        raise BadBlocks(parent.height, "its Finalization is for another block")
    problem = rules.certificate_problem(certificate)
    if problem is not None:
        raise BadBlocks(parent.height, f"its Finalization does not hold: {problem}")
    return chain, certificate


class Catchup:
    """When to ask whom for blocks.

    Args:
        validators: set of the epoch.
        own: own signer index, None for an observer.
        delay_ms: D.
    """

    def __init__(self, validators: ValidatorSet, own: int | None, delay_ms: int) -> None:
        self._peers = [i for i in range(validators.n) if i != own]
        self._delay_ms = delay_ms
        self._since_ms: int | None = None
        self._asked_ms: int | None = None
        self._turn = 0

    def need(self, from_height: int, now: Now, turn: Turn) -> None:
        """Blocks from here on are missing: ask, starting with another peer each time."""
        if self._since_ms is None:
            self._since_ms = now.monotonic_ms
        if now.monotonic_ms < self._since_ms + self._delay_ms:
            return  # it may still be on its way
        if self._asked_ms is not None and now.monotonic_ms < self._asked_ms + RETRY_DELAYS * self._delay_ms:
            return
        self._asked_ms = now.monotonic_ms
        start = self._turn % max(1, len(self._peers))
        self._turn += 1
        turn.fetches.append(FetchBlocks(tuple(self._peers[start:] + self._peers[:start]), from_height))

    def answered(self) -> None:
        """An answer came, good or bad: the next request may go out at once."""
        self._asked_ms = None

    def complete(self) -> None:
        """Nothing is missing."""
        self._asked_ms = self._since_ms = None

    def deadline_ms(self) -> int | None:
        """When to ask, or to ask again."""
        if self._asked_ms is not None:
            return self._asked_ms + RETRY_DELAYS * self._delay_ms
        return None if self._since_ms is None else self._since_ms + self._delay_ms
