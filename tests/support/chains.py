"""A small finalized chain over a ledger in memory, signed by all validators, as proofs need it."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.types import Certificate, Header, Justification, VoteKind
from consensus.votes import vote_message
from crypto.hashing import TAG_BATCH_SIGNATURE
from crypto.merkle import EMPTY_ROOT
from ledger import wire
from ledger.execution import ExecutableBlock, ListedBatch
from ledger.genesis_header import genesis_header
from ledger.proof_building import FinalHeader
from ledger.proof_types import HandOver
from ledger.types import Batch, Envelope, JustifiedHeader, Payload
from tests.support.insurers import INSURERS, Ledger


class Chain:
    """Blocks on a ``Ledger``; every block is certified and executed at once. A ``HeaderSource`` for proofs."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.genesis = ledger.genesis
        self.validators = ledger.genesis.validator_set()
        record = ledger.state.height_record(0)
        assert record is not None
        self.root = genesis_header(
            time_ms=self.genesis.time_ms,
            state_root=record.state_root,
            receipts_root=record.receipts_root,
            valset_hash=self.validators.hash,
            scheme=1,
        )
        self.headers: list[FinalHeader] = []
        self.payloads: list[Payload] = []
        self.batches: list[tuple[Batch, ...]] = []

    # -- HeaderSource

    def finalized_height(self) -> int:
        return len(self.headers)

    first_epoch = 0  #: of the genesis

    def hand_over(self, epoch: int) -> HandOver | None:
        """This chain stays in epoch 0."""
        return None

    def final_header(self, height: int) -> FinalHeader | None:
        return self.headers[height - 1] if 1 <= height <= len(self.headers) else None

    def payload(self, height: int) -> Payload | None:
        return self.payloads[height - 1] if 1 <= height <= len(self.payloads) else None

    # -- making blocks

    def certificate(
        self, kind: VoteKind, view: int, parent_view: int = 0, digest: bytes = b"", signers: Sequence[int] = (0, 1, 3)
    ) -> Certificate:
        message = vote_message(self.genesis.chain_id, kind, 0, view, parent_view, digest)
        signatures = []
        for signer in signers:
            key = INSURERS[signer].consensus_key
            assert key is not None
            signatures.append(key.sign(message))
        return Certificate(kind, 0, view, parent_view, digest, tuple(signers), tuple(signatures))

    def add(
        self, *envelopes: Envelope, skip: int = 0, finalized: bool = True, lag: int = 1, together: int = 2
    ) -> Header:
        """One block of one batch for ``together`` envelopes; ``skip`` views are nullified before it.

        Its header carries the state of ``lag`` heights below it.
        """
        parent = self.headers[-1].justified.header if self.headers else self.root
        view = parent.view + 1 + skip
        justification = self._justification(parent, view)
        chunks = [envelopes[at : at + together] for at in range(0, len(envelopes), together)]
        batches = tuple(self._batch(at, chunk) for at, chunk in enumerate(chunks))
        payload = wire.encode_payload([batch.header.digest for batch in batches])
        state = self.ledger.state.height_record(max(0, parent.height + 1 - lag))
        assert state is not None
        self.ledger.time_ms += 1000
        header = wire.encode_header(
            version=1,
            chain_id=self.genesis.chain_id,
            epoch=0,
            height=parent.height + 1,
            view=view,
            parent_view=parent.view,
            parent_digest=parent.digest,
            payload_root=payload.root,
            justification_digest=justification.digest,
            timestamp_ms=self.ledger.time_ms,
            state_height=state.height,
            state_root=state.state_root,
            receipts_root=state.receipts_root,
            valset_hash=self.validators.hash,
            state_scheme=1,
        )
        finalization = self.certificate(VoteKind.FINALIZE, view, parent.view, header.digest) if finalized else None
        self.headers.append(FinalHeader(JustifiedHeader(header, justification), finalization))
        self.payloads.append(payload)
        self.batches.append(batches)
        self._execute(header, batches)
        return header

    def _justification(self, parent: Header, view: int) -> Justification:
        certificate = None
        if parent.view:
            certificate = self.certificate(VoteKind.NOTARIZE, parent.view, parent.parent_view, parent.digest)
        skipped = [self.certificate(VoteKind.NULLIFY, between) for between in range(parent.view + 1, view)]
        return wire.make_justification(certificate, skipped)

    def _batch(self, at: int, envelopes: Sequence[Envelope]) -> Batch:
        origin = INSURERS[at % 4]
        assert origin.consensus_key is not None
        raws = [envelope.raw for envelope in envelopes]
        header = wire.encode_batch_header(
            chain_id=self.genesis.chain_id,
            epoch=0,
            origin=origin.id,
            incarnation=1,
            sequence=len(self.headers) * 10 + at,
            previous=bytes(32),
            envelopes=raws,
            attachment_root=EMPTY_ROOT,
        )
        signature = origin.consensus_key.sign(TAG_BATCH_SIGNATURE + header)
        return wire.decode_batch(wire.encode_batch(header, signature, raws))

    def _execute(self, header: Header, batches: Sequence[Batch]) -> None:
        listed = [
            ListedBatch(batch.header, [wire.decode_envelope(raw) for raw in batch.envelopes]) for batch in batches
        ]
        result = self.ledger.execution.run(ExecutableBlock.of(header, listed, ()))
        self.ledger.store.commit(result.writes)
