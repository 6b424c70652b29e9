"""What Byzantine validators of the tests have in common: their keys are genuine, what they sign is up to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from consensus.types import Header, Proposal, Vote, VoteKind
from consensus.votes import vote_message
from crypto.hashing import TAG_BATCH_SIGNATURE
from ledger import wire
from ledger.types import Batch
from tests.support.cluster import Node


def forged_proposal(node: Node, proposal: Proposal, **changes: Any) -> Proposal:
    """The proposal with other header fields, and the leader's genuine vote for it."""
    known: dict[str, Any] = {each.name: getattr(proposal.header, each.name) for each in fields(Header)}
    known = {name: value for name, value in known.items() if name not in ("digest", "raw")}
    header = wire.encode_header(**(known | changes))
    chain_id = node.cluster.genesis.chain_id
    message = vote_message(chain_id, VoteKind.NOTARIZE, header.epoch, header.view, header.parent_view, header.digest)
    vote = Vote(
        VoteKind.NOTARIZE,
        header.epoch,
        header.view,
        header.parent_view,
        header.digest,
        node.index,
        node.key.sign(message),
    )
    return Proposal(header, proposal.justification, proposal.payload, vote)


def forged_batch(node: Node, batch: Batch, envelopes: Sequence[bytes], **changes: Any) -> Batch:
    """Another batch of this node's at the same position, genuinely signed."""
    old = batch.header
    known: dict[str, Any] = {
        "chain_id": old.chain_id,
        "epoch": old.epoch,
        "origin": old.origin,
        "incarnation": old.incarnation,
        "sequence": old.sequence,
        "previous": old.previous,
        "attachment_root": old.attachment_root,
    }
    header = wire.encode_batch_header(**(known | changes), envelopes=envelopes)
    signature = node.key.sign(TAG_BATCH_SIGNATURE + header)
    return wire.decode_batch(wire.encode_batch(header, signature, envelopes))
