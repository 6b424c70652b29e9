"""Nodes that serve snapshots which do not hold, each in its own way."""

from __future__ import annotations

import msgspec

from ledger import wire
from ledger.snapshot import Chunk, LeafChunk, Manifest
from ledger.snapshot_import import Log
from ledger.snapshot_making import PinnedSnapshot, SnapshotShelf
from ledger.wire.snapshots import decode_chunk, decode_manifest, encode_chunk, encode_manifest
from lossbook.v1 import peer_pb2
from node.turn import Fetch, FetchChunks, FetchSnapshot
from simulator.serving import Answer, StoredBlocks
from tests.support.cluster import Node


class SnapshotLiar(Node):
    """Flips a bit of something in every chunk; its manifest is genuine, so that it is asked for much."""

    honest = False

    def serve(self, fetch: Fetch) -> Answer:
        answer = super().serve(fetch)
        if not isinstance(fetch, FetchChunks):
            return answer
        chunks = [decode_chunk(wire.parse(peer_pb2.GetSnapshotChunksResponse, raw)) for raw in answer.chunks]
        altered = [encode_chunk(chunk).SerializeToString() for chunk in self.chunks(fetch, chunks)]
        return msgspec.structs.replace(answer, chunks=tuple(altered))

    def chunks(self, fetch: FetchChunks, chunks: list[Chunk]) -> list[Chunk]:
        """What goes out in place of genuine chunks."""
        return [self.altered(chunk) for chunk in chunks]

    def altered(self, chunk: Chunk) -> Chunk:
        """The chunk with one bit flipped."""
        if isinstance(chunk, LeafChunk):
            return msgspec.structs.replace(chunk, leaves=(flipped(chunk.leaves[0]), *chunk.leaves[1:]))
        return msgspec.structs.replace(chunk, receipts=(*chunk.receipts[:-1], flipped(chunk.receipts[-1])))


class Truncator(SnapshotLiar):
    """Leaves the last item of each chunk out."""

    def altered(self, chunk: Chunk) -> Chunk:
        if isinstance(chunk, LeafChunk):
            return msgspec.structs.replace(chunk, leaves=chunk.leaves[:-1])
        return msgspec.structs.replace(chunk, receipts=chunk.receipts[:-1])


class Shuffler(SnapshotLiar):
    """Serves genuine items in another order."""

    def altered(self, chunk: Chunk) -> Chunk:
        if isinstance(chunk, LeafChunk):
            return msgspec.structs.replace(chunk, leaves=chunk.leaves[::-1])
        return msgspec.structs.replace(chunk, receipts=chunk.receipts[::-1])


class Misplacer(SnapshotLiar):
    """Says of genuine chunks that they belong elsewhere."""

    def altered(self, chunk: Chunk) -> Chunk:
        return msgspec.structs.replace(chunk, first=chunk.first + 1)


class Disorderly(SnapshotLiar):
    """Serves genuine chunks, the last one first."""

    def chunks(self, fetch: FetchChunks, chunks: list[Chunk]) -> list[Chunk]:
        return chunks[::-1] if len(chunks) > 1 else [self.altered(chunk) for chunk in chunks]


class WrongHeight(SnapshotLiar):
    """Offers the snapshot of one height and proves its chunks under a lower one."""

    def chunks(self, fetch: FetchChunks, chunks: list[Chunk]) -> list[Chunk]:
        offered = self.shelf.find(fetch.height)
        if offered is None:
            return []
        lower = PinnedSnapshot(offered.manifest, self.state.pin(fetch.height - 3), self.state)
        if fetch.log is Log.LEAVES:
            return [lower.leaves(fetch.first, fetch.first + 1)]
        return [lower.receipts(fetch.first, fetch.first + 1)]


class Forger(SnapshotLiar):
    """Offers a snapshot with a log of its own."""

    def serve(self, fetch: Fetch) -> Answer:
        answer = Node.serve(self, fetch)
        if not isinstance(fetch, FetchSnapshot) or not answer.manifest:
            return answer
        genuine: Manifest = decode_manifest(answer.manifest)
        fields = {name: getattr(genuine, name) for name in genuine.__struct_fields__ if name != "raw"}
        return Answer(manifest=encode_manifest(**(fields | {"log_root": bytes(32)})).raw)


class Breaker(SnapshotLiar):
    """Breaks off after the first chunk, every time."""

    honest = True

    def chunks(self, fetch: FetchChunks, chunks: list[Chunk]) -> list[Chunk]:
        return chunks[:1]


class Mute(Node):
    """Offers, and never answers when it is asked for a chunk."""

    def serve(self, fetch: Fetch) -> Answer:
        return Answer(silent=True) if isinstance(fetch, FetchChunks) else super().serve(fetch)


class Dripper(SnapshotLiar):
    """Serves one genuine item at a time and breaks off."""

    honest = True

    def chunks(self, fetch: FetchChunks, chunks: list[Chunk]) -> list[Chunk]:
        offered = self.shelf.find(fetch.height)
        if offered is None:
            return []
        if fetch.log is Log.LEAVES:
            return [offered.leaves(fetch.first, fetch.first + 1)]
        return [offered.receipts(fetch.first, fetch.first + 1)]


class Garbler(SnapshotLiar):
    """Serves bytes in which nothing can be read."""

    honest = True

    def serve(self, fetch: Fetch) -> Answer:
        answer = Node.serve(self, fetch)
        return msgspec.structs.replace(answer, chunks=tuple([raw[: len(raw) // 2] + b"?" for raw in answer.chunks]))


class Stale(Node):
    """Goes on offering the first snapshot it ever had, which nobody wants any more."""

    def serve(self, fetch: Fetch) -> Answer:
        if isinstance(fetch, FetchSnapshot):
            first = self.__dict__.setdefault("first", super().serve(fetch))
            assert isinstance(first, Answer)
            return first
        return super().serve(fetch)


class Braggart(Node):
    """Offers the newest height of all, and never answers when it is asked for a chunk."""

    def serve(self, fetch: Fetch) -> Answer:
        if isinstance(fetch, FetchChunks):
            return Answer(silent=True)
        if isinstance(fetch, FetchSnapshot):
            self.shelf = SnapshotShelf(self.state, StoredBlocks(self.disk.blocks, self.state), lambda: 0.0)
        return super().serve(fetch)


def flipped(raw: bytes) -> bytes:
    """With the last bit flipped."""
    return raw[:-1] + bytes((raw[-1] ^ 1,))


LIARS: tuple[type[Node], ...] = (SnapshotLiar, Truncator, Shuffler, Misplacer, Disorderly, WrongHeight, Forger)
FAILING: tuple[type[Node], ...] = (Breaker, Mute, Dripper, Garbler, Stale, Braggart)
