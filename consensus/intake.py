"""Blocks on their way in: proposals (R3), blocks known only by digest (R5), their place under their parents."""

from __future__ import annotations

from consensus.blocks import Block
from consensus.effects import FetchBlock, Verify
from consensus.events import BlockFetched, ProposalReceived, Verdict, Verified
from consensus.state import State
from consensus.tally import Tally
from consensus.types import Proposal, VoteKind

N = VoteKind.NOTARIZE

Wanted = dict[bytes, tuple[int, tuple[int, ...]]]
"""Digest -> view, and who claims to have the block."""


class Intake:
    """Judges what can be judged without a body, and hands the rest to the application."""

    def __init__(self, state: State, tally: Tally) -> None:
        self._s = state
        self._tally = tally
        self.fetches: dict[bytes, int] = {}
        """Blocks asked for: digest -> when to ask again, monotonic ms."""

    # -- proposals -------------------------------------------------------------------------

    def on_proposal(self, event: ProposalReceived) -> None:
        """R3: the first proposal fills the slot; a second one is evidence, and its block is not kept."""
        s, proposal, sender = self._s, event.proposal, event.sender
        header, vote = proposal.header, proposal.vote
        s.activity.heard(sender)
        if header.epoch != s.validators.epoch or header.view <= s.floor_view:
            return
        problem = self._sender_problem(proposal)
        if problem:
            s.penalise(sender, problem)
            return
        if s.blocks.get(header.digest) is None and self._welcome(proposal):
            block = self._judge(proposal)
            if block.problem is not None and header.view > s.view + 1:
                s.penalise(sender, block.problem)
                return
            self._take(block)
        if s.floor_view < header.view <= s.view + 1 or s.blocks.get(header.digest) is not None:
            s.activity.heard(vote.signer)
            self._tally.count(vote)

    def _welcome(self, proposal: Proposal) -> bool:
        digest = proposal.header.digest
        found = self._s.rounds.get(proposal.header.view)
        return found is None or found.slot in (None, digest) or digest in self.fetches

    def _sender_problem(self, proposal: Proposal) -> str | None:
        """What only the sender can be blamed for: parts that do not belong together, a vote not the leader's."""
        header, vote = proposal.header, proposal.vote
        voted = (vote.kind, vote.epoch, vote.view, vote.target)
        if voted != (N, header.epoch, header.view, (header.parent_view, header.digest)):
            return "the vote of the proposal is not for its header"
        if vote.signer != self._s.validators.leader(vote.view):
            return "the vote of the proposal is not its leader's"
        if proposal.justification.digest != header.justification_digest:
            return "the justification is not the one the header commits to"
        return self._s.vote_problem(vote)

    def _judge(self, proposal: Proposal) -> Block:
        """A new block, with what can be proven against it at once."""
        rules, block = self._s.rules, Block(proposal)
        block.problem = rules.header_problem(proposal.header)
        if block.problem is None:
            block.problem = rules.justification_problem(
                proposal.header, proposal.justification, self._s.certificate_problem
            )
            block.false_justification = block.problem is not None
        return block

    def _take(self, block: Block) -> None:
        """Keep a judged block; its justification's certificates act like any others (R10)."""
        s, header, justification = self._s, block.header, block.proposal.justification
        s.blocks.add(block)
        self.fetches.pop(header.digest, None)
        if block.problem is None:
            for certificate in justification.certificates:
                self._tally.hold(certificate)
        elif block.false_justification:
            self._witness(block)
            for vote in s.rounds.at(header.view).votes_for(N, (header.parent_view, header.digest)):
                self._tally.report_false_justification(vote)

    def _witness(self, block: Block) -> None:
        """What is genuine in a false justification counts like any other certificate, up to the first that is not."""
        above = 0
        for certificate in block.proposal.justification.certificates:
            if not above < certificate.view < block.header.view or self._s.certificate_problem(certificate) is not None:
                return
            above = certificate.view
            self._tally.hold(certificate)

    # -- under their parents ---------------------------------------------------------------

    def place(self) -> bool:
        """Compare blocks with their parents; what fits goes to the application, parents first."""
        blocks = self._s.blocks
        if not blocks.look_again:
            return False
        blocks.look_again = False
        changed = False
        for block in blocks.unplaced():
            parent = blocks.settled_header(block.header.parent_digest)
            if parent is None:
                continue
            block.boundary = blocks.boundary(parent.digest)
            block.problem = self._s.rules.placement_problem(
                block.header, block.proposal.justification, parent, block.boundary
            )
            block.placed = block.problem is None
            changed = True
            if block.placed and not block.asked:
                block.asked = True
                self._s.out.append(Verify(block.proposal))
        return changed

    def on_verified(self, event: Verified) -> None:
        """The application's verdict."""
        s, block = self._s, self._s.blocks.get(event.digest)
        if block is None:
            return
        view = block.header.view
        if block.verdict not in (None, event.verdict):
            # Possible only after a restart, where the first verdict is the log's: the state behind it has changed.
            s.stop("divergence", f"the certified block of view {view} was valid, now it is {event.verdict.value}")
        block.verdict = event.verdict

    # -- blocks known by digest only ---------------------------------------------------------

    def find(self) -> bool:
        """R5, R6: get the blocks of Notarizations, and of votes by more than f, that were never proposed to us."""
        s, changed = self._s, False
        wanted = self._wanted()
        self.fetches = {digest: at_ms for digest, at_ms in self.fetches.items() if digest in wanted}
        for digest, (view, sources) in wanted.items():
            if s.now_ms < self.fetches.get(digest, s.now_ms):
                continue
            stored = s.blocks.stored(digest)
            if stored is not None:
                self._take(self._judge(stored))
                changed = True
                continue
            self.fetches[digest] = s.now_ms + s.config.retry_ms
            s.out.append(FetchBlock(digest, view, sources))
        return changed

    def _wanted(self) -> Wanted:
        s, wanted = self._s, Wanted()
        for view in sorted(s.uncertified):
            notarized = s.rounds.at(view).notarized
            if notarized is not None and s.blocks.get(notarized.digest) is None:
                wanted[notarized.digest] = (view, self._sources(view, notarized.signers))
        found = s.current
        if found is not None and found.slot is not None and s.blocks.get(found.slot) is None:
            voters = tuple(signer for signer, vote in sorted(found.votes[N].items()) if vote.digest == found.slot)
            if len(voters) > s.validators.f:
                wanted.setdefault(found.slot, (s.view, self._sources(s.view, voters)))
        return wanted

    def _sources(self, view: int, holders: tuple[int, ...]) -> tuple[int, ...]:
        """Who claims to have the block: its leader first, then who voted for it."""
        leader = self._s.validators.leader(view)
        ordered = (leader, *(index for index in holders if index != leader))
        return tuple(index for index in ordered if index != self._s.own_index)

    def on_fetched(self, event: BlockFetched) -> None:
        """The answer; what its sender cannot prove is not believed."""
        s, header = self._s, event.proposal.header
        s.activity.heard(event.sender)
        if header.digest not in self.fetches:
            return
        if event.proposal.justification.digest != header.justification_digest:
            s.penalise(event.sender, "the justification is not the one the header commits to")
            return
        self._take(self._judge(event.proposal))

    # -- restart ---------------------------------------------------------------------------

    def reload(self) -> None:
        """Blocks this node voted for, built or certified come back from the store; what it certified stays so."""
        s = self._s
        for found in list(s.rounds.ascending()):
            if found.view < s.floor_view:
                continue
            own = s.own(found, N)
            for digest in dict.fromkeys((found.certified, found.slot, found.built, own.digest if own else None)):
                stored = s.blocks.stored(digest) if digest is not None else None
                if stored is None or s.blocks.get(stored.header.digest) is not None:
                    continue
                block = self._judge(stored)
                if digest == found.certified:
                    block.verdict = Verdict.VALID
                self._take(block)
