"""Judges the final chains of a cluster across epochs, with arithmetic of its own.

Nothing here asks ``ValidatorSet.quorum``, the core or ``ledger.epochs``: the sets are those the test scripted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consensus.types import Certificate, Header, VoteKind
from consensus.votes import vote_message
from crypto.keys import verify
from ledger import wire
from ledger.epochs import Seat
from ledger.types import Block
from tests.support.epoch_cluster import Cluster, Node


def quorum(seats: Sequence[Seat]) -> int:
    """The least number of seats of which two sets always share one that is not among the faulty."""
    n = len(seats)
    return next(q for q in range(1, n + 1) if 3 * (n - q) < n)


def check_certificate(cluster: Cluster, certificate: Certificate, seats: Sequence[Seat]) -> None:
    """Every signature is good under the seat it names, and they are a quorum of this epoch's seats."""
    message = vote_message(
        cluster.genesis.chain_id,
        certificate.kind,
        certificate.epoch,
        certificate.view,
        certificate.parent_view,
        certificate.digest,
    )
    assert len(set(certificate.signers)) == len(certificate.signers) >= quorum(seats)
    for signer, signature in zip(certificate.signers, certificate.signatures, strict=True):
        assert verify(seats[signer].consensus_key, message, signature), (certificate.epoch, signer)


def check_chain(cluster: Cluster, node: Node, sets: Mapping[int, Sequence[Seat]]) -> list[Header]:
    """One node's final chain, from the genesis or its snapshot on: every block under its epoch's own set, every epoch
    ended by the Finalization of its boundary or of tails down to it, the next one begun on it."""
    first = node.blocks.first_height()
    chain = [base(node, first - 1)]
    ended = bool(chain[0].next_valset_hash)
    for height in range(first, (node.blocks.finalized_height() or 0) + 1):
        block, parent = node.block(height), chain[-1]
        header = block.header
        assert header.parent_digest == parent.digest
        assert header.height == parent.height + 1
        assert header.timestamp_ms > parent.timestamp_ms
        assert header.epoch == parent.epoch + ended
        assert (header.parent_view == 0) == (height == 1 or ended)
        check_justification(cluster, block, sets[header.epoch])
        ended = bool(header.next_valset_hash)
        if ended or block.finalization is not None:
            check_finalization(cluster, block, sets[header.epoch])
        chain.append(header)
    return chain


def base(node: Node, height: int) -> Header:
    """The header below a node's first block."""
    if height == 0:
        return node.genesis_header
    raw = node.blocks.proposal(node.blocks.digest_at(height) or b"")
    assert raw is not None
    return wire.decode_stored_proposal(raw).header


def check_justification(cluster: Cluster, block: Block, seats: Sequence[Seat]) -> None:
    """Parent and skipped views, each by a quorum of this epoch."""
    justification = block.justification
    if justification.parent is not None:
        check_certificate(cluster, justification.parent, seats)
    skipped = range(block.header.parent_view + 1, block.header.view)
    assert [n.view for n in justification.nullifications] == list(skipped)
    for nullification in justification.nullifications:
        assert nullification.kind is VoteKind.NULLIFY
        check_certificate(cluster, nullification, seats)


def check_finalization(cluster: Cluster, block: Block, seats: Sequence[Seat]) -> None:
    """Of the block, or of the last of its tails, which repeat it and follow one another."""
    last = block.header
    for tail in block.tails:
        header = tail.header
        assert header.parent_digest == last.digest
        assert (header.height, header.timestamp_ms, header.next_valset_hash) == (
            block.header.height,
            block.header.timestamp_ms,
            b"",
        )
        last = header
    certificate = block.finalization
    assert certificate is not None
    assert (certificate.kind, certificate.digest) == (VoteKind.FINALIZE, last.digest)
    check_certificate(cluster, certificate, seats)


def check_agreement(cluster: Cluster, sets: Mapping[int, Sequence[Seat]]) -> list[Header]:
    """All nodes' chains are beginnings of one, the longest, which is returned."""
    chains = [check_chain(cluster, node, sets) for node in cluster.nodes if node.starts]
    longest = max(chains, key=len)
    for chain in chains:
        at = chain[0].height - longest[0].height
        assert at >= 0
        assert [header.digest for header in chain] == [header.digest for header in longest[at : at + len(chain)]]
    return longest
