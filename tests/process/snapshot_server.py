"""``lossbook`` whose snapshots come in small parts; for tests. Says what it is asked for, and lies or waits as told.

    python snapshot_server.py honest|liar|taker NAME FOLDER ...      the rest as `lossbook` takes it

``honest`` answers one request for parts, and further ones once FOLDER/open exists; ``liar`` flips a bit of every part;
``taker`` serves as everybody does. Requests for parts are written to FOLDER/asked: who, which log, from where on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec

from cli.main import main
from ledger import snapshot_making
from ledger.snapshot import LeafChunk
from ledger.snapshot_making import PinnedState
from node import snapshot_sync
from services.sync import SyncServicer

AT_ONCE: Final = 1
LOOK_S: Final = 0.02

snapshot_sync.SPAN = 8  # type: ignore[misc]
snapshot_making.CHUNK_BYTES = 2_000  # type: ignore[misc]

_mode, _name, _folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
_served = 0
_chunks, _leaves = SyncServicer.GetSnapshotChunks, PinnedState.leaves


async def _noted(self: SyncServicer, request: Any, context: Any) -> AsyncIterator[Any]:
    global _served
    with (_folder / "asked").open("a") as asked:
        asked.write(f"{_name} {request.log} {request.first}\n")
    _served += 1
    while _mode == "honest" and _served > AT_ONCE and not (_folder / "open").exists():  # noqa: ASYNC110 - a file opens it
        await asyncio.sleep(LOOK_S)
    async for chunk in _chunks(self, request, context):
        yield chunk


def _flipped(self: PinnedState, first: int, stop: int) -> LeafChunk:
    chunk = _leaves(self, first, stop)
    last = chunk.leaves[-1]
    return msgspec.structs.replace(chunk, leaves=(*chunk.leaves[:-1], last[:-1] + bytes((last[-1] ^ 1,))))


SyncServicer.GetSnapshotChunks = _noted  # type: ignore[method-assign]
if _mode == "liar":
    PinnedState.leaves = _flipped  # type: ignore[method-assign]
sys.argv = ["lossbook", *sys.argv[4:]]
main()
