"""Following sources whose ledger keys were replaced while this replica was away.

A replica dials by the cards of its own state. Where a source does not let itself be followed under that authority, its
present card is asked for (``services.introduction``); once it is proved, the source is followed under it, until own
execution has come as far as the state that has the card.

What a source serves is verified whoever it is. Whose it is decides who is blamed for a forgery, and who learns what
this replica asks for.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from ledger.checkpoints import Checkpoint
from ledger.genesis import Genesis
from ledger.header_chain import EpochStart
from ledger.known_epochs import KnownEpochs
from ledger.types import Block
from replica.execute import ReplicaExecutor
from replica.sources import Source
from services.identity import Identity
from services.introduction import Introduced, NotIntroduced
from services.logs import get_logger
from services.subscription import FeedLost, ServerHeartbeat, subscribe

ASK_AGAIN_S: Final = 60.0
"""A source that cannot be followed is mostly down: its card is asked for at most so often."""

_log = get_logger("introductions")

Introduce = Callable[[Source], Awaitable[Introduced]]


def known_epochs(genesis: Genesis, executor: ReplicaExecutor, pin: Checkpoint | None) -> KnownEpochs:
    """What a card is proved from: own epochs, nothing below own last block, nothing beside the accepted checkpoint.

    Raises:
        ConflictingHistory: the checkpoint is of another history than own state.
    """
    rules = executor.epochs()
    starts = {epoch: EpochStart(each.validators, each.genesis) for epoch, each in rules.items()}
    known = KnownEpochs(genesis.chain_id, starts, first_epoch=genesis.first_epoch)
    tip = executor.tip
    if tip.height > executor.genesis_header.height:
        known = known.above(tip.height, tip.digest, starts[tip.epoch])
    if pin is not None and pin.body.height > tip.height:
        known = known.above(pin.body.height, pin.digest, pin.start)
    return known


class Introductions:
    """Authorities that are ahead of own state.

    Args:
        introduce: asks a source for its card.
        height: of own state.
        clock_s: monotonic.
    """

    def __init__(
        self, introduce: Introduce, height: Callable[[], int], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._introduce = introduce
        self._height = height
        self._clock_s = clock_s
        self._met: dict[str, Introduced] = {}
        self._again_s: dict[str, float] = {}

    def authority(self, organisation: str) -> bytes | None:
        """The TLS authority that was proved, PEM; None where own state knows as much."""
        met = self._met.get(organisation)
        if met is None or met.height <= self._height():
            return None
        return met.card.body.ca_certificate.encode()

    async def meet(self, source: Source, trusted: bytes | None) -> bool:
        """A source could not be followed: ask for its card, if that is due; whether another authority was proved.

        Args:
            trusted: the authority under which it was tried, PEM; None if none was known.
        """
        now_s = self._clock_s()
        if now_s < self._again_s.get(source.organisation, now_s):
            return False
        self._again_s[source.organisation] = now_s + ASK_AGAIN_S
        try:
            self._met[source.organisation] = await self._introduce(source)
        except NotIntroduced as error:
            _log.info("not introduced", source=source.organisation, address=source.address, reason=str(error))
            return False
        return self.authority(source.organisation) not in (None, trusted)


async def follow(
    identity: Identity,
    introductions: Introductions,
    source: Source,
    from_height: int,
    *,
    silence_s: float,
    headers_only: bool = False,
) -> AsyncGenerator[Block | ServerHeartbeat, None]:
    """As ``services.subscription.subscribe``; a source that lets nothing come is asked for its card."""
    whom = (identity, source.organisation, source.address)
    authority = introductions.authority(source.organisation)
    came = False
    try:
        events = subscribe(*whom, from_height, silence_s=silence_s, headers_only=headers_only, authority=authority)
        async with aclosing(events):
            async for event in events:
                came = True
                yield event
    except FeedLost as error:
        member = identity.members.get(source.organisation)
        trusted = authority or (member.ca_pem if member is not None else None)
        if came or not await introductions.meet(source, trusted):
            raise
        text = f"{error}; the members have replaced its ledger key: it is followed under the new one from now on"
        raise FeedLost(source.organisation, text) from error
