"""A chain whose validators change: honest blocks, tails and hand-overs through any number of epochs, real signatures.

    chain = EpochChain()
    chain.block()                          in the present epoch
    chain.change("name", ops.SetChange())  votes, keys, readiness; the boundary, its tails, the next epoch
    chain.header_proof(height)             for whoever knows the genesis only

A ``HeaderSource`` for proofs. What only the ledger decides is decided by the product's own execution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consensus.types import Certificate, Header, Justification, VoteKind
from consensus.votes import vote_message
from crypto.keys import SigningKey
from ledger import operations as ops
from ledger import wire
from ledger.epochs import approved_change, current_epoch, find_epoch, membership
from ledger.execution import BlockResult, ExecutableBlock, ListedBatch
from ledger.genesis_header import genesis_header_of
from ledger.proof_building import FinalHeader, make_hand_over
from ledger.proof_types import HandOver
from ledger.types import Envelope, JustifiedHeader
from tests.support.insurers import Ledger, Organisation, key_of
from tests.support.voting import Assembly, next_key

BLOCK_MS = 1000


class _LedgerOnChain(Ledger):
    """A ledger whose blocks stand on a chain."""

    chain: EpochChain

    def block(self, *batches: Sequence[Envelope], after_ms: int = BLOCK_MS) -> BlockResult:
        """The next block of the chain."""
        return self.chain.execute([envelope for batch in batches for envelope in batch], 0, True, b"")


class EpochChain:
    """See the module text."""

    def __init__(self) -> None:
        self.ledger = _LedgerOnChain()
        self.ledger.chain = self
        self.house = Assembly(self.ledger)
        self.genesis = self.ledger.genesis
        self.validators = self.genesis.validator_set()
        self.start = genesis_header_of(self.genesis)  #: header of view 0 of the present epoch
        self.headers: list[FinalHeader] = []

    # -- HeaderSource

    def finalized_height(self) -> int:
        """Of the last block."""
        return len(self.headers)

    def final_header(self, height: int) -> FinalHeader | None:
        """The header of a height."""
        return self.headers[height - 1] if 1 <= height <= len(self.headers) else None

    first_epoch = 0  #: of the genesis

    def hand_over(self, epoch: int) -> HandOver | None:
        """How an epoch ended."""
        record = find_epoch(self.ledger.state, epoch + 1)
        return None if record is None else make_hand_over(self.final_header(record.first_height - 1), record)

    # -- making it

    @property
    def epoch(self) -> int:
        """The present one."""
        return self.validators.epoch

    def key(self, organisation: str) -> SigningKey:
        """A validator's key of the present epoch."""
        first = find_epoch(self.ledger.state, self.epoch)
        assert first is not None
        seat = first.seat(organisation)
        assert seat is not None
        card_key = key_of(organisation, "consensus")
        return card_key if seat.consensus_key == card_key.public else next_key(organisation, self.epoch)

    def certificate(self, kind: VoteKind, view: int, parent_view: int, digest: bytes) -> Certificate:
        """Of a quorum: the first Q that have a key."""
        able = [at for at, member in enumerate(self.validators.members) if member.public_key]
        signers = tuple(able[: self.validators.quorum])
        message = vote_message(self.genesis.chain_id, kind, self.epoch, view, parent_view, digest)
        signatures = tuple(self.key(self.validators.members[signer].id).sign(message) for signer in signers)
        return Certificate(kind, self.epoch, view, parent_view, digest, signers, signatures)

    def block(self, *envelopes: Envelope, skipped: int = 0, finalized: bool = True) -> None:
        """The next block, executed."""
        self.execute(envelopes, skipped, finalized, b"")

    def boundary(self, *, skipped: int = 0, tails: Sequence[int] = ()) -> None:
        """The block that ends the epoch, and a tail for each number of views skipped before it."""
        change = approved_change(self.ledger.state)
        assert change is not None
        self.execute((), skipped, False, change.next_valset_hash)
        boundary = self.headers[-1].justified.header
        parent, added = boundary, list[JustifiedHeader]()
        repeated = ("height", "timestamp_ms", "state_height", "state_root", "receipts_root", "payload_root")
        for skip in tails:
            fields = {name: getattr(boundary, name) for name in repeated}
            tail, why = self._header(parent, skip, **fields)
            added.append(JustifiedHeader(tail, why))
            parent = tail
        finalization = self.certificate(VoteKind.FINALIZE, parent.view, parent.parent_view, parent.digest)
        self.headers[-1] = FinalHeader(self.headers[-1].justified, finalization, tuple(added))
        epoch, record = current_epoch(self.ledger.state)
        self.validators, self.start = record.validator_set(epoch), boundary

    def change(self, name: str, change: ops.SetChange, *, skipped: int = 0, tails: Sequence[int] = ()) -> None:
        """The whole way from the votes to the next epoch; every vote and registration takes a block."""
        self.house.register_keys()
        self.house.pass_(name, change)
        passed = membership(self.ledger.state).passed
        assert passed is not None
        self.house.ready(*passed.members)
        self.boundary(skipped=skipped, tails=tails)

    def execute(
        self, envelopes: Sequence[Envelope], skipped: int, finalized: bool, next_valset_hash: bytes
    ) -> BlockResult:
        """Make the next block and execute it."""
        parent = self.headers[-1].justified.header if self.headers else self.start
        head = self.ledger.state.head
        assert head is not None
        self.ledger.time_ms = parent.timestamp_ms + BLOCK_MS
        header, why = self._header(
            parent,
            skipped,
            height=parent.height + 1,
            payload_root=wire.encode_payload(()).root,
            timestamp_ms=self.ledger.time_ms,
            state_height=head.height,
            state_root=head.state_root,
            receipts_root=head.receipts_root,
            next_valset_hash=next_valset_hash,
        )
        finalization = None
        if finalized:
            finalization = self.certificate(VoteKind.FINALIZE, header.view, header.parent_view, header.digest)
        self.headers.append(FinalHeader(JustifiedHeader(header, why), finalization))
        listed = [ListedBatch(self.ledger.batch_header(header.height, envelopes), envelopes)] if envelopes else []
        result = self.ledger.execution.run(ExecutableBlock.of(header, listed, ()))
        self.ledger.store.commit(result.writes)
        return result

    def _header(self, parent: Header, skipped: int, **fields: Any) -> tuple[Header, Justification]:
        first = parent.digest == self.start.digest
        parent_view = 0 if first else parent.view
        certificate = None
        if not first:
            certificate = self.certificate(VoteKind.NOTARIZE, parent.view, parent.parent_view, parent.digest)
        view = parent_view + 1 + skipped
        nullified = [self.certificate(VoteKind.NULLIFY, at, 0, b"") for at in range(parent_view + 1, view)]
        why = wire.make_justification(certificate, nullified)
        header = wire.encode_header(
            version=1,
            chain_id=self.genesis.chain_id,
            epoch=self.epoch,
            view=view,
            parent_view=parent_view,
            parent_digest=parent.digest,
            justification_digest=why.digest,
            valset_hash=self.validators.hash,
            state_scheme=1,
            **fields,
        )
        return header, why


def guest(number: int) -> Organisation:
    """An insurer from elsewhere."""
    return Organisation(f"guest-{number}", "insurer")
