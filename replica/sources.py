"""Which node to follow: preference, back-off and distrust, as a pure state machine.

    choose(now)      the most preferred source that may be used now; the one in use stays while it works
    failed(...)      transport trouble or silence: short back-off, doubling up to BACKOFF_MS_MAX
    lied(...)        a FeedError: distrusted for DISTRUST_MS, or until the operator trusts it again
    worked(...)      it delivered a block that verified: back-off starts anew

A node that is merely slow or down keeps its place in the order of preference; one that served something no honest
node can serve loses it. Distrust is kept on disk by the caller (``Distrust`` is the stored record), so that a restart
does not forgive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

BACKOFF_MS_MIN: Final = 500  #: a restarted node is back within a second or two
BACKOFF_MS_MAX: Final = 30_000  #: a supervisor's lag after an outage stays below a minute
DISTRUST_MS: Final = 24 * 3_600_000  #: long enough for people to talk to each other
SOURCES_MAX: Final = 64  #: one for each validator of a large network, and other replicas


class Source(msgspec.Struct, frozen=True, gc=False):
    """A node or replica that serves blocks."""

    organisation: str
    """Whose certificate it must present."""
    address: str
    """host:port."""


class Distrust(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Why a source is not asked any more."""

    organisation: str
    height: int
    """Height at which it was caught."""
    reason: str
    until_ms: int
    """Wall clock, milliseconds since the epoch."""


class _Place(msgspec.Struct):
    source: Source
    not_before_ms: int = 0
    backoff_ms: int = BACKOFF_MS_MIN
    failures: int = 0
    last_error: str = ""
    blocks: int = 0
    distrust: Distrust | None = None


class Sources:
    """The configured sources in order of preference. Times are wall-clock milliseconds, given by the caller."""

    def __init__(self, sources: Sequence[Source], distrusted: Sequence[Distrust] = ()) -> None:
        if not 1 <= len(sources) <= SOURCES_MAX:
            raise ValueError(f"{len(sources)} sources; 1 to {SOURCES_MAX} can be followed")
        if len({source.organisation for source in sources}) != len(sources):
            raise ValueError("a source is listed twice")
        self._places = [_Place(source) for source in sources]
        self._current: _Place | None = None
        remembered = {distrust.organisation: distrust for distrust in distrusted}
        for place in self._places:
            place.distrust = remembered.get(place.source.organisation)

    @property
    def current(self) -> Source | None:
        """The source in use."""
        return self._current.source if self._current else None

    def choose(self, now_ms: int) -> Source | None:
        """The source to follow now; None while every one waits (see ``next_ms``)."""
        usable = [place for place in self._places if self._ready_ms(place) <= now_ms]
        if self._current not in usable:
            self._current = usable[0] if usable else None
        return self.current

    def next_ms(self) -> int:
        """When the first of the waiting sources may be asked again."""
        return min(self._ready_ms(place) for place in self._places)

    def has_other(self, source: Source, now_ms: int) -> bool:
        """Whether another source could be followed instead."""
        places = [place for place in self._places if place.source.organisation != source.organisation]
        return any(self._ready_ms(place) <= now_ms for place in places)

    def worked(self, source: Source) -> None:
        """It delivered a block that verified."""
        place = self._place(source)
        place.backoff_ms = BACKOFF_MS_MIN
        place.failures = 0
        place.last_error = ""
        place.blocks += 1

    def learn(self, sources: Sequence[Source]) -> None:
        """These can be followed too, after those that are known; of those, addresses may have changed."""
        known = {place.source.organisation: place for place in self._places}
        for source in sources:
            place = known.get(source.organisation)
            if place is not None:
                place.source = source
            elif len(self._places) < SOURCES_MAX:
                self._places.append(_Place(source))

    def failed(self, source: Source, now_ms: int, reason: str) -> None:
        """It could not be reached, ended the stream, or fell silent."""
        place = self._place(source)
        place.failures += 1
        place.last_error = reason
        place.not_before_ms = now_ms + place.backoff_ms
        place.backoff_ms = min(place.backoff_ms * 2, BACKOFF_MS_MAX)
        if self._current is place:
            self._current = None

    def lied(self, source: Source, now_ms: int, height: int, reason: str) -> Distrust:
        """It served something forged; the record is for the caller to store."""
        place = self._place(source)
        place.distrust = Distrust(source.organisation, height, reason, now_ms + DISTRUST_MS)
        place.last_error = reason
        if self._current is place:
            self._current = None
        return place.distrust

    def status(self, now_ms: int) -> list[dict[str, object]]:
        """For people: one entry a source, in order of preference."""
        return [self._describe(place, now_ms) for place in self._places]

    def _describe(self, place: _Place, now_ms: int) -> dict[str, object]:
        entry: dict[str, object] = {
            "organisation": place.source.organisation,
            "address": place.source.address,
            "state": self._state(place, now_ms),
            "blocks": place.blocks,
        }
        if place.last_error:
            entry["last_error"] = place.last_error
        if place.distrust and place.distrust.until_ms > now_ms:
            entry["distrusted"] = {"height": place.distrust.height, "reason": place.distrust.reason}
            entry["distrusted_until_ms"] = place.distrust.until_ms
        return entry

    def _state(self, place: _Place, now_ms: int) -> str:
        if place.distrust and place.distrust.until_ms > now_ms:
            return "distrusted"
        if place is self._current:
            return "following"
        return "waiting" if place.not_before_ms > now_ms else "standby"

    @staticmethod
    def _ready_ms(place: _Place) -> int:
        return max(place.not_before_ms, place.distrust.until_ms if place.distrust else 0)

    def _place(self, source: Source) -> _Place:
        for place in self._places:
            if place.source.organisation == source.organisation:
                return place
        raise KeyError(source.organisation)
