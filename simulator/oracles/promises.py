"""I14: what a client was told ACCEPTED becomes PROVEN, or expires by its own time; and nothing takes effect twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simulator.oracles.base import Oracle, ReceiptFact, World


class Promises(Oracle):
    """Follows every ACCEPTED envelope at every honest node."""

    name = "I14"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.accepted_ids: dict[bytes, int] = {}  #: by whom
        self.excused = 0
        self._height: dict[bytes, int] = {}  #: of the first receipt
        self._effects: dict[bytes, int] = {}  #: position of the receipt under which it took effect
        self._executed: dict[int, int] = {}
        self._certified: dict[int, int] = {}
        self._block_time: dict[int, int] = {}

    def accepted(self, node: int, envelope_ids: Sequence[bytes]) -> None:
        """See the class."""
        self.accepted_ids.update(dict.fromkeys(envelope_ids, node))

    def started(self, node: int, rewound: bool, voting: bool) -> None:
        """An origin whose disk forgot its batches is one of the f: what it promised ends by its not_after."""
        if rewound:
            forgotten = [each for each, by in self.accepted_ids.items() if by == node]
            self.excused += len(forgotten)
            for each in forgotten:
                del self.accepted_ids[each]

    def executed(self, node: int, height: int, roots: tuple[bytes, bytes], receipts: Sequence[ReceiptFact]) -> None:
        """See the class."""
        self._executed[node] = height
        header = self.world.headers.get(self.world.final.get(height, b""))
        if header is not None:
            self._block_time[node] = header.timestamp_ms
        for receipt in receipts:
            self._height.setdefault(receipt.envelope_id, height)
            if receipt.took_effect:
                first = self._effects.setdefault(receipt.envelope_id, receipt.position)
                told = f"envelope {receipt.envelope_id.hex()[:8]} took effect at {first} and at {receipt.position}"
                self.check(first == receipt.position, told)

    def certified_root(self, node: int, state_height: int) -> None:
        """See the class."""
        self._certified[node] = max(state_height, self._certified.get(node, 0))

    def proven(self, envelope_id: bytes, nodes: Sequence[int]) -> bool:
        """Whether all these nodes hold its receipt under a certified root."""
        height = self._height.get(envelope_id)
        return height is not None and all(
            min(self._certified.get(node, 0), self._executed.get(node, 0)) >= height for node in nodes
        )

    def open(self, nodes: Sequence[int], not_after: Mapping[bytes, int]) -> list[str]:
        """ACCEPTED envelopes that one of these nodes can call neither PROVEN nor EXPIRED."""
        self.checks += 1
        certified = min((self._certified.get(node, 0) for node in nodes), default=0)
        executed = min((self._executed.get(node, 0) for node in nodes), default=0)
        time_ms = min((self._block_time.get(node, 0) for node in nodes), default=0)
        settled = [
            each
            for each in self.accepted_ids
            if (each in self._height and self._height[each] <= min(certified, executed))
            or (each not in self._height and time_ms > not_after.get(each, 0))
        ]
        for each in settled:
            del self.accepted_ids[each]
        return [each.hex()[:8] for each in self.accepted_ids]
