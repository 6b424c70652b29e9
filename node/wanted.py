"""Batches this node looks for, and whom it asks for them.

A batch is looked for because

    a block lists it        nothing can be said of the block without it: asked for at once
    a peer acknowledged it  it should be on its way; only the newest acknowledgement of each peer for each
                            origin counts, as it stands for all before it
    it is a gap             a batch that is held follows it; the nearest one of each origin

First two holders are asked, then everybody, D apart, each time beginning with another: the origin may have served only
a few, and whoever is asked may lie or keep us waiting. Bounds: each peer can make this node look for one acknowledged
batch of each origin, each leader for ``LISTED_MAX`` listed ones, so that nobody's inventions take another's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from consensus.events import Now
from node.turn import FetchBatches

LISTED_MAX: Final = 1024  #: of one leader: four full blocks; the rest is looked for when these are found
TRIES_MAX: Final = 30  #: then nobody has it; who still needs it says so again
DIGESTS_PER_FETCH: Final = 256  #: what one block may list; whoever is asked refuses requests far above it
_GAP: Final = ""  #: in an acker's place

Claim = tuple[str, str]
"""(acker, origin), or (_GAP, origin)."""


class _Search:
    __slots__ = ("asked_ms", "claims", "listed", "sources", "tries")

    def __init__(self, asked_ms: int) -> None:
        self.asked_ms = asked_ms
        self.tries = 0
        self.sources: set[str] = set()
        self.claims: set[Claim] = set()
        self.listed: tuple[str, ...] | None = None  #: where a block that lists it says it is; whose share it counts to


class WantedBatches:
    """See the module text.

    Args:
        others: the other validators.
        delay_ms: D.
    """

    def __init__(self, others: Sequence[str], delay_ms: int) -> None:
        self._everybody = list(others)
        self._delay_ms = delay_ms
        self._searches: dict[bytes, _Search] = {}
        self._claimed: dict[Claim, bytes] = {}
        self._shares: Counter[tuple[str, ...]] = Counter()

    def enter(self, others: Sequence[str]) -> None:
        """An epoch begins, with these other validators."""
        self._everybody = list(others)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._searches

    def is_listed(self, digest: bytes) -> bool:
        """Does a block list it?"""
        search = self._searches.get(digest)
        return search is not None and search.listed is not None

    def listed(self, digest: bytes, sources: Sequence[str], now: Now, *, at_once: bool) -> None:
        """A block lists it; ``at_once`` if it is not on its way here."""
        share = tuple(sources)
        search = self._searches.get(digest)
        if search is None or search.listed is None:
            if self._shares[share] >= LISTED_MAX:
                return
            self._shares[share] += 1
            search = self._searches.setdefault(digest, _Search(now.monotonic_ms))
            search.listed = share
            if at_once and search.tries == 0:
                search.asked_ms = now.monotonic_ms - self._delay_ms
        search.sources.update(share)

    def acknowledged(self, acker: str, origin: str, digest: bytes, now: Now) -> None:
        """A peer holds it; what that peer said of this origin before is looked for no longer on its account."""
        self._claim((acker, origin), digest, (acker,), now)

    def gap(self, origin: str, digest: bytes, sources: Sequence[str], now: Now) -> None:
        """It comes before a batch of this origin that is held."""
        self._claim((_GAP, origin), digest, sources, now)

    def _claim(self, claim: Claim, digest: bytes, sources: Sequence[str], now: Now) -> None:
        before = self._claimed.get(claim)
        if before != digest:
            if before is not None:
                self._release(before, claim)
            self._claimed[claim] = digest
            self._searches.setdefault(digest, _Search(now.monotonic_ms)).claims.add(claim)
        self._searches[digest].sources.update(sources)

    def _release(self, digest: bytes, claim: Claim) -> None:
        search = self._searches[digest]
        search.claims.discard(claim)
        if not search.claims and search.listed is None:
            del self._searches[digest]

    def unlisted(self, digest: bytes) -> None:
        """The block that lists it does not count; who else needs it says so again."""
        search = self._searches.get(digest)
        if search is None or search.listed is None:
            return
        self._unshare(search.listed)
        search.listed = None
        if not search.claims:
            del self._searches[digest]

    def _unshare(self, share: tuple[str, ...]) -> None:
        self._shares[share] -= 1
        if not self._shares[share]:
            del self._shares[share]

    def found(self, digest: bytes) -> None:
        """It is here, or nobody has it."""
        search = self._searches.pop(digest, None)
        if search is None:
            return
        for claim in search.claims:
            del self._claimed[claim]
        if search.listed is not None:
            self._unshare(search.listed)

    def due(self, now: Now) -> list[FetchBatches]:
        """Whom to ask for what now; what was asked for often enough is given up."""
        groups: dict[tuple[str, ...], list[bytes]] = {}
        for digest, search in list(self._searches.items()):
            if now.monotonic_ms < search.asked_ms + self._delay_ms:
                continue
            if search.tries >= TRIES_MAX:
                self.found(digest)
                continue
            search.asked_ms = now.monotonic_ms
            search.tries += 1
            holders = sorted(search.sources.intersection(self._everybody))[:2]
            sources = holders if search.tries == 1 and holders else self._everybody_from(search.tries)
            groups.setdefault(tuple(sources), []).append(digest)
        return [
            FetchBatches(sources, tuple(digests[at : at + DIGESTS_PER_FETCH]))
            for sources, digests in groups.items()
            for at in range(0, len(digests), DIGESTS_PER_FETCH)
        ]

    def _everybody_from(self, tries: int) -> list[str]:
        start = tries % max(1, len(self._everybody))
        return self._everybody[start:] + self._everybody[:start]

    def deadline_ms(self) -> int | None:
        """Monotonic time at which something is due."""
        return min((search.asked_ms + self._delay_ms for search in self._searches.values()), default=None)
