"""Catching up by a snapshot: whom to ask for which part, what to believe, and when it is complete. Pure.

Driven by finality alone, as backfill is (consensus.md §6, third mechanism), and begun only where backfill would take
too long, or nobody has the blocks any more:

    ask       every peer for its newest snapshot; each manifest is verified before it counts. Blocks wait for f + 1
              answers, for a moment; a snapshot that fewer show waits longer, unless all others have failed
    far?      a certified height that f + 1 of them can serve is too far above the own one (``Far``): begin; otherwise
              blocks do
    fetch     spans of leaves, then of receipts, of several peers at a time, each proved under the manifest of the
              peer that serves it; proved chunks go to the store in order
    done      everything below the highest offered height is there: the driver installs it (``Turn.install``)

A peer whose manifest or chunk does not hold loses its place in this fetch, is penalised, and its span goes to another.
One that fails or is slow, or brings next to nothing, is asked last; one that fails again and again is left out. Once
f + 1 show another history than the one that comes in, all of that is fetched again; because f + 1 can serve the height,
nobody is waited for who boasts of a newer one. Without anybody left the fetch is given up, what has come in stays, and
backfill goes on; it is tried again later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from consensus.events import Now
from ledger.known_epochs import KnownEpochs
from ledger.ports import ImportStore
from ledger.snapshot import Chunk, LeafChunk, Snapshot, SnapshotError, verify_leaves, verify_receipts
from ledger.snapshot_import import Importer, Log
from node.snapshot_offers import Offers, VerifyManifest, conflict
from node.turn import ChunkFetched, FetchChunks, FetchFailed, FetchSnapshot, Penalty, SnapshotOffered, Turn

SPAN: Final = 16_384
"""Leaves or receipts asked for at once: eight twigs, some four megabytes."""

PARALLEL_MAX: Final = 4
"""Peers asked at a time: more would not be faster than this node's own hashing."""

AHEAD_BYTES_MAX: Final = 64 << 20
"""Proved chunks that wait for one before them; above, only that one is asked for."""

DECIDE: Final = 2
"""Times D that blocks wait for an answer."""

PATIENCE: Final = 10
"""Times D that a snapshot which fewer than f + 1 show waits for the others: whoever answers first, alone, may lie."""

ASK_AGAIN: Final = 20
"""Times D until the peers are asked for snapshots again; during a fetch, too: they keep each one for a while only."""

STALL: Final = 40
"""Times D for a span, until what is left of it goes to another."""

ENOUGH: Final = 8
"""A peer that brought less than this part of a span, and less than ENOUGH_BYTES, has failed: bytes are no progress."""

ENOUGH_BYTES: Final = 256 << 10

REST: Final = 60
"""Times D until a fetch that was given up is tried again."""


class Far(msgspec.Struct, frozen=True):
    """When a snapshot is worth more than blocks; either suffices."""

    blocks: int
    """Heights behind."""
    writes: int
    """Leaves of the state log behind."""


class _Span:
    """A request under way."""

    __slots__ = ("fetch", "next", "offer", "size", "until_ms")

    def __init__(self, fetch: FetchChunks, offer: Snapshot, until_ms: int) -> None:
        self.fetch = fetch
        self.offer = offer  #: under which it is proved, whatever the peer offers meanwhile
        self.next = fetch.first
        self.size = 0  #: bytes that came
        self.until_ms = until_ms

    @property
    def failed(self) -> bool:
        """Next to nothing came."""
        came = self.next - self.fetch.first
        return came * ENOUGH < self.fetch.stop - self.fetch.first and self.size < ENOUGH_BYTES

    @property
    def rest(self) -> tuple[Log, int, int]:
        return self.fetch.log, self.next, self.fetch.stop


