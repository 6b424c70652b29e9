"""Looks at every validator once a second: how high it is, and whether two ever name different roots for one height."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from chaos.clients import Readers
from lossbook.v1.query_pb2 import GetStatusResponse
from lossbook_sdk.errors import ClientError

KEPT_HEIGHTS: Final = 2_000
"""Below the lowest validator: a status shows the last 64, so nothing older is ever compared again."""


class Seen(msgspec.Struct, frozen=True):
    """One validator's latest answer."""

    executed: int
    finalized: int
    ready: bool
    detail: dict[str, Any]
    block_time_ms: int


class Watch:
    """What was seen so far."""

    def __init__(self, readers: Readers) -> None:
        self.seen: dict[str, Seen | None] = dict.fromkeys(readers.names)
        """Latest answer; None: it did not answer when it was asked last."""
        self.compared = 0
        """Heights whose root at least two validators named."""
        self.differences: list[str] = []
        self.level_since_s: float | None = None
        """Monotonic seconds from which on all were ready and level; None: not all are."""
        self._readers = readers
        self._roots: dict[int, dict[str, bytes]] = {}

    @property
    def all_ready(self) -> bool:
        """Whether every validator answered, and does all of its work."""
        return all(seen is not None and seen.ready for seen in self.seen.values())

    @property
    def level(self) -> bool:
        """All ready, and none more than a block or two behind: answers come one after another."""
        heights = [seen.executed for seen in self.seen.values() if seen is not None]
        return self.all_ready and max(heights) - min(heights) <= 2

    async def look(self) -> None:
        """Ask all of them once."""
        await asyncio.gather(*(self._ask(name) for name in self._readers.names))
        if not self.level:
            self.level_since_s = None
        elif self.level_since_s is None:
            self.level_since_s = time.monotonic()
        heights = [seen.executed for seen in self.seen.values() if seen is not None]
        for height in [height for height in self._roots if heights and height < min(heights) - KEPT_HEIGHTS]:
            del self._roots[height]

    async def _ask(self, name: str) -> None:
        try:
            answer = await self._readers.query(name).status()
        except ClientError:
            self.seen[name] = None
            return
        detail = json.loads(answer.detail_json or "{}")
        self.seen[name] = Seen(
            answer.executed_height,
            answer.finalized_height,
            bool(detail.get("ready")),
            detail,
            answer.block_time_ms,
        )
        self._compare(name, answer)

    def _compare(self, name: str, answer: GetStatusResponse) -> None:
        for roots in answer.roots:
            known = self._roots.setdefault(roots.height, {})
            both = roots.state_root + roots.receipts_root
            for other, theirs in known.items():
                if theirs != both and len(self.differences) < 5:
                    self.differences.append(f"at height {roots.height} {name} and {other} have different roots")
            self.compared += name not in known and len(known) == 1
            known[name] = both

    def agreed(self) -> dict[int, bytes]:
        """Roots of heights that more than one validator named, and none differently."""
        return {height: next(iter(known.values())) for height, known in self._roots.items() if len(known) > 1}

    def common(self) -> tuple[int, Mapping[str, bytes]] | None:
        """The highest height whose roots all validators named, and the roots."""
        names = set(self._readers.names)
        heights = [height for height, known in self._roots.items() if set(known) == names]
        return (max(heights), self._roots[max(heights)]) if heights else None
