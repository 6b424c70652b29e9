"""A chain as four honest insurers would make it: real signatures, real execution, no network.

Every part of a block can be changed afterwards with ``altered`` and its siblings, so that a test says in one
line what its liar did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from consensus.types import Certificate, Header, VoteKind
from consensus.votes import vote_message
from contracts.dispatch import CONTRACTS
from crypto.hashing import TAG_BATCH_SIGNATURE
from crypto.keys import SigningKey
from crypto.merkle import EMPTY_ROOT
from ledger.execution import ExecutableBlock, ListedBatch
from ledger.genesis_header import genesis_header
from ledger.types import Batch, Block, Envelope
from ledger.wire import (
    decode_batch,
    decode_envelope,
    decode_statement,
    encode_batch,
    encode_batch_header,
    encode_header,
    encode_payload,
    make_justification,
)
from tests.support.insurers import INSURERS, Ledger

QUORUM = (0, 1, 2)
BLOCK_MS = 1000


def consensus_key(signer: int) -> SigningKey:
    """Consensus key of a signer index of the market."""
    key = INSURERS[signer].consensus_key
    assert key is not None
    return key


class Chain:
    """Blocks upon blocks; ``blocks[h - 1]`` is the block of height h."""

    def __init__(self) -> None:
        self.ledger = Ledger(contracts=CONTRACTS)
        self.genesis = self.ledger.genesis
        self.validators = self.genesis.validator_set()
        record = self.ledger.state.height_record(0)
        assert record is not None
        self.genesis_header = genesis_header(
            time_ms=self.genesis.time_ms,
            state_root=record.state_root,
            receipts_root=record.receipts_root,
            valset_hash=self.validators.hash,
            scheme=self.genesis.parameters.state_scheme,
        )
        self.blocks: list[Block] = []
        self._heads: dict[int, tuple[int, bytes]] = {}

    @property
    def tip(self) -> Header:
        """Header of the last block."""
        return self.blocks[-1].header if self.blocks else self.genesis_header

    # ------------------------------------------------------------ honest parts

    def certificate(
        self, kind: VoteKind, view: int, parent_view: int, digest: bytes, signers: Sequence[int] = QUORUM
    ) -> Certificate:
        """Votes of these signers, genuine."""
        message = vote_message(self.genesis.chain_id, kind, 0, view, parent_view, digest)
        signatures = tuple(consensus_key(signer).sign(message) for signer in signers)
        return Certificate(kind, 0, view, parent_view, digest, tuple(signers), signatures)

    def notarization(self, header: Header, signers: Sequence[int] = QUORUM) -> Certificate:
        """Of this block."""
        return self.certificate(VoteKind.NOTARIZE, header.view, header.parent_view, header.digest, signers)

    def finalization(self, header: Header, signers: Sequence[int] = QUORUM) -> Certificate:
        """Of this block."""
        return self.certificate(VoteKind.FINALIZE, header.view, header.parent_view, header.digest, signers)

    def nullification(self, view: int, signers: Sequence[int] = QUORUM) -> Certificate:
        """Of this view."""
        return self.certificate(VoteKind.NULLIFY, view, 0, b"", signers)

    def batch(self, origin: int, envelopes: Sequence[bytes], *, incarnation: int = 1) -> Batch:
        """The origin's next batch."""
        sequence, previous = self._heads.get(origin, (0, bytes(32)))
        header = encode_batch_header(
            chain_id=self.genesis.chain_id,
            epoch=0,
            origin=INSURERS[origin].id,
            incarnation=incarnation,
            sequence=sequence + 1,
            previous=previous,
            envelopes=envelopes,
            attachment_root=EMPTY_ROOT,
        )
        batch = sign_batch(origin, header, envelopes)
        self._heads[origin] = (sequence + 1, batch.header.digest)
        return batch

    def block(
        self,
        *listed: Sequence[Envelope],
        skipped_views: int = 0,
        finalized: bool = True,
        parent_kind: VoteKind = VoteKind.NOTARIZE,
        statements: Sequence[bytes] = (),
    ) -> Block:
        """The next block, executed; one batch for each list of envelopes, of the insurers in turn."""
        parent = self.tip
        batches = [self.batch(at % 4, [e.raw for e in envelopes]) for at, envelopes in enumerate(listed)]
        certificate = None
        if parent.view:
            certificate = self.certificate(parent_kind, parent.view, parent.parent_view, parent.digest)
        view = parent.view + 1 + skipped_views
        justification = make_justification(
            certificate, [self.nullification(skipped) for skipped in range(parent.view + 1, view)]
        )
        state = self.ledger.state.head
        assert state is not None
        payload = encode_payload([batch.header.digest for batch in batches], statements)
        header = encode_header(
            version=1,
            chain_id=self.genesis.chain_id,
            epoch=0,
            height=parent.height + 1,
            view=view,
            parent_view=parent.view,
            parent_digest=parent.digest,
            payload_root=payload.root,
            justification_digest=justification.digest,
            timestamp_ms=parent.timestamp_ms + BLOCK_MS,
            state_height=state.height,
            state_root=state.state_root,
            receipts_root=state.receipts_root,
            valset_hash=self.validators.hash,
            state_scheme=1,
        )
        block = Block(header, justification, payload, tuple(batches), self.finalization(header) if finalized else None)
        self.blocks.append(block)
        self._execute(block)
        return block

    def _execute(self, block: Block) -> None:
        header = block.header
        listed = [
            ListedBatch(batch.header, [decode_envelope(raw) for raw in batch.envelopes]) for batch in block.batches
        ]
        statements = [decode_statement(raw) for raw in block.payload.statements]
        result = self.ledger.execution.run(ExecutableBlock.of(header, listed, statements))
        self.ledger.store.commit(result.writes)
        self.ledger.time_ms = header.timestamp_ms


def sign_batch(origin: int, header: bytes, envelopes: Sequence[bytes]) -> Batch:
    """A batch under this header, signed by the origin."""
    return decode_batch(encode_batch(header, consensus_key(origin).sign(TAG_BATCH_SIGNATURE + header), envelopes))


# -- what a liar changes -------------------------------------------------------------------------


def altered(block: Block, **changes: object) -> Block:
    """The block with other parts."""
    return msgspec.structs.replace(block, **changes)


def altered_header(block: Block, **changes: object) -> Block:
    """The block with other header fields, encoded anew; nothing is certified anew."""
    header = block.header
    fields = {name: getattr(header, name) for name in Header.__dataclass_fields__ if name not in ("digest", "raw")}
    return altered(block, header=encode_header(**(fields | changes)))


def altered_certificate(certificate: Certificate, **changes: object) -> Certificate:
    """The certificate with other fields; signatures stay as they are unless given."""
    return replace(certificate, **changes)  # type: ignore[arg-type]
