"""When the card of an organisation whose node is in use has to be proved again. Pure; seconds of one's own clock.

Whoever holds a stolen ledger key answers every call as well as its owner, also after the members have put another key
on the card. So no connection is relied on because it works: with an answer that comes ``CARD_AGAIN_S`` or more after
the card was last asked for, or after news of another epoch, a proof of the card is asked for before the answer is
believed, and only one of a state that is at most ``CARD_RECENT_S`` old settles it (``nodes.Nodes.believable``). A
thief can keep such a proof back, not make one.

Hence the bound: a key that was rotated under a certified root at time T is believed by nobody at T + ``CARD_AGAIN_S``
+ ``CARD_RECENT_S`` or later, if some node of the profile proves a recent state to him. Where none does (the network
stands still, or the thief's node is the only one he reaches) he goes on with what he knows, and asks again.
"""

from __future__ import annotations

from typing import Final

CARD_AGAIN_S: Final = 60.0
"""A card is asked for at most so often: one proved record of some ten kilobytes, beside an answer."""

CARD_RECENT_S: Final = 60.0
"""An idle network makes a block every ten seconds (``heartbeat_ms``); clocks differ by less than the rest."""


class CardWatch:
    """When each organisation's card was asked for last."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[float, int]] = {}

    def due(self, organisation: str, epoch: int, now_s: float) -> bool:
        """Whether it is time to ask.

        Args:
            epoch: the latest that is known.
            now_s: on the clock of ``asked``, monotonic.
        """
        asked_s, asked_epoch = self._asked.get(organisation, (0.0, -1))
        return asked_epoch != epoch or now_s - asked_s >= CARD_AGAIN_S

    def asked(self, organisation: str, epoch: int, now_s: float) -> None:
        """It is asked for now, whatever comes of it."""
        self._asked[organisation] = (now_s, epoch)
