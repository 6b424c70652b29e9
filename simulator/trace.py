"""One run told step by step, a line each, for whoever has to understand a failed seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consensus.effects import Build, Effect, Finalized, Persist, Report, ViewEntered
from consensus.events import Event, Now
from consensus.messages import Muted, StartAnswer, StartQuery, Want
from consensus.records import BuiltBlock, Certification, HeldCertificate, MutedUntil, OwnVote
from consensus.types import Certificate, Proposal, Vote, VoteKind
from ledger.types import Ack, Batch, Statement
from node.turn import (
    AcceptedNotice,
    AlarmNotice,
    ExecutedNotice,
    FinalizedNotice,
    OriginAnswer,
    OriginQuery,
    PeerMessage,
    Penalty,
    Turn,
)
from simulator.node import Node
from simulator.witness import Witness

_VOTES = {VoteKind.NOTARIZE: "N", VoteKind.NULLIFY: "X", VoteKind.FINALIZE: "F"}
_CERTIFICATES = {
    VoteKind.NOTARIZE: "notarization",
    VoteKind.NULLIFY: "nullification",
    VoteKind.FINALIZE: "finalization",
}


class Trace(Witness):
    """Writes lines like ``  1234 ms  2 sends N 7 3f2a91c0 to all``."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def _tell(self, node: Node, text: str) -> None:
        self._write(f"{node.cluster.timeline.now_ms:7} ms  {node.index}  {text}")

    def started(self, node: Node) -> None:
        """See Witness."""
        marker = ", with the marker of a backup" if node.disk.marker else ""
        self._tell(node, f"starts, life {node.life}{marker}")

    def crashed(self, node: Node) -> None:
        """See Witness."""
        self._tell(node, f"goes down {node.died_at}".rstrip())

    def stopped_voting(self, node: Node, why: str) -> None:
        """See Witness."""
        self._tell(node, f"stops voting: {why}")

    def entered(self, node: Node) -> None:
        """See Witness."""
        if node.epoch:
            self._tell(node, f"is in epoch {node.epoch}, {node.signing}")

    def stepped(self, node: Node, event: Event, effects: Sequence[Effect], now: Now) -> None:
        """See Witness."""
        for effect in effects:
            text = _effect(effect)
            if text:
                self._tell(node, text)

    def delivered(self, node: Node, sender: int, messages: Sequence[PeerMessage]) -> None:
        """See Witness."""
        self._tell(node, f"takes from {sender}: " + "; ".join(described(message) for message in messages))

    def sent(self, node: Node, to: int | None, message: PeerMessage) -> None:
        """See Witness."""
        self._tell(node, f"sends {described(message)} to {'all' if to is None else to}")

    def turned(self, node: Node, turn: Turn) -> None:
        """See Witness."""
        for notice in turn.notices:
            match notice:
                case ExecutedNotice():
                    self._tell(node, f"executed height {notice.height}, state {notice.state_root.hex()[:8]}")
                case FinalizedNotice():
                    self._tell(node, f"stored height {notice.height} as final")
                case AcceptedNotice():
                    told = ", ".join(each.hex()[:8] for each in notice.envelope_ids)
                    self._tell(node, f"tells clients ACCEPTED: {told}")
                case AlarmNotice():
                    self._tell(node, f"alarms: {notice.kind}: {notice.text[:100]}")
        for fetch in turn.fetches:
            self._tell(node, f"asks {fetch.sources} for {type(fetch).__name__.removeprefix('Fetch').lower()}")

    def penalised(self, node: Node, penalty: Penalty) -> None:
        """See Witness."""
        self._tell(node, f"turns {penalty.peer} away: {penalty.reason}")

    def lied(self, node: Node, kind: str) -> None:
        """See Witness."""
        self._tell(node, f"lies: {kind}")


def described(message: PeerMessage) -> str:
    """A message in a few words."""
    match message:
        case Vote():
            return (
                f"{message.kind.name[0:3]} {message.view} {message.digest.hex()[:8]}".rstrip() + f" of {message.signer}"
            )
        case Certificate():
            return f"{_CERTIFICATES[message.kind]} {message.view} {message.digest.hex()[:8]}".rstrip()
        case Proposal():
            header = message.header
            return f"proposal {header.view} {header.digest.hex()[:8]} on {header.parent_view}"
        case Batch():
            origin, incarnation, sequence = message.header.position
            return f"batch {origin}/{incarnation}/{sequence} {message.header.digest.hex()[:8]}"
        case Ack():
            position = f"{message.origin}/{message.incarnation}/{message.sequence}"
            return f"ack of {message.acker} for {position} {message.digest.hex()[:8]}"
        case Want():
            return f"want {message.view}"
        case StartQuery():
            return "start query"
        case StartAnswer():
            return f"start answer {message.highest_signed_view}, {len(message.votes)} votes"
        case OriginQuery():
            return "origin query"
        case OriginAnswer():
            return f"origin answer {message.incarnation}"
        case Muted():
            return "muted"
        case Statement():
            return f"statement {message.digest.hex()[:8]}"


def _effect(effect: Effect) -> str:
    match effect:
        case ViewEntered(view, leader):
            return f"enters view {view}, leader {leader}"
        case Persist(OwnVote(vote)):
            return f"votes {_VOTES[vote.kind]} {vote.view} {vote.digest.hex()[:8]}".rstrip()
        case Persist(HeldCertificate(certificate)):
            return f"holds {described(certificate)} of {certificate.signers}"
        case Persist(Certification(_, view, digest, valid)):
            return f"{'certifies' if valid else 'REJECTS'} {digest.hex()[:8]} of view {view}"
        case Persist(BuiltBlock(_, view, digest)):
            return f"built {digest.hex()[:8]} for view {view}"
        case Persist(MutedUntil(_, view)):
            return f"is mute up to view {view}"
        case Build(view, parent):
            return f"may build view {view} on {parent.digest.hex()[:8]} of view {parent.view}"
        case Finalized(certificate, headers, complete):
            return (
                f"floor is view {certificate.view}, {len(headers)} headers, {'complete' if complete else 'with gaps'}"
            )
        case Report(evidence):
            return f"reports {type(evidence).__name__} of {evidence.culprit}"
        case _:
            return ""
