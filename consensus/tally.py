"""Votes into certificates, certificates into views and floor: R5, R8, R9, R10, and the evidence met on the way."""

from __future__ import annotations

from typing import Final

from consensus.effects import Finalized
from consensus.events import CertificateReceived, Witnessed
from consensus.evidence import FalseJustification, conflicts
from consensus.records import HeldCertificate, OwnVote
from consensus.rounds import Round
from consensus.state import State
from consensus.types import Certificate, Proposal, Target, Vote, VoteKind

N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE
NULLIFICATION: Final[Target] = (0, b"")


class Tally:
    """Counts votes and holds certificates, all of them verified by its callers."""

    def __init__(self, state: State) -> None:
        self._s = state

    # -- own votes -------------------------------------------------------------------------

    def cast(self, kind: VoteKind, found: Round, target: Target) -> None:
        """Sign, log, send and count one vote."""
        vote = self._s.signer.sign(kind, found, target)
        self.utter(vote, found, vote)

    def utter(self, vote: Vote, found: Round, message: Vote | Proposal) -> None:
        """Log, send and count a vote just signed."""
        found.count(vote)  # first: what is in the boxes is what this node knows it signed
        self._s.persist(OwnVote(vote))
        self._s.broadcast(message)
        self.count(vote)

    def notice_own(self, vote: Vote, found: Round) -> None:
        """A genuine vote of this node that its log lacks: the log is older than what was signed (consensus.md §5)."""
        s = self._s
        if vote.signer != s.own_index or vote.view < s.floor_view:
            return
        if conflicts(vote, found.votes):
            s.stop("forgotten-vote", f"this node signed votes in view {vote.view} that nobody honest signs together")
        if s.own(found, vote.kind) is not None:
            return
        s.persist(OwnVote(vote))
        if s.startup is not None and not s.startup.done:
            s.startup.lost_view = max(s.startup.lost_view, vote.view)
        else:
            s.mute(max(vote.view, s.view) + 1, "a vote of this node that its log does not hold came back")

    # -- votes -----------------------------------------------------------------------------

    def count(self, vote: Vote) -> None:
        """Count a verified vote; a quorum makes a certificate (R5, R8, R9)."""
        found = self._s.rounds.at(vote.view)
        self.note(vote)
        if vote.kind in found.certificates:
            return
        box = found.votes_for(vote.kind, vote.target)
        if len(box) >= self._s.validators.quorum:
            signers, signatures = tuple(each.signer for each in box), tuple(each.signature for each in box)
            parent_view, digest = vote.target
            formed = Certificate(vote.kind, vote.epoch, vote.view, parent_view, digest, signers, signatures)
            self.hold(formed, formed=True)

    def note(self, vote: Vote) -> None:
        """What every verified vote tells, alone, in a certificate or in an answer."""
        s, found = self._s, self._s.rounds.at(vote.view)
        self.notice_own(vote, found)
        for evidence in found.count(vote):
            s.report(evidence)
        if vote.kind is N:
            if vote.signer == s.validators.leader(vote.view):
                found.fill_slot(vote.digest)  # R3
            self.report_false_justification(vote)

    def report_false_justification(self, vote: Vote) -> None:
        """The fifth kind of evidence, if this is an N over such a header; once for each signer and view."""
        block = self._s.blocks.get(vote.digest)
        if vote.kind is not N or block is None or not block.false_justification:
            return
        reported = self._s.rounds.at(vote.view).reported
        if (vote.signer, None) not in reported:
            reported.add((vote.signer, None))
            justification = block.proposal.justification
            self._s.report(FalseJustification(vote, block.header, justification, block.problem or ""))

    # -- certificates ----------------------------------------------------------------------

    def on_certificate(self, event: CertificateReceived) -> None:
        """R10: valid certificates act whoever sent them, and however far ahead they are."""
        s, certificate = self._s, event.certificate
        s.activity.heard(event.sender)
        if certificate.epoch != s.validators.epoch or certificate.view < s.window_start:
            return
        found = s.rounds.get(certificate.view)
        held = found.certificates.get(certificate.kind) if found is not None else None
        if found is not None and held is not None and held.target == certificate.target:
            problem = self._look_at_second(certificate, found)
        else:
            problem = s.certificate_problem(certificate)
            if problem is None:
                self.hold(certificate)
        if problem:
            s.penalise(event.sender, f"certificate: {problem}")

    def _look_at_second(self, certificate: Certificate, found: Round) -> str | None:
        """Another certificate of a tuple held already tells nothing new, but that a signer in it may have signed
        something else as well; what is wrong with the first vote of it that is not genuine."""
        if len(certificate.signers) != len(certificate.signatures):
            return "signers and signatures differ in number"
        for vote in certificate.votes():
            if not found.has_voted(vote):
                problem = self._s.vote_problem(vote)
                if problem:
                    return problem
                self.note(vote)
        return None

    def on_witnessed(self, event: Witnessed) -> None:
        """Certificates found genuine elsewhere: who signed in them may have signed something else as well."""
        for certificate in event.certificates:
            if certificate.epoch == self._s.validators.epoch and certificate.view >= self._s.window_start:
                for vote in certificate.votes():
                    self.note(vote)

    def hold(self, certificate: Certificate, formed: bool = False) -> None:
        """A genuine certificate, formed here or received: log it, pass it on if it is news, act on it."""
        s, view, kind = self._s, certificate.view, certificate.kind
        if view < s.window_start:
            return
        found = s.rounds.at(view)
        for vote in certificate.votes():
            self.note(vote)
        held = found.certificates.get(kind)
        if held is not None:
            if held.target != certificate.target:
                s.stop("fork", f"two certificates of kind {kind.name} for different blocks in view {view}")
            return
        if s.ended is not None:
            if kind is F:
                self._hold_finalization(certificate)  # it may be of a second end
            return  # what is held is enough, and its headers are known
        found.certificates[kind] = certificate
        s.top_certificate_view = max(s.top_certificate_view, view)
        s.persist(HeldCertificate(certificate))
        if formed or view >= s.view or (kind is F and view > s.floor_view):
            s.broadcast(certificate)
        if kind is N:
            self._hold_notarization(found, certificate)
        elif kind is X:
            s.enter(view + 1)  # R8
        else:
            self._hold_finalization(certificate)

    def _hold_notarization(self, found: Round, certificate: Certificate) -> None:
        """R5: authoritative for the slot, even against what the leader told this node."""
        if found.slot not in (None, certificate.digest):
            found.equivocated = True
        found.slot = certificate.digest
        if certificate.view > self._s.floor_view:
            self._s.uncertified.add(certificate.view)

    def _hold_finalization(self, certificate: Certificate) -> None:
        """R9: the certified block and all its ancestors are final."""
        s = self._s
        if certificate.view <= s.floor_view:
            return
        headers, outcome = s.blocks.chain(certificate, s.floor_view, s.floor_digest)
        if outcome == "fork":
            s.stop("fork", f"the Finalization of view {certificate.view} contradicts that of view {s.floor_view}")
        if outcome == "fork" or s.ended is not None:
            return
        for header in headers:
            block = s.blocks.get(header.digest)
            if block is not None and block.bad:
                s.stop("divergence", f"the finalized block of view {header.view} is invalid here: {block.bad}")
        s.floor = certificate
        s.uncertified = {view for view in s.uncertified if view > certificate.view}
        s.certified_view = max(s.certified_view, certificate.view)
        s.out.append(Finalized(certificate, tuple(headers), outcome == "complete"))
        s.rounds.prune(s.window_start)
        s.blocks.prune(certificate.view)
        s.blocks.look_again = True
        s.enter(certificate.view + 1)
        s.pace.back_off(s.streak())
        s.look_for_end()
