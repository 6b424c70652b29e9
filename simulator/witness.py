"""Who watches a cluster: hooks for everything that happens in it. This one lets it pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from consensus.effects import Effect
from consensus.events import Event, Now
from node.turn import PeerMessage, Penalty, Turn

if TYPE_CHECKING:
    from simulator.node import Node


class Witness:
    """Base of all watchers; a hook may raise to end the run."""

    def started(self, node: Node) -> None:
        """The node has read its disk; its first turn comes next."""

    def reopened(self, node: Node, missing: int) -> None:
        """It opened its vote log again; so many records that were synced are not in it."""

    def rotated(self, node: Node) -> None:
        """It rewrote its vote log with what is alive."""

    def crashed(self, node: Node) -> None:
        """Its memory is gone."""

    def stopped_voting(self, node: Node, why: str) -> None:
        """Its store failed, or its vote log is damaged."""

    def entered(self, node: Node) -> None:
        """It has executed the end of an epoch, or started in one: its next turn is of the present epoch."""

    def stepping(self, node: Node, event: Event, now: Now) -> None:
        """Its core is about to take an event."""

    def stepped(self, node: Node, event: Event, effects: Sequence[Effect], now: Now) -> None:
        """Its core took an event."""

    def delivered(self, node: Node, sender: int, messages: Sequence[PeerMessage]) -> None:
        """Messages are handed to its validator."""

    def sent(self, node: Node, to: int | None, message: PeerMessage) -> None:
        """A message leaves it (None: to all others)."""

    def turned(self, node: Node, turn: Turn) -> None:
        """A turn was carried out, down to its last send."""

    def penalised(self, node: Node, penalty: Penalty) -> None:
        """It does not listen to a peer for a while."""

    def lied(self, node: Node, kind: str) -> None:
        """A Byzantine node did what no honest node does."""


class Both(Witness):
    """Several witnesses, told in order; each hook goes only to those who listen to it."""

    def __init__(self, witnesses: Sequence[Witness]) -> None:
        for hook in HOOKS:
            base = getattr(Witness, hook)
            listeners = [getattr(each, hook) for each in witnesses if getattr(type(each), hook) is not base]
            setattr(self, hook, _to_all(listeners))


def _to_all(listeners: Sequence[Callable[..., None]]) -> Callable[..., None]:
    if len(listeners) == 1:
        return listeners[0]

    def tell(*facts: object) -> None:
        for listener in listeners:
            listener(*facts)

    return tell


HOOKS: Final = tuple(name for name in vars(Witness) if not name.startswith("_"))
