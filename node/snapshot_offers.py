"""Which snapshots peers offer, whom of them to believe, and which height to go for. Pure.

An offer is a manifest that was verified: what it shows is certified on this network. Two things remain to be judged:

    height     one that f + 1 peers can serve, so that one of them is honest: nobody is waited for who boasts
    history    certified by keys of an epoch that is over, a second one looks as good as the first to a stranger, if
               those keys were stolen. Offers of two histories never go together: the one that more peers show is
               believed, none where as many show the other, and who shows another than f + 1 lies
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from ledger.known_epochs import KnownEpochs
from ledger.proof_types import HandOver
from ledger.snapshot import Manifest, Snapshot, SnapshotError

STRIKES_MAX: Final = 3
"""Failures in a row after which a peer is left out of this fetch."""

VerifyManifest = Callable[[Manifest, KnownEpochs, KnownEpochs], Snapshot]
"""What a manifest shows to be certified, to whoever knows the first epochs and has seen the second; SnapshotError."""


class Offers:
    """See the module text.

    Args:
        faulty_max: f of this node and its peers.
        seen: the epochs that this node has been in, or could have been, from the genesis on.
        verify: see ``VerifyManifest``.
    """

    def __init__(self, faulty_max: int, seen: KnownEpochs, verify: VerifyManifest) -> None:
        self.faulty_max = faulty_max
        self.strikes: Counter[str] = Counter()
        """Failures in a row, by peer."""
        self._seen = seen
        self._verify = verify
        self._offers: dict[str, Snapshot] = {}
        self._liars: set[str] = set()
        self._shown: tuple[HandOver, ...] = ()  #: hand-overs that were verified
        first = {seen.first_epoch: seen.starts[seen.first_epoch]}
        self._known = self._genesis = msgspec.structs.replace(seen, starts=first)  #: what they lead to

    def enter(self, faulty_max: int, seen: KnownEpochs) -> None:
        """An epoch begins; arguments as above."""
        self.faulty_max = faulty_max
        self._seen = seen

    @property
    def enough(self) -> bool:
        """More peers have offered than can lie."""
        return len(self._offers) > self.faulty_max

    def of(self, peer: str) -> Snapshot | None:
        """What a peer offers now."""
        return self._offers.get(peer)

    def is_listened_to(self, peer: str) -> bool:
        """Neither found lying nor left out of this fetch."""
        return peer not in self._liars and self.strikes[peer] < STRIKES_MAX

    def take(self, peer: str, manifest: Manifest) -> list[tuple[str, SnapshotError]]:
        """A peer's newest offer; who is found lying by it, this one or another."""
        if peer in self._liars:
            return []
        hand_overs = manifest.header.hand_overs
        same = hand_overs[: len(self._shown)] == self._shown  # byte for byte: need not be verified again
        try:
            snapshot = self._verify(manifest, self._known if same else self._genesis, self._seen)
        except SnapshotError as error:
            self.expose(peer)
            return [(peer, error)]
        self._shown, self._known = hand_overs, snapshot.known
        self._offers[peer] = snapshot
        second = SnapshotError("manifest", "it shows another history than more others do")
        found = [(each, second) for each, offer in self._offers.items() if self.refutes(offer)]
        for each, _ in found:
            self.expose(each)
        return found

    def expose(self, peer: str) -> None:
        """It lied: nothing of it is believed any more, in this run."""
        self._liars.add(peer)
        self.drop(peer)

    def drop(self, peer: str) -> None:
        """It does not serve what it offered."""
        self._offers.pop(peer, None)

    def clear(self) -> None:
        """All are out of date."""
        self._offers.clear()

    @property
    def reachable(self) -> Snapshot | None:
        """The newest that f + 1 peers can serve; with fewer offers, the oldest of them."""
        offers = sorted(self.believed.values(), key=lambda offer: offer.height, reverse=True)
        return offers[min(self.faulty_max, len(offers) - 1)] if offers else None

    @property
    def believed(self) -> dict[str, Snapshot]:
        """Offers of one history, of peers that are listened to."""
        offers = {peer: offer for peer, offer in self._offers.items() if self.is_listened_to(peer)}
        showing = {peer: self._showing(offer) for peer, offer in offers.items()}
        return {
            peer: offer
            for peer, offer in offers.items()
            if all(showing[peer] > showing[other] for other, rival in offers.items() if conflict(offer, rival))
        }

    def _showing(self, offer: Snapshot) -> int:
        """How many peers offer what goes together with this."""
        return sum(not conflict(offer, other) for other in self._offers.values())

    def refutes(self, offer: Snapshot) -> bool:
        """More than f peers, and more than show the history of this one, show another."""
        rivals = [other for other in self._offers.values() if conflict(offer, other)]
        most = max((self._showing(rival) for rival in rivals), default=0)
        return most > max(self.faulty_max, self._showing(offer))


def conflict(one: Snapshot, other: Snapshot) -> bool:
    """Whether an epoch ended with one block here, with another there, or goes on here after its end there."""
    starts = other.known.starts
    return (
        _goes_on_after(one, other)
        or _goes_on_after(other, one)
        or any(
            epoch in starts and start.genesis.digest != starts[epoch].genesis.digest
            for epoch, start in one.known.starts.items()
        )
    )


def _goes_on_after(one: Snapshot, other: Snapshot) -> bool:
    return other.known.end_before(one.certified) is not None