class SnapshotSync:
    """See the module text.

    Args:
        peers: organisations of the other validators.
        store: where the snapshot goes; written by the driver only.
        seen: the epochs that this node has been in, or could have been, from the genesis on.
        verify: checks manifests.
        delay_ms: D.
        far: when a snapshot is worth more than blocks.
    """

    def __init__(
        self,
        *,
        peers: Iterable[str],
        store: ImportStore,
        seen: KnownEpochs,
        verify: VerifyManifest,
        delay_ms: int,
        far: Far,
    ) -> None:
        self._peers = tuple(peers)
        self._store = store
        self._offers = Offers(_faulty_max(self._peers), seen, verify)
        self._delay_ms = delay_ms
        self._far = far
        self._asked: set[str] = set()  #: for a snapshot, without an answer yet
        self._ask_at_ms: int | None = None  #: peers are asked for snapshots again
        self._rest_until_ms = 0
        self._height = 0  #: own final height
        self._gone = False  #: nobody has the blocks
        self._taken: dict[bytes, Snapshot] = {}  #: what rows were fetched for or from: the highest of each epoch start
        self._refuted = False  #: stored rows are of a history that is not the network's
        self._reset()

    def _reset(self) -> None:
        self._importer: Importer | None = None
        self._offers.strikes.clear()
        self._late: Counter[str] = Counter()  #: spans not finished in time since the last one that was, by peer
        self._under_way: dict[str, _Span] = {}
        self._returned: list[tuple[Log, int, int]] = []
        self._assigned: dict[Log, int] = {}
        self._ready: dict[tuple[Log, int], tuple[Sequence[bytes], Sequence[bytes], int]] = {}
        self._ready_bytes = 0
        self.complete = False

    def enter(self, peers: Iterable[str], seen: KnownEpochs) -> None:
        """An epoch begins; these are the other validators, and these the epochs that this node has been in."""
        self._peers = tuple(peers)
        self._offers.enter(_faulty_max(self._peers), seen)

    # -- what the validator asks -------------------------------------------------------------

    @property
    def fetching(self) -> bool:
        """A snapshot comes in: blocks need not be fetched."""
        return self._importer is not None

    @property
    def progress(self) -> dict[str, int] | None:
        """How far the snapshot is, for the operator; None where none comes in."""
        importer = self._importer
        if importer is None:
            return None
        found = {"height": importer.snapshot.height}
        for log, wanted in importer.wanted.items():
            found |= {log.name.lower(): importer.held[log], f"{log.name.lower()}_wanted": wanted}
        return found

    def deadline_ms(self, now: Now) -> int | None:
        """When peers have to be asked again, or one is not waited for any longer."""
        if self.complete:
            return None
        times = [span.until_ms for span in self._under_way.values()]
        if not self.fetching:
            ends = (self._answers_by_ms(DECIDE), self._answers_by_ms(PATIENCE))
            times += [end for end in ends if end is not None and now.monotonic_ms < end]
        if self._ask_at_ms is not None:
            times.append(self._ask_at_ms)
        return min(times, default=None)

    # -- deciding ----------------------------------------------------------------------------

    def deciding(self, now: Now) -> bool:
        """Blocks shall wait: whether this node is far behind will be known in a moment."""
        return self._awaits_answers(DECIDE, now)

    def _awaits_answers(self, times: int, now: Now) -> bool:
        end = self._answers_by_ms(times)
        return end is not None and now.monotonic_ms < end

    def _answers_by_ms(self, times: int) -> int | None:
        """So many D after peers were asked; None where enough have answered, or nobody is left who may."""
        if self._ask_at_ms is None or self._offers.enough or not self._asked:
            return None
        return self._ask_at_ms - (ASK_AGAIN - times) * self._delay_ms

    def behind(self, height: int, *, gone: bool, now: Now, turn: Turn) -> None:
        """Blocks above this height are missing; ``gone``: nobody has them."""
        self._height, self._gone = height, gone
        if self.fetching or now.monotonic_ms < self._rest_until_ms:
            return
        self._consider(now, turn)
        if self._ask_at_ms is None or now.monotonic_ms >= self._ask_at_ms:
            self._offers.strikes.clear()
            self._ask(self._peers, now, turn)

    def level(self) -> None:
        """Nothing is missing."""
        if not self.fetching:
            self._ask_at_ms = None
            self._offers.clear()

    def _ask(self, peers: Iterable[str], now: Now, turn: Turn) -> None:
        self._ask_at_ms = now.monotonic_ms + ASK_AGAIN * self._delay_ms
        for peer in peers:
            if self._offers.is_listened_to(peer):
                self._asked.add(peer)
                turn.fetches.append(FetchSnapshot((peer,)))

    def on_offered(self, item: SnapshotOffered, now: Now, turn: Turn) -> None:
        """A manifest arrived: it is certified, or its sender is a liar."""
        self._asked.discard(item.sender)
        for liar, error in self._offers.take(item.sender, item.manifest):
            self._penalise(liar, error, turn)
        if not self.complete and any(self._offers.refutes(taken) for taken in self._taken.values()):
            self._reset()
            self._refuted = True
        self._consider(now, turn)
        self._assign(now, turn)

    def _consider(self, now: Now, turn: Turn) -> None:
        """Begin, if enough peers have answered, or were given the time to, and what they can serve is far ahead."""
        if self.fetching or self._awaits_answers(PATIENCE, now) or now.monotonic_ms < self._rest_until_ms:
            return
        snapshot = self._offers.reachable
        if snapshot is not None and self._is_far(snapshot):
            self._begin(snapshot, turn)

    def _is_far(self, snapshot: Snapshot) -> bool:
        blocks = snapshot.height - self._height
        executed = self._store.executed_height()
        head = self._store.height_record(executed) if executed is not None else None
        writes = snapshot.record.leaf_count - (head.leaf_count if head is not None else 0)
        return blocks > 0 and (self._gone or blocks > self._far.blocks or writes > self._far.writes)

    def _begin(self, snapshot: Snapshot, turn: Turn) -> None:
        anew = self._refuted or not self._goes_with_taken(snapshot)
        if anew:
            self._taken.clear()
            self._refuted = False
        self._importer = Importer(self._store, snapshot, anew=anew)
        self._note(snapshot)
        self._assigned = dict(self._importer.held)
        turn.import_rows.append(self._importer.retarget())

    # -- fetching ----------------------------------------------------------------------------

    def settle(self, now: Now, turn: Turn) -> None:
        """End of a turn: nobody is waited for for ever."""
        if not self.fetching or self.complete:
            return
        if self._ask_at_ms is not None and now.monotonic_ms >= self._ask_at_ms:
            self._asked.clear()
            self._ask(self._peers, now, turn)
        for peer, span in list(self._under_way.items()):
            if now.monotonic_ms >= span.until_ms:
                self._offers.strikes[peer] += span.failed
                self._late[peer] += 1
                self._take_back(peer)
        self._assign(now, turn)

    def _assign(self, now: Now, turn: Turn) -> None:
        """Give every peer that can serve something a span; without any, give up."""
        importer = self._importer
        if importer is None or self.complete:
            return
        self._settle_for_less(importer, turn)
        if importer.complete and not self._goes_on(importer, turn):
            self.complete = turn.install = True
            return
        for peer, offer in self._usable():
            if len(self._under_way) >= PARALLEL_MAX:
                return
            if any(self._failures(busy) < self._failures(peer) for busy in self._under_way):
                return  # who failed, or was late, has to wait until the others have nothing more to do
            span = self._next_span(importer, offer)
            if span is not None:
                fetch = FetchChunks((peer,), offer.height, *span)
                self._under_way[peer] = _Span(fetch, offer, now.monotonic_ms + STALL * self._delay_ms)
                turn.fetches.append(fetch)
        if not self._under_way and not self._asked:
            self._give_up(now)

    def _settle_for_less(self, importer: Importer, turn: Turn) -> None:
        """A height that too few can serve, now that some have failed, is not waited for."""
        reachable = self._reachable
        if reachable is not None and self._height < reachable.height < importer.snapshot.height:
            self._retarget(importer, reachable, turn)

    @property
    def _reachable(self) -> Snapshot | None:
        """What enough can serve now, if it is of the history that comes in."""
        found = self._offers.reachable
        return found if found is not None and self._goes_with_taken(found) else None

    def _goes_with_taken(self, offer: Snapshot) -> bool:
        return not any(conflict(offer, taken) for taken in self._taken.values())

    def _note(self, offer: Snapshot) -> None:
        """Rows are of its history. A low goal goes with two histories that part above it; who brought rows does not."""
        start = offer.known.latest.genesis.digest
        before = self._taken.get(start)
        if before is None or offer.certified.height > before.certified.height:
            self._taken[start] = offer

    def _retarget(self, importer: Importer, snapshot: Snapshot, turn: Turn) -> None:
        importer.snapshot = snapshot
        self._note(snapshot)
        turn.import_rows.append(importer.retarget())

    def _usable(self) -> list[tuple[str, Snapshot]]:
        """Peers with nothing to do and an offer of the history that comes in, the most reliable first."""
        free = [
            (peer, offer)
            for peer, offer in self._offers.believed.items()
            if peer not in self._under_way and self._goes_with_taken(offer)
        ]
        return sorted(free, key=lambda each: (self._failures(each[0]), each[0]))

    def _failures(self, peer: str) -> tuple[int, int]:
        """Who has less is asked first: to be late costs a place even where much came, for it costs time."""
        return self._late[peer], self._offers.strikes[peer]

    def _next_span(self, importer: Importer, offer: Snapshot) -> tuple[Log, int, int] | None:
        """The lowest missing span that the offer has; None where it has nothing, or enough waits already."""
        offered = {Log.LEAVES: offer.record.leaf_count, Log.RECEIPTS: offer.record.receipt_count}
        for log, wanted in importer.wanted.items():
            returned = min((span for span in self._returned if span[0] is log), default=None)
            if returned is not None:
                self._returned.remove(returned)
                first, stop = returned[1:]
            else:
                first = self._assigned[log]
                stop = min((first // SPAN + 1) * SPAN, wanted)
            end = min(stop, offered[log])
            waits = self._ready_bytes > AHEAD_BYTES_MAX and first != importer.held[log]
            if first >= end or waits:
                if returned is not None:
                    self._returned.append(returned)
                continue
            if returned is None:
                self._assigned[log] = end
            elif end < stop:
                self._returned.append((log, end, stop))
            return log, first, end
        return None

    def on_chunk(self, item: ChunkFetched, now: Now, turn: Turn) -> None:
        """The next part of what a peer was asked for; stored once all before it is."""
        span, importer, chunk = self._under_way.get(item.sender), self._importer, item.chunk
        if span is None or importer is None or span.fetch is not item.fetch:
            return  # of a fetch that is over
        log, first, _ = span.rest
        try:
            items, hashes = self._prove(item.chunk, span)
        except SnapshotError as error:
            self._offers.expose(item.sender)
            self._penalise(item.sender, error, turn)
            self._assign(now, turn)
            return
        self._note(span.offer)
        size = sum(len(each) for each in items)
        span.size += size
        self._ready[log, first] = (items, hashes, size)
        self._ready_bytes += size
        self._store_ready(importer, log, turn)
        span.next = chunk.first + len(items)
        if span.next == span.fetch.stop:
            del self._under_way[item.sender]
            del self._offers.strikes[item.sender], self._late[item.sender]
        self._assign(now, turn)

    @staticmethod
    def _prove(chunk: Chunk, span: _Span) -> tuple[Sequence[bytes], Sequence[bytes]]:
        log, first, stop = span.rest
        items = chunk.leaves if isinstance(chunk, LeafChunk) else chunk.receipts
        if isinstance(chunk, LeafChunk) != (log is Log.LEAVES) or chunk.first != first or first + len(items) > stop:
            raise SnapshotError(f"{log.name.lower()} from {first}", "something else was served")
        if isinstance(chunk, LeafChunk):
            return items, verify_leaves(chunk, span.offer)
        return items, verify_receipts(chunk, span.offer)

    def _store_ready(self, importer: Importer, log: Log, turn: Turn) -> None:
        while (ready := self._ready.pop((log, importer.held[log]), None)) is not None:
            items, hashes, size = ready
            self._ready_bytes -= size
            turn.import_rows.append(importer.take(log, items, hashes))

    def on_failed(self, item: FetchFailed, now: Now, turn: Turn) -> None:
        """A peer did not answer, or broke off: its span goes to another, its snapshot may have given way to a newer."""
        peer = item.sender
        if isinstance(item.fetch, FetchSnapshot):
            self._asked.discard(peer)
            self._offers.strikes[peer] += 1
        elif isinstance(item.fetch, FetchChunks):
            span = self._under_way.get(peer)
            if span is None or span.fetch is not item.fetch:
                return
            self._take_back(peer)
            self._offers.strikes[peer] += span.failed
            if span.next == span.fetch.first and self._offers.of(peer) is span.offer:
                self._offers.drop(peer)  # it may have given way to a newer one
                self._ask((peer,), now, turn)
        self._assign(now, turn)

    # -- the end -----------------------------------------------------------------------------

    def _goes_on(self, importer: Importer, turn: Turn) -> bool:
        """Everything is there; but if a much newer height was offered meanwhile, only the rest of that is missing."""
        newest = self._reachable
        if newest is None:
            return False
        grown = newest.record.leaf_count - importer.snapshot.record.leaf_count
        if newest.height - importer.snapshot.height <= self._far.blocks and grown <= self._far.writes:
            return False
        self._retarget(importer, newest, turn)
        return not importer.complete

    def _penalise(self, peer: str, error: SnapshotError, turn: Turn) -> None:
        self._take_back(peer)
        turn.penalties.append(Penalty(peer, f"served a snapshot that does not hold: {error}"))

    def _take_back(self, peer: str) -> None:
        span = self._under_way.pop(peer, None)
        if span is not None:
            self._returned.append(span.rest)

    def _give_up(self, now: Now) -> None:
        """Nobody is left: what is stored stays, and counts when it is tried again."""
        self._rest_until_ms = now.monotonic_ms + REST * self._delay_ms
        self._ask_at_ms = None
        self._offers.clear()
        self._reset()


def _faulty_max(peers: Sequence[str]) -> int:
    """f of a node and its peers."""
    return len(peers) // 3
