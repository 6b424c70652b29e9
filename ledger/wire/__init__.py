"""The one place where bytes become values and values bytes.

Raw bytes rule: whatever is hashed or signed is kept and passed on as the exact bytes that were
received; a digest is SHA-256(tag | those bytes). What validators hash (headers, batch headers, payloads, statements,
justifications, receipts) is refused unless it is in canonical form; envelopes may come in any form, as
clients in any language write them. Decoders accept hostile bytes: all they raise is ``WireError``. They
check shape (lengths, counts, ranges that later code relies on), never meaning.

Layouts and tags: docs/protocol.md. Messages: proto/lossbook/v1.
"""

from ledger.wire.batches import (
    decode_ack,
    decode_batch,
    decode_batch_header,
    encode_ack,
    encode_batch,
    encode_batch_header,
)
from ledger.wire.blocks import (
    decode_block,
    decode_payload,
    decode_proposal,
    encode_block,
    encode_payload,
    encode_proposal,
)
from ledger.wire.checks import WireError, parse
from ledger.wire.envelopes import claimed_id, decode_envelope, encode_envelope, encode_envelope_body, envelope_id
from ledger.wire.headers import decode_header, decode_justification, encode_header, make_justification
from ledger.wire.operations import encode_operation
from ledger.wire.receipts import decode_receipt, encode_receipt
from ledger.wire.statements import decode_statement, encode_statement
from ledger.wire.stored import (
    AckedRecord,
    IncarnationRecord,
    StoredParts,
    VoteLogRecord,
    decode_record,
    decode_stored_parts,
    decode_stored_proposal,
    encode_record,
    encode_stored_proposal,
)
from ledger.wire.votes import (
    certificate_bytes,
    decode_certificate,
    decode_vote,
    encode_certificate,
    encode_vote,
    read_certificate,
)

__all__ = [
    "certificate_bytes",
    "claimed_id",
    "read_certificate",
    "AckedRecord",
    "IncarnationRecord",
    "StoredParts",
    "VoteLogRecord",
    "decode_record",
    "encode_record",
    "WireError",
    "decode_ack",
    "decode_batch",
    "decode_batch_header",
    "decode_block",
    "decode_certificate",
    "decode_envelope",
    "decode_header",
    "decode_justification",
    "decode_payload",
    "decode_proposal",
    "decode_receipt",
    "decode_statement",
    "decode_stored_parts",
    "decode_stored_proposal",
    "decode_vote",
    "encode_ack",
    "encode_batch",
    "encode_batch_header",
    "encode_block",
    "encode_certificate",
    "encode_envelope",
    "encode_envelope_body",
    "encode_header",
    "encode_operation",
    "encode_payload",
    "encode_proposal",
    "encode_receipt",
    "encode_statement",
    "encode_stored_proposal",
    "encode_vote",
    "envelope_id",
    "make_justification",
    "parse",
]
