"""The consensus core of one epoch, with the names of those it speaks to.

A core knows its peers by signer index, which holds for its epoch only; everybody else here knows organisations. Peers
without a seat (observers, those who joined or left) get numbers above, in the order in which they are met.
"""

from __future__ import annotations

from consensus.core import Core
from consensus.records import Record
from node.epoch import Epoch


class Instance:
    """A core in its epoch."""

    def __init__(self, epoch: Epoch, core: Core) -> None:
        self.epoch = epoch
        self.core = core
        self._others: list[str] = []

    @property
    def number(self) -> int:
        """Its epoch."""
        return self.epoch.number

    @property
    def signs(self) -> bool:
        """Whether this node has a seat and its key."""
        return self.epoch.own is not None

    def peer(self, organisation: str) -> int:
        """The number of a peer."""
        index = self.epoch.index(organisation)
        if index is not None:
            return index
        if organisation not in self._others:
            self._others.append(organisation)
        return self.epoch.validators.n + self._others.index(organisation)

    def organisation(self, peer: int) -> str:
        """Whose number this is."""
        n = self.epoch.validators.n
        return self.epoch.organisation(peer) if peer < n else self._others[peer - n]

    def organisations(self, peers: tuple[int, ...]) -> tuple[str, ...]:
        """Whose numbers these are."""
        return tuple([self.organisation(peer) for peer in peers])

    def live_records(self) -> list[Record]:
        """What the log has to hold of this epoch; nothing where this node signed nothing."""
        return self.core.live_records() if self.signs else []
