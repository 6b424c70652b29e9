"""Whose snapshots are believed where keys of an epoch that is over were stolen: genuine and forged chains, pinned."""

from __future__ import annotations

from functools import cache

import pytest

from ledger import operations as ops
from ledger import wire
from ledger.known_epochs import KnownEpochs
from ledger.snapshot import Manifest, Snapshot, SnapshotError, verify_manifest
from ledger.snapshot_making import pin
from ledger.types import Payload
from node.snapshot_offers import Offers
from tests.support.epoch_chain import EpochChain


class Server(EpochChain):
    """A chain whose newest state can be pinned: its last block lists nothing."""

    def payload(self, height: int) -> Payload:
        """Of the block of this height."""
        return wire.encode_payload(())


@cache
def genuine() -> Server:
    """In epoch 2."""
    chain = Server()
    chain.change("one", ops.SetChange())
    chain.change("two", ops.SetChange(), tails=(0,))
    for _ in range(3):
        chain.block()
    return chain


@cache
def endless() -> Server:
    """Forged with the keys of epoch 0: it goes on, far above the genuine chain, as if it had never ended."""
    chain = Server()
    while chain.finalized_height() < genuine().finalized_height() + 20:
        chain.block()
    return chain


def manifest(chain: Server) -> Manifest:
    return pin(chain.ledger.state, chain).manifest


def stranger() -> KnownEpochs:
    return KnownEpochs.of_genesis(genuine().genesis)


def witness() -> KnownEpochs:
    """Of a node that was in all epochs of the genuine chain."""
    return verify_manifest(manifest(genuine()), stranger()).known


def offers(seen: KnownEpochs) -> Offers:
    def verified(shown: Manifest, known: KnownEpochs, seen: KnownEpochs) -> Snapshot:
        return verify_manifest(shown, known, seen=seen)

    return Offers(1, seen, verified)


def test_invalid_a_snapshot_of_an_epoch_that_was_over_to_who_has_seen_its_end() -> None:
    assert verify_manifest(manifest(endless()), stranger()).certified.epoch == 0, "to a stranger it is as good"
    with pytest.raises(SnapshotError, match="ended epoch 0 before it"):
        verify_manifest(manifest(endless()), stranger(), seen=witness())


def test_who_offers_it_to_a_witness_is_exposed_at_once() -> None:
    node = offers(witness())
    [(liar, error)] = node.take("gamma", manifest(endless()))
    assert liar == "gamma"
    assert "ended epoch 0" in str(error)
    assert node.take("alpha", manifest(genuine())) == []
    assert list(node.believed) == ["alpha"]


@pytest.mark.parametrize("order", ["gamma alpha beta", "alpha gamma beta", "alpha beta gamma"])
def test_an_epoch_that_goes_on_here_and_has_ended_there_never_go_together(order: str) -> None:
    node, exposed = offers(stranger()), list[str]()
    for peer in order.split():
        found = node.take(peer, manifest(endless() if peer == "gamma" else genuine()))
        exposed += [liar for liar, _ in found]
        if {"alpha", "gamma"} == set(node._offers):
            assert node.believed == {}, "one against one: nobody is believed"
    assert exposed == ["gamma"]
    assert set(node.believed) == {"alpha", "beta"}


def test_who_is_not_as_far_shows_the_same_history() -> None:
    """Peers in every epoch, and at the very block that ended one, with a tail or without."""
    chain, node = Server(), offers(stranger())
    chain.change("one", ops.SetChange(), tails=(0,))
    for peer in ("at the end of epoch 0", "a block on", "two blocks on"):
        assert node.take(peer, manifest(chain)) == []
        chain.block()
    chain.change("two", ops.SetChange())
    chain.block()
    assert node.take("an epoch on", manifest(chain)) == []
    assert len(node.believed) == 4
