"""What Byzantine validators share: a real core to follow the protocol with, and a key that signs anything."""

from __future__ import annotations

from consensus.messages import Message
from consensus.types import Header, Vote, VoteKind
from tests.unit.consensus.cluster import Node
from tests.unit.consensus.support import vote_for


class Liar(Node):
    """A validator whose core never notices what is signed behind its back."""

    honest = False

    def start(self) -> None:
        super().start()
        self.running._tally.notice_own = lambda vote, found: None  # type: ignore[method-assign]

    def forge(self, kind: VoteKind, view: int, header: Header | None = None) -> Vote:
        """Any vote, by the own key."""
        parent_view, digest = (header.parent_view, header.digest) if header is not None else (0, b"")
        return vote_for(kind, view, self.index, parent_view, digest, self.cluster.validators)

    def whisper(self, to: int, *messages: Message) -> None:
        """Send to one validator only."""
        for message in messages:
            self.cluster.transmit(self.index, to, message)

    @property
    def others(self) -> list[int]:
        return [node.index for node in self.cluster.nodes if node.index != self.index]
