"""What is sent again (R7), what laggards are told (R11), and the start-up query (consensus.md §5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from consensus.effects import RemoveBackupMarker
from consensus.events import (
    CertificateReceived,
    MutedReceived,
    PeerConnected,
    ProposalReceived,
    StartAnswerReceived,
    Started,
    StartQueryReceived,
    VoteReceived,
    WantReceived,
)
from consensus.invariant import invariant
from consensus.messages import START_ANSWER_VOTES_MAX, Message, Muted, StartAnswer, StartQuery, Want
from consensus.startup import StartUp
from consensus.state import State
from consensus.tally import F, N, Tally, X
from consensus.timers import Budget
from consensus.types import Certificate, Vote
from consensus.votes import shape_problem

HELP_PER_INTERVAL: Final = 32
"""Answers to one peer per retry interval: a node catching up asks for a view at a time."""
RESENT_FINALIZE_VOTES_MAX: Final = 16
"""Own F votes sent again: finalizing the highest finalizes the rest."""
RESENT_VIEWS_MAX: Final = 256
"""Views searched for them."""


LateEvent = ProposalReceived | VoteReceived | CertificateReceived | WantReceived | StartQueryReceived
"""A message of the epoch."""


class Helper:
    """Brings peers to this node's view, and asks peers what this node may have forgotten."""

    def __init__(self, state: State, tally: Tally) -> None:
        self._s = state
        self._tally = tally
        self._budget = Budget(HELP_PER_INTERVAL, state.config.retry_ms)

    # -- votes and requests ----------------------------------------------------------------

    def on_vote(self, event: VoteReceived) -> None:
        """Count it if it is genuine and near; an X for a view left behind also asks for help (R11)."""
        s, vote, sender = self._s, event.vote, event.sender
        s.activity.heard(sender)
        problem = shape_problem(vote)
        if problem:
            s.penalise(sender, problem)
            return
        if vote.epoch != s.validators.epoch or vote.view > s.view + 1:
            return
        if vote.view >= s.window_start:
            problem = s.vote_problem(vote)
            if problem:
                s.penalise(sender, problem)
                return
            self._tally.count(vote)
        if s.ended is None and vote.kind is X and (vote.view < s.view or not (s.unfinalized or s.work)):
            self._help(sender, vote.view)

    def on_want(self, event: WantReceived) -> None:
        """R11."""
        self._s.activity.heard(event.sender)
        if event.want.epoch == self._s.validators.epoch:
            self._help(event.sender, event.want.view)

    def _help(self, peer: int, view: int) -> None:
        """Every certificate of the view, and those that bring the peer here."""
        if not self._budget.take(peer, self._s.now_ms):
            return
        found = self._s.rounds.get(view)
        answers = [certificate for _, certificate in sorted(found.certificates.items())] if found else []
        for certificate in answers + [guide for guide in self._guides() if guide not in answers]:
            self._s.send(peer, certificate)

    def on_connected(self, event: PeerConnected) -> None:
        """An idle network sends nothing: a peer that was away learns here what it missed."""
        startup = self._s.startup
        if startup is not None and not startup.done and event.peer not in startup.answers:
            self._s.send(event.peer, self._query(startup))
        for message in self._latest():
            self._s.send(event.peer, message)

    # -- after the end of the epoch ------------------------------------------------------------

    def show_end(self, event: LateEvent) -> None:
        """Whoever still speaks of an epoch that is over is shown its end, unless that is what it speaks of."""
        s = self._s
        if isinstance(event, CertificateReceived):
            certificate = event.certificate
            if certificate.kind is F and certificate.view >= s.floor_view:
                return
        if _epoch_of(event) == s.validators.epoch and self._budget.take(event.sender, s.now_ms):
            self.show_end_to(event.sender)

    def show_end_to(self, peer: int) -> None:
        """The Finalization of the boundary, or of a tail; the tails between are served with the boundary block."""
        if self._s.floor is not None:
            self._s.send(peer, self._s.floor)

    # -- sending again ---------------------------------------------------------------------

    def send_again(self) -> None:
        """R7 and the start-up query: what stays unanswered is sent again."""
        s = self._s
        startup = s.startup
        if s.ended is not None:
            return
        if startup is not None and not startup.done and s.now_ms >= startup.ask_again_ms:
            startup.ask_again_ms = s.now_ms + s.config.retry_ms
            s.broadcast(self._query(startup))
        if s.pace.retry_due(s.now_ms):
            for message in self._latest():
                s.broadcast(message)
            if s.own(s.current, X) is None:
                s.broadcast(Want(s.validators.epoch, s.view))  # no X of ours makes them help us

    def _latest(self) -> list[Message]:
        """What this node last said, and the certificates that brought it here."""
        s, messages = self._s, list[Message](self._guides())
        if s.own_index is None:
            return messages
        if s.view <= s.signer.muted_until:
            messages.append(Muted(s.validators.epoch, s.signer.muted_until))
        for view in range(s.view - 1, max(s.floor_view, s.view - 1 - RESENT_VIEWS_MAX), -1):
            finalize = s.own(s.rounds.get(view), F)
            if finalize is not None and len(messages) < RESENT_FINALIZE_VOTES_MAX:
                messages.append(finalize)
        found = s.current
        notarize, nullify = s.own(found, N), s.own(found, X)
        if notarize is not None:
            block = s.blocks.get(notarize.digest)
            built = found is not None and found.built == notarize.digest
            # A stored block may lack the leader's vote, which is made after the block is written.
            messages.append(replace(block.proposal, vote=notarize) if built and block is not None else notarize)
        if nullify is not None:
            messages.append(nullify)
        return messages

    def _guides(self) -> list[Certificate]:
        """Certificates that bring a laggard to this node's view: the floor's, the parent's, the one it entered by."""
        before = self._s.rounds.get(self._s.view - 1)
        guides = [self._s.floor, self._s.highest_certified()[1], before.best if before is not None else None]
        unique: list[Certificate] = []
        for guide in guides:
            if guide is not None and guide not in unique:
                unique.append(guide)
        return unique

    # -- starting --------------------------------------------------------------------------

    def begin(self, event: Started) -> None:
        """From now on the others are asked what the log may lack."""
        s = self._s
        invariant(s.startup is None, "started twice")
        needed = s.validators.quorum - 1 if s.own_index is not None else 0
        s.startup = StartUp(event.nonce, needed, event.restored_from_backup, ask_again_ms=s.now_ms)

    def _query(self, startup: StartUp) -> StartQuery:
        return StartQuery(self._s.validators.epoch, startup.nonce)

    def resume(self) -> None:
        """Say again what the log holds; a view that was given up before the restart stays so."""
        s = self._s
        if s.own(s.current, X) is not None:
            s.pace.expire(s.now_ms)
        for message in self._latest():
            s.broadcast(message)
        if s.own_index is None:
            s.broadcast(Want(s.validators.epoch, s.view))  # nobody answers a query that is not made

    def finish_start(self) -> bool:
        """Sign from now on, if enough answers count; muted, if they show that the log is not complete."""
        s, startup = self._s, self._s.startup
        if startup is None or startup.done:
            return False
        bound = startup.bound(s.reachable_view, max(s.highest_signed_view(), s.view - 1))
        if bound is None:
            return False
        startup.done = True
        s.signer.ready = True
        if bound:
            lost = "others hold votes of this node that its log lacks"
            s.mute(bound, "restored from a backup" if startup.restored_from_backup else lost)
        if startup.restored_from_backup:
            s.out.append(RemoveBackupMarker())
        return True

    def on_start_query(self, event: StartQueryReceived) -> None:
        """Answer at once, whatever this node waits for itself; answers are not votes.

        The asker begins, perhaps later than this node entered the epoch: it is told all that was said here last. An
        observer does not answer: without a vote log it cannot say what it signed.
        """
        s, asker, startup = self._s, event.sender, self._s.startup
        s.activity.heard(asker)
        if event.query.epoch != s.validators.epoch or not self._budget.take(asker, s.now_ms):
            return
        for (
            message
        ) in self._latest():  # certificates first: the answer counts only if its view is known to be reachable
            s.send(asker, message)
        if s.own_index is None:
            return
        votes: list[Vote] = []
        for found in reversed(list(s.rounds.ascending())):
            votes += [by_signer[asker] for by_signer in found.votes.values() if asker in by_signer]
        s.send(asker, StartAnswer(event.query.nonce, s.highest_signed_view(), tuple(votes[:START_ANSWER_VOTES_MAX])))
        if startup is not None and not startup.done and asker not in startup.answers:
            s.send(asker, self._query(startup))  # it was not there when this node asked

    def on_start_answer(self, event: StartAnswerReceived) -> None:
        """Count an answer to this start's query; every vote in it has to be genuine and this node's."""
        s, startup, answer = self._s, self._s.startup, event.answer
        s.activity.heard(event.sender)
        if startup is None or answer.nonce != startup.nonce:
            return
        if event.sender == s.own_index or not 0 <= event.sender < s.validators.n:
            return
        votes = answer.votes[:START_ANSWER_VOTES_MAX]
        for vote in votes:
            if vote.signer != s.own_index or vote.epoch != s.validators.epoch or s.vote_problem(vote) is not None:
                s.penalise(event.sender, "answers a start-up query with votes that are not the asker's")
                return
        for vote in votes:
            if vote.view >= s.window_start:
                self._tally.note(vote)
        startup.answers[event.sender] = answer.highest_signed_view

    def on_muted(self, event: MutedReceived) -> None:
        """Remember whom not to wait for in vain; nothing is decided by it."""
        s, sender = self._s, event.sender
        s.activity.heard(sender)
        if event.muted.epoch == s.validators.epoch and 0 <= sender < s.validators.n:
            s.muted_peers[sender] = event.muted.until_view


def _epoch_of(event: LateEvent) -> int:
    match event:
        case ProposalReceived():
            return event.proposal.header.epoch
        case VoteReceived():
            return event.vote.epoch
        case CertificateReceived():
            return event.certificate.epoch
        case WantReceived():
            return event.want.epoch
        case StartQueryReceived():
            return event.query.epoch
