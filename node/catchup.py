"""Body backfill: how a node that was away gets the finalized blocks it missed.

Driven by finality alone, independent of votes and timers (consensus.md §6, third mechanism). One
request at a time; what a peer answers is believed only as a whole: a hash chain from our final
block up to one that a valid Finalization names, every header with the preimage of the justification
it commits to, and that justification proving its parent and its skipped views. Nothing is believed
beyond the boundary block of an epoch: who votes next is known when that block is executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.events import Now
from consensus.justification import HeaderRules
from consensus.ports import Signatures
from consensus.types import Certificate, Header, Justification, Proposal, Vote, VoteKind
from consensus.votes import VoteChecker
from ledger import wire
from ledger.types import Block, Payload
from node.branches import PROTOCOL_VERSION
from node.epoch import Epoch
from node.turn import FetchBlocks, Turn

NOTHING_LISTED = wire.encode_payload(())  #: by a tail
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


class Unproven(BadBlocks):
    """No Finalization came with them: nothing can be believed, and nobody blamed.

    An honest node that is catching up itself may have stored blocks as final, and not yet the one that is certified.
    """


class ChainRules:
    """What backfilled headers and certificates of one epoch have to satisfy: the core's own rules."""

    def __init__(self, rules: HeaderRules, checker: VoteChecker) -> None:
        self._rules = rules
        self._checker = checker

    @classmethod
    def of(cls, epoch: Epoch, chain_id: bytes, signatures: Signatures) -> ChainRules:
        """The rules of an epoch."""
        return cls(
            HeaderRules(PROTOCOL_VERSION, chain_id, epoch.validators, epoch.start),
            VoteChecker(chain_id, epoch.validators, signatures),
        )

    @property
    def epoch(self) -> int:
        """Whose rules these are."""
        return self._rules.validators.epoch

    def certificate_problem(self, certificate: Certificate) -> str | None:
        """None if the certificate is genuine."""
        return self._checker.certificate_problem(certificate, lambda _: False)

    def block_problem(self, block: Block, parent: Header) -> str | None:
        """None if the block follows its parent and everything it commits to is in hand and holds."""
        if block.header.payload_root != block.payload.root:
            return "its header commits to another list of batches"
        if block.payload.batch_digests != tuple(batch.header.digest for batch in block.batches):
            return "its batches are not those it lists"
        return self._header_problem(block.header, block.justification, parent, None)

    def tails_problem(self, block: Block) -> str | None:
        """None if the tails follow the boundary block, and one another."""
        if block.tails and not block.header.next_valset_hash:
            return "tails after a block that does not end its epoch"
        parent = block.header
        for tail in block.tails:
            problem = self._header_problem(tail.header, tail.justification, parent, block.header)
            if problem is not None:
                return f"tail of view {tail.header.view}: {problem}"
            parent = tail.header
        return None

    def _header_problem(
        self, header: Header, justification: Justification, parent: Header, boundary: Header | None
    ) -> str | None:
        if header.parent_digest != parent.digest:
            return f"does not follow block {parent.height}"
        if header.justification_digest != justification.digest:
            return "its header commits to another justification"
        return (
            self._rules.header_problem(header)
            or self._rules.justification_problem(header, justification, self.certificate_problem)
            or self._rules.placement_problem(header, justification, parent, boundary)
        )


def as_proposal(header: Header, justification: Justification, payload: Payload, leader: int) -> Proposal:
    """A served block, or tail, in the form in which blocks are kept; the leader's own vote is not known."""
    vote = Vote(VoteKind.NOTARIZE, header.epoch, header.view, header.parent_view, header.digest, leader, UNSIGNED)
    return Proposal(header, justification, payload.raw, vote)


def check_chain(blocks: Sequence[Block], parent: Header, rules: ChainRules) -> tuple[Sequence[Block], Certificate]:
    """The blocks up to the last one with a Finalization, at most to the end of the epoch, and that Finalization.

    Raises:
        Unproven: none of them carries a Finalization.
        BadBlocks: a link, a commitment or a certificate does not hold.
    """
    end = next((i + 1 for i, block in enumerate(blocks) if block.header.next_valset_hash), len(blocks))
    last = max((i for i, block in enumerate(blocks[:end]) if block.finalization is not None), default=None)
    if last is None:
        raise Unproven(parent.height + 1, "no Finalization among the blocks served")
    chain = blocks[: last + 1]
    for block in chain:
        problem = rules.block_problem(block, parent)
        if problem is not None:
            raise BadBlocks(block.header.height, problem)
        parent = block.header
    problem = rules.tails_problem(chain[-1])
    if problem is not None:
        raise BadBlocks(parent.height, problem)
    if chain[-1].tails:
        parent = chain[-1].tails[-1].header
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
        organisation: whose node this is.
        validators: ids of the validators of the present epoch.
        delay_ms: D.
    """

    def __init__(self, organisation: str, validators: Iterable[str], delay_ms: int) -> None:
        self._organisation = organisation
        self._peers = [peer for peer in validators if peer != organisation]
        self._delay_ms = delay_ms
        self._since_ms: int | None = None
        self._asked_ms: int | None = None
        self._turn = 0
        self.gone = False
        """Somebody said that the blocks are not held any more, and nobody else had them."""

    def enter(self, validators: Iterable[str]) -> None:
        """An epoch begins, with these validators; those of the one before may be gone."""
        self._peers = [peer for peer in validators if peer != self._organisation]
        self.complete()

    def missing(self, now: Now) -> bool:
        """Blocks are missing; False while they may still be on their way."""
        if self._since_ms is None:
            self._since_ms = now.monotonic_ms
        return now.monotonic_ms >= self._since_ms + self._delay_ms

    def need(self, from_height: int, now: Now, turn: Turn) -> None:
        """Blocks from here on are missing: ask, starting with another peer each time."""
        if self._asked_ms is not None and now.monotonic_ms < self._asked_ms + RETRY_DELAYS * self._delay_ms:
            return
        self._asked_ms = now.monotonic_ms
        start = self._turn % max(1, len(self._peers))
        self._turn += 1
        turn.fetches.append(FetchBlocks(tuple(self._peers[start:] + self._peers[:start]), from_height))

    def answered(self) -> None:
        """An answer came, good or bad: the next request may go out at once."""
        self._asked_ms = None

    def failed(self, *, gone: bool) -> None:
        """Nobody had what was asked for."""
        self.gone = self.gone or gone

    def complete(self) -> None:
        """Nothing is missing."""
        self._asked_ms = self._since_ms = None
        self.gone = False

    def deadline_ms(self) -> int | None:
        """When to ask, or to ask again."""
        if self._asked_ms is not None:
            return self._asked_ms + RETRY_DELAYS * self._delay_ms
        return None if self._since_ms is None else self._since_ms + self._delay_ms
