"""Answers everybody who lacks something, with garbage under genuine headers, halves, and what nobody asked for."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ledger import wire
from lossbook.v1 import block_pb2
from node.catchup import as_proposal
from node.turn import Fetch
from simulator.adversaries.liar import Liar
from simulator.serving import Answer


class LyingServer(Liar):
    """The malicious sync and batch server; as a voter it is honest."""

    def serve(self, fetch: Fetch) -> Answer:
        """Batches with other envelopes, blocks without a part of theirs, proposals with another justification, parts
        of a snapshot with a bit turned."""
        answer = super().serve(fetch)
        if answer.empty or self.random.random() < 0.2:
            return answer
        self.lie("serves forgeries")
        return Answer(
            batches=tuple(self._batch(raw) for raw in answer.batches),
            proposals=tuple(self._proposal(raw) for raw in answer.proposals),
            blocks=tuple(self._block(raw) for raw in answer.blocks),
            manifest=self._garbled(answer.manifest),
            chunks=tuple(self._garbled(raw) for raw in answer.chunks),
        )

    def _garbled(self, raw: bytes) -> bytes:
        """One bit of a part of a snapshot turned: mostly it still reads."""
        if not raw:
            return raw
        at, bit = self.random.randrange(len(raw)), 1 << self.random.randrange(8)
        return raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :]

    def _batch(self, raw: bytes) -> bytes:
        batch = wire.decode_batch(raw)
        if self.random.random() < 0.3:
            return self.random.randbytes(len(raw))
        return wire.encode_batch(batch.header.raw, batch.signature, [bytes(len(each)) for each in batch.envelopes])

    def _proposal(self, raw: bytes) -> bytes:
        proposal = wire.decode_stored_proposal(raw)
        if self.random.random() < 0.5:
            return wire.encode_stored_proposal(replace(proposal, justification=wire.make_justification(None, ())))
        return wire.encode_stored_proposal(self.proposal(proposal, timestamp_ms=proposal.header.timestamp_ms + 1))

    def _block(self, raw: bytes) -> bytes:
        block = wire.decode_block(wire.parse(block_pb2.Block, raw))
        match self.random.randrange(4):
            case 0:
                forged = msgspec.structs.replace(block, justification=wire.make_justification(None, ()))
            case 1:
                forged = msgspec.structs.replace(block, batches=())
            case 2:
                forged = msgspec.structs.replace(block, finalization=None)
            case _:
                like = as_proposal(block.header, block.justification, block.payload, self.seat)
                forged = msgspec.structs.replace(block, header=self.proposal(like, state_root=bytes(32)).header)
        return wire.encode_block(forged).SerializeToString(deterministic=True)
