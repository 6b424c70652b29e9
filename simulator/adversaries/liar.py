"""What Byzantine nodes have in common: a validator that follows the protocol, and a genuine key that signs anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import msgspec

from consensus.types import Certificate, Header, Justification, Proposal, Vote, VoteKind
from consensus.votes import vote_message
from crypto.hashing import TAG_BATCH_SIGNATURE
from ledger import wire
from ledger.acks import ack_message
from ledger.types import Ack, Batch
from node.instance import Instance
from node.turn import PeerMessage
from simulator.node import START_AGAIN_MS, Node, Send


class Liar(Node):
    """Its own validator never notices what is signed behind its back; if that breaks it, it starts again."""

    honest = False

    def _observe(self, instance: Instance) -> None:
        super()._observe(instance)
        self.core._tally.notice_own = lambda vote, found: None  # type: ignore[method-assign]

    def _turn(self) -> None:
        try:
            super()._turn()
        except Exception:  # noqa: BLE001 - what its lies do to itself is nobody else's matter
            self.crash()
            self.cluster.timeline.after(START_AGAIN_MS, self._start_again, self.life)

    def lie(self, kind: str) -> None:
        """Say to the witness that it lied."""
        self.cluster.witness.lied(self, kind)

    @property
    def others(self) -> list[int]:
        """Everybody else."""
        return list(self.cluster.others(self.index))

    @property
    def chain_id(self) -> bytes:
        """Of the network."""
        return self.cluster.market.genesis.chain_id

    @property
    def size(self) -> int:
        """n of the epoch it is in."""
        return self.validator.epoch.validators.n

    @property
    def seat(self) -> int:
        """Its signer index in the epoch it is in; one that nobody has where it has no seat."""
        own = self.validator.epoch.own
        return self.size if own is None else own

    def seat_of(self, node: int) -> int | None:
        """The signer index of another node."""
        return self.validator.epoch.index(self.cluster.market.member(node))

    def sign(self, message: bytes) -> bytes:
        """By the key of its seat; by one that counts no more, or not yet, where it has none."""
        epoch = self.validator.epoch
        return (self.cluster.market.first_key(self.index).sign if epoch.own is None else epoch.sign)(message)

    def read(self, raw: bytes) -> PeerMessage | None:
        """A message's value; None for what another liar garbled."""
        try:
            return self.cluster.decode(raw)
        except wire.WireError:
            return None

    def at_once(self, to: int, *messages: PeerMessage) -> None:
        """Send outside of any turn."""
        for message in messages:
            self.cluster.witness.sent(self, to, message)
            self.cluster.transmit(self.index, to, (self.encode(message),))

    # -- forging -----------------------------------------------------------------------------------

    def vote(self, kind: VoteKind, view: int, parent_view: int = 0, digest: bytes = b"") -> Vote:
        """Any vote, by the own key."""
        message = vote_message(self.chain_id, kind, self.epoch, view, parent_view, digest)
        return Vote(kind, self.epoch, view, parent_view, digest, self.seat, self.sign(message))

    def vote_for(self, kind: VoteKind, header: Header) -> Vote:
        """N or F for a block, or X for its view."""
        if kind is VoteKind.NULLIFY:
            return self.vote(kind, header.view)
        return self.vote(kind, header.view, header.parent_view, header.digest)

    def proposal(
        self, like: Proposal, justification: Justification | None = None, payload: bytes | None = None, **changes: Any
    ) -> Proposal:
        """A proposal like another one, with other header fields, and the leader's genuine vote for it."""
        justification = justification or like.justification
        payload = like.payload if payload is None else payload
        known: dict[str, Any] = {each.name: getattr(like.header, each.name) for each in fields(Header)}
        known = {name: value for name, value in known.items() if name not in ("digest", "raw")}
        known["justification_digest"] = justification.digest
        known["payload_root"] = wire.decode_payload(payload).root
        header = wire.encode_header(**(known | changes))
        return Proposal(header, justification, payload, self.vote_for(VoteKind.NOTARIZE, header))

    def batch(self, like: Batch, envelopes: Sequence[bytes], **changes: Any) -> Batch:
        """Another batch of this node's, genuinely signed; at the same position unless told otherwise."""
        old = like.header
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
        signature = self.sign(TAG_BATCH_SIGNATURE + header)
        return wire.decode_batch(wire.encode_batch(header, signature, envelopes))

    def ack(self, like: Ack, **changes: Any) -> Ack:
        """Another acknowledgement of this node's."""
        unsigned = msgspec.structs.replace(like, signature=b"", acker=self.seat, **changes)
        return msgspec.structs.replace(unsigned, signature=self.sign(ack_message(self.chain_id, unsigned)))

    def forged_certificate(self, kind: VoteKind, view: int, digest: bytes, signers: Iterable[int]) -> Certificate:
        """Signatures of nobody in the names of these."""
        named = tuple(signers)
        own = self.vote(kind, view, 0, digest)
        return Certificate(kind, self.epoch, view, 0, digest, named, (own.signature,) * len(named))

    def stored(self, digest: bytes) -> Proposal | None:
        """A block on the own disk."""
        raw = self.disk.blocks.proposal(digest)
        return wire.decode_stored_proposal(raw) if raw is not None else None


def to_each(others: Sequence[int], to: int | None) -> Sequence[int]:
    """Receivers of a send."""
    return others if to is None else (to,)


__all__ = ["Liar", "Send", "to_each"]
