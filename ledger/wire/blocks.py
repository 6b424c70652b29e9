"""Payloads, proposals and whole blocks."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.types import Proposal
from crypto.hashing import TAG_STATEMENT, tagged
from crypto.merkle import leaf_hash, root_of_hashes
from ledger.types import (
    PAYLOAD_BATCHES_MAX,
    PAYLOAD_STATEMENT_BYTES_MAX,
    PAYLOAD_STATEMENTS_MAX,
    Block,
    JustifiedHeader,
    Payload,
)
from ledger.wire.batches import decode_batch
from ledger.wire.checks import DIGEST, WireError, exact, parse_canonical
from ledger.wire.headers import decode_header, decode_justification
from ledger.wire.votes import decode_certificate, decode_vote, encode_certificate, encode_vote
from lossbook.v1 import block_pb2


def encode_payload(batch_digests: Sequence[bytes], statements: Sequence[bytes] = ()) -> Payload:
    """A payload of these batches and serialized statements, in this order."""
    raw = block_pb2.Payload(batch_digests=batch_digests, statements=statements).SerializeToString(deterministic=True)
    return Payload(tuple(batch_digests), tuple(statements), _payload_root(batch_digests, statements), raw)


def decode_payload(raw: bytes) -> Payload:
    """Read a payload; its statements are not read yet.

    Raises:
        WireError: does not parse, is not in canonical form, too many batches or statements, one twice, or a digest of
            wrong length.
    """
    m = parse_canonical(block_pb2.Payload, raw)
    digests, statements = tuple(m.batch_digests), tuple(m.statements)
    if len(digests) > PAYLOAD_BATCHES_MAX or len(set(digests)) != len(digests):
        raise WireError("Payload", f"{len(digests)} batches; at most {PAYLOAD_BATCHES_MAX}, all different")
    for digest in digests:
        exact("Payload", "batch digest", digest, DIGEST)
    if len(statements) > PAYLOAD_STATEMENTS_MAX or len(set(statements)) != len(statements):
        raise WireError("Payload", f"{len(statements)} statements; at most {PAYLOAD_STATEMENTS_MAX}, all different")
    size = sum(map(len, statements))
    if size > PAYLOAD_STATEMENT_BYTES_MAX:
        raise WireError("Payload", f"{size} bytes of statements, at most {PAYLOAD_STATEMENT_BYTES_MAX}")
    return Payload(digests, statements, _payload_root(digests, statements), raw)


def _payload_root(batch_digests: Sequence[bytes], statements: Sequence[bytes]) -> bytes:
    """Batches are leaves as data, statements by their tagged digest: neither can stand for the other."""
    return root_of_hashes([*map(leaf_hash, batch_digests), *[tagged(TAG_STATEMENT, each) for each in statements]])


def encode_proposal(proposal: Proposal) -> block_pb2.Proposal:
    """The message of a proposal."""
    return block_pb2.Proposal(
        header=proposal.header.raw,
        justification=proposal.justification.raw,
        payload=proposal.payload,
        vote=encode_vote(proposal.vote),
    )


def decode_proposal(m: block_pb2.Proposal) -> Proposal:
    """Read a proposal; its payload is the one its header commits to, its justification is not compared yet.

    Raises:
        WireError: a part does not parse, or another payload came with the header: the sender's fault, not the leader's.
    """
    header = decode_header(m.header)
    if decode_payload(m.payload).root != header.payload_root:
        raise WireError("Proposal", "its payload is not the one its header commits to")
    return Proposal(
        header=header,
        justification=decode_justification(m.justification),
        payload=m.payload,
        vote=decode_vote(m.vote),
    )


def encode_block(block: Block) -> block_pb2.Block:
    """The message of a block."""
    return block_pb2.Block(
        header=block.header.raw,
        justification=block.justification.raw,
        payload=block.payload.raw,
        batches=[batch.raw for batch in block.batches],
        finalization=encode_certificate(block.finalization) if block.finalization else None,
        tails=[encode_justified_header(tail) for tail in block.tails],
    )


def decode_block(m: block_pb2.Block) -> Block:
    """Read a block; nothing in it is checked against anything else yet.

    Raises:
        WireError: a part does not parse.
    """
    return Block(
        header=decode_header(m.header),
        justification=decode_justification(m.justification),
        payload=decode_payload(m.payload),
        batches=tuple([decode_batch(raw) for raw in m.batches]),
        finalization=decode_certificate(m.finalization) if m.HasField("finalization") else None,
        tails=tuple([decode_justified_header(tail) for tail in m.tails]),
    )


def encode_justified_header(justified: JustifiedHeader) -> block_pb2.JustifiedHeader:
    """The message of a header with its justification."""
    return block_pb2.JustifiedHeader(header=justified.header.raw, justification=justified.justification.raw)


def decode_justified_header(m: block_pb2.JustifiedHeader) -> JustifiedHeader:
    """Read a header with its justification; neither is checked against the other yet.

    Raises:
        WireError: a part does not parse.
    """
    return JustifiedHeader(decode_header(m.header), decode_justification(m.justification))
