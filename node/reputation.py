"""What a peer's offences cost it: it is not listened to for a while, each time for longer.

Pure. An offence is a message that no honest node sends. The first costs ``IGNORED_S``, each further one twice as much,
up to ``IGNORED_S_MAX``; after ``FORGIVEN_S`` without any, one is forgiven. Never for ever: a node with a mended disk or
the right version has to come back by itself, as its vote may be the one that a quorum needs.

A single duplicate, or a message about a view long past or far ahead, is no offence: honest nodes repeat themselves, lag
and run ahead. It costs little and is forgotten at once. Very many of them are one (``Patience``).
"""

from __future__ import annotations

from typing import Final

import msgspec

IGNORED_S: Final = 10.0
IGNORED_S_MAX: Final = 300.0
"""A peer that never stops costs this node one message and one signature check in so many seconds."""
FORGIVEN_S: Final = 600.0

MESSAGES_PER_S: Final = 5_000
"""For as long as it likes; honest nodes under full load send some hundreds, acknowledgements included."""
MESSAGES_BURST: Final = 500_000
"""At once: what a full queue of 32 MiB may hold for a node that was stopped for a while, all of it small votes."""


class Patience:
    """How many messages of one peer are read, whatever is in them: a bucket that fills with each and leaks."""

    def __init__(self) -> None:
        self._level = 0.0
        self._last_s = 0.0

    def lasts(self, count: int, now_s: float) -> bool:
        """Whether so many more are within what an honest node sends; once it is not, counting begins anew."""
        self._level = max(0.0, self._level - (now_s - self._last_s) * MESSAGES_PER_S) + count
        self._last_s = now_s
        if self._level <= MESSAGES_BURST:
            return True
        self._level = 0.0
        return False


class Standing(msgspec.Struct, frozen=True):
    """How a peer stands now."""

    offences: int = 0
    """Since the start."""
    reason: str = ""
    """Of the last one."""
    ignored_s: int = 0
    """It is not listened to for so many seconds more, rounded up."""


class Reputation:
    """Of one peer. Times are monotonic seconds, handed in."""

    def __init__(self) -> None:
        self._offences = 0
        self._held_against = 0
        self._reason = ""
        self._last_s = 0.0
        self._ignored_until_s = 0.0

    def offence(self, reason: str, now_s: float) -> float:
        """Note one; for how many seconds the peer is not listened to."""
        forgiven = int((now_s - self._last_s) / FORGIVEN_S)
        self._held_against = max(0, self._held_against - forgiven) + 1
        self._offences += 1
        self._reason = reason
        self._last_s = now_s
        seconds = min(IGNORED_S * 2.0 ** (self._held_against - 1), IGNORED_S_MAX)
        self._ignored_until_s = now_s + seconds
        return seconds

    def is_ignored(self, now_s: float) -> bool:
        """Whether the peer is not listened to now."""
        return now_s < self._ignored_until_s

    def standing(self, now_s: float) -> Standing:
        """For status and metrics."""
        return Standing(self._offences, self._reason, -int(min(0.0, now_s - self._ignored_until_s) // 1))
