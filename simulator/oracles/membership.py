"""Who votes in which epoch: what the votes decided, under keys that nobody used before, for all alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256

from simulator.oracles.base import Oracle, ReceiptFact, SeatFact, World, quorum_of

_SET_TAG = b"lossbook/v1/valset\x00"


class Membership(Oracle):
    """Follows proposals and ballots by what clients sent and what receipts say, and works the next set out itself."""

    name = "set"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._proposed: dict[bytes, tuple[int, frozenset[int], frozenset[int]]] = {}
        self._ballots: dict[bytes, tuple[bytes, int]] = {}
        self._approved_by: dict[bytes, dict[int, int]] = defaultdict(dict)  #: proposal -> voter -> height
        self._ready: dict[bytes, set[bytes]] = defaultdict(set)  #: proposal -> keys whose holders are ready
        self._begun: dict[int, tuple[int, tuple[SeatFact, ...], bytes]] = {}
        self._keys: dict[bytes, tuple[int, int]] = {}  #: key -> (epoch, node) that it signs for

    def proposed(self, proposal_id: bytes, epoch: int, added: Sequence[int], removed: Sequence[int]) -> None:
        """See the class."""
        self._proposed[proposal_id] = (epoch, frozenset(added), frozenset(removed))

    def ballot(self, envelope_id: bytes, proposal_id: bytes, voter: int) -> None:
        """See the class."""
        self._ballots[envelope_id] = (proposal_id, voter)

    def ready(self, proposal_id: bytes, key: bytes) -> None:
        """See the class."""
        self._ready[proposal_id].add(key)

    def executed(self, node: int, height: int, roots: tuple[bytes, bytes], receipts: Sequence[ReceiptFact]) -> None:
        """Which ballots count."""
        for receipt in receipts:
            found = self._ballots.get(receipt.envelope_id)
            if found is not None and receipt.succeeded:
                proposal_id, voter = found
                self._approved_by[proposal_id].setdefault(voter, height)

    def epoch(self, node: int, epoch: int, first_height: int, seats: Sequence[SeatFact], proposal_id: bytes) -> None:
        """See the class."""
        told, said = f"epoch {epoch} as node {node} begins it", (first_height, tuple(seats), proposal_id)
        if epoch in self._begun:
            self.check(self._begun[epoch] == said, f"{told} is not as others have it")
            return
        self._begun[epoch] = said
        self.check(epoch == 0 or epoch - 1 in self.world.sets, f"{told} follows none")
        self.check(self.world.sets[epoch] == tuple(seat.node for seat in seats), f"{told} has other members")
        self._check_keys(epoch, seats, proposal_id, told)
        self._check_votes(epoch, first_height, seats, proposal_id, told)
        boundary = self.world.headers.get(self.world.final.get(first_height - 1, b""))
        if boundary is not None:
            self.check(boundary.next_set == _hash_of(epoch, seats), f"{told} is not the set that its boundary names")

    def _check_keys(self, epoch: int, seats: Sequence[SeatFact], proposal_id: bytes, told: str) -> None:
        able = [seat for seat in seats if seat.key]
        ready = [seat for seat in able if seat.key in self._ready[proposal_id]]
        self.check(len(ready) >= quorum_of(len(seats)), f"{told}: only {len(ready)} of {len(seats)} are ready")
        for seat in able:
            whose = self._keys.setdefault(seat.key, (epoch, seat.node))
            self.check(whose == (epoch, seat.node), f"{told}: node {seat.node} signs with the key of {whose}")

    def _check_votes(
        self, epoch: int, first_height: int, seats: Sequence[SeatFact], proposal_id: bytes, told: str
    ) -> None:
        made_in, added, removed = self._proposed.get(proposal_id, (-1, frozenset(), frozenset()))
        self.check(made_in == epoch - 1, f"{told}: nobody proposed it in the epoch before")
        before = self.world.sets[epoch - 1]
        self.check({seat.node for seat in seats} == (set(before) - removed) | added, f"{told}: not what was proposed")
        names = [seat.organisation for seat in seats]
        self.check(names == sorted(names), f"{told}: members out of order")
        voters = {at for at, height in self._approved_by[proposal_id].items() if at in before and height < first_height}
        self.check(3 * len(voters) > 2 * len(before), f"{told}: {len(voters)} of {len(before)} voted for it")


def _hash_of(epoch: int, seats: Sequence[SeatFact]) -> bytes:
    parts = [_SET_TAG, epoch.to_bytes(8, "big"), len(seats).to_bytes(4, "big")]
    for seat in seats:
        name = seat.organisation.encode()
        parts += [bytes([len(name)]), name, seat.key or bytes(32)]
    return sha256(b"".join(parts)).digest()
