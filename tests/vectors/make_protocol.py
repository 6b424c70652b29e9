"""Makes protocol.json and proofs/: ``python -m tests.vectors.make_protocol``.

The vectors pin every hashed or signed byte that docs/protocol.md describes. They are changed only on purpose, together
with the protocol version. Values come from the network of ``small_network``; docs/protocol.md quotes them.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from consensus.types import Certificate, Header, VoteKind
from consensus.votes import vote_message
from contracts.records import CLAIMS, POLICIES
from contracts.tables import TABLES
from crypto import hashing
from crypto.merkle import leaf_hash
from ledger import commitment, receipts_range, wire
from ledger import proof_building as building
from ledger.acks import HELD, accepted_message, ack_message
from ledger.checkpoints import Anchor, encode_checkpoint, make_checkpoint
from ledger.codes import Code
from ledger.epochs import EPOCHS
from ledger.genesis import load_genesis
from ledger.genesis_header import genesis_header_of
from ledger.organisations import key_possession_message
from ledger.proof_types import EnvelopeProof, Proof, ReceiptProof, RecordProof
from ledger.readiness import readiness_message
from ledger.registrations import possession_message, registration_message
from ledger.sealed import commitment_of
from ledger.snapshot_making import pin
from ledger.statement_types import Moment
from ledger.statements import execute as execute_statement
from ledger.succession import PREDECESSORS, predecessor_record
from ledger.types import Ack, Batch, Block, Envelope, Statement
from ledger.view_marks import write_mark
from ledger.wire.proofs import encode_proof, encode_state_proof
from ledger.wire.snapshots import encode_chunk
from services.archive_file import ArchiveWriter
from services.archive_making import write_books
from tests.vectors import small_network
from tests.vectors.make_commitment import ASKED, commitment_log
from tests.vectors.signature_edges import signature_vectors
from tests.vectors.small_network import CLAIM_1, POLICY_1, Network, card, seed_name, seeded_key

HERE = Path(__file__).parent
SEALED_BLOB = bytes(range(16))


def protocol_vectors(network: Network) -> dict[str, Any]:
    """Contents of protocol.json."""
    second, third = network.blocks[1], network.blocks[2]
    return {
        "about": (
            "Bytes are hexadecimal. Every private key is a test seed: the Ed25519 seed is SHA-256 of the name given. "
            "Made by `python -m tests.vectors.make_protocol`; docs/protocol.md explains every value."
        ),
        "keys": [_key(owner, purpose) for owner, purpose in small_network.all_keys()],
        "tags": {
            name.removeprefix("TAG_").lower().replace("_", "-"): value.hex()
            for name, value in vars(hashing).items()
            if name.startswith("TAG_")
        },
        "signatures": signature_vectors(),
        "genesis": _genesis(network),
        "rebuilt_genesis": _rebuilt_genesis(),
        "envelope": _envelope(network.envelopes[0]),
        "operations": [_operation(operation) for envelope in network.envelopes for operation in envelope.operations],
        "batch": _batch(second.batches[0]),
        "keys_to_come": _keys_to_come(network),
        "ack": _ack(network, second.batches[0]),
        "accepted": _accepted(network, second.batches[0]),
        "checkpoint": _checkpoint(network),
        "sealed": {"blob": SEALED_BLOB.hex(), "commitment": commitment_of(SEALED_BLOB).hex()},
        "payload": {
            "batch_digests": [digest.hex() for digest in second.payload.batch_digests],
            "raw": second.payload.raw.hex(),
            "payload_root": second.payload.root.hex(),
            "empty_payload_root": third.payload.root.hex(),
        },
        "statements": [_statement(statement) for statement in small_network.statements(network)],
        "payload_with_statements": _payload_with_statements(network),
        "votes": _votes(network, second),
        "certificates": [
            _certificate("finalization of height 3", third.finalization),
            _certificate("nullification of view 2", second.justification.nullifications[0]),
            _certificate("notarization of height 1", second.justification.parent),
        ],
        "justifications": [
            {
                "of_height": block.header.height,
                "raw": block.justification.raw.hex(),
                "digest": block.justification.digest.hex(),
            }
            for block in (network.blocks[0], second)
        ],
        "headers": [_header(block.header) for block in network.blocks],
        "receipts": _receipts(network),
        "records": _records(network),
        "state_proofs": _state_proofs(),
        "snapshot": _snapshot(network),
        "codes": {code.name: code.value for code in Code},
    }


def proof_files(network: Network) -> dict[str, bytes]:
    """File name in proofs/ -> contents."""
    second, first, later = network.blocks[1], network.blocks[0], small_network.build_two_epochs()
    subjects: dict[str, RecordProof | ReceiptProof | EnvelopeProof] = {
        "record": building.record_proof(network, network.state, CLAIMS, CLAIM_1),
        "receipt": building.receipt_proof(network, network.state, 2),
        "envelope": building.envelope_proof(network, 2, second.payload, second.batches, 1),
        "next-epoch-record": building.record_proof(later, later.state, EPOCHS, (1).to_bytes(8, "big")),
        "first-block-envelope": building.envelope_proof(network, 1, first.payload, first.batches, 0),
    }
    files = {
        f"{name}.proof": encode_proof(Proof(network.genesis.chain_id, subject)) for name, subject in subjects.items()
    }
    rebuilt = {"genesis-rebuilt.json": small_network.rebuilt_genesis(), "books.archive": _archive(network)}
    return {"genesis.json": network.genesis.raw} | rebuilt | files


# ---------------------------------------------------------------- parts


def _plain(value: Any) -> Any:
    """Bytes as hex, the rest as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _key(owner: str, purpose: str) -> dict[str, str]:
    name = seed_name(owner, purpose)
    return {
        "test_seed_is_sha256_of": name,
        "test_seed": sha256(name.encode()).hexdigest(),
        "public": seeded_key(owner, purpose).public.hex(),
    }


def _genesis(network: Network) -> dict[str, Any]:
    genesis, validators = network.genesis, network.validators
    made = card("alpha")
    return {
        "file": "proofs/genesis.json",
        "chain_id": genesis.chain_id.hex(),
        "card": {
            "id": made.id,
            "signed_by_ledger_key": (hashing.TAG_CARD + b"\x00" + made.text.encode()).hex(),
            "signature": made.signature.hex(),
            "signed_by_consensus_key": (hashing.TAG_CARD + b"\x01" + made.text.encode()).hex(),
            "possession": made.possession.hex(),
        },
        "validator_set": {
            "members": [{"id": member.id, "public": member.public_key.hex()} for member in validators.members],
            "quorum": validators.quorum,
            "seed": validators.seed,
            "leader_of_views_1_to_8": [validators.leader(view) for view in range(1, 9)],
            "preimage": _valset_preimage(network).hex(),
            "valset_hash": validators.hash.hex(),
        },
        "state": {
            "leaves": [
                {"leaf": leaf.hex(), "hash": commitment.leaf_hash(leaf).hex()} for leaf in network.genesis_writes.leaves
            ],
            "state_root": network.root.state_root.hex(),
            "receipts_root": network.root.receipts_root.hex(),
        },
        "header": _header(network.root),
    }


def _rebuilt_genesis() -> dict[str, Any]:
    genesis = load_genesis(small_network.rebuilt_genesis())
    return {
        "file": "proofs/genesis-rebuilt.json",
        "chain_id": genesis.chain_id.hex(),
        "seed": genesis.validator_set().seed,
        "valset_hash": genesis.validator_set().hash.hex(),
        "header": _header(genesis_header_of(genesis)),
    }


def _checkpoint(network: Network) -> dict[str, Any]:
    """Of the last block, signed by alpha."""
    anchor = Anchor.of_genesis(network.genesis)
    header = network.blocks[-1].header
    made = make_checkpoint(network.genesis.chain_id, header, anchor.start, anchor.confirmers)
    signed = made.signed("alpha", seeded_key("alpha", "ledger"))
    return {
        "file": encode_checkpoint(signed).decode(),
        "text": signed.text,
        "signed_by_ledger_key": (hashing.TAG_CHECKPOINT + signed.text.encode()).hex(),
        "signature": signed.signatures[0].signature,
    }


def _archive(network: Network) -> bytes:
    """The books that genesis-rebuilt.json carries on."""
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    write_books(
        writer,
        network.genesis,
        building.header_proof(network, len(network.blocks)),
        network.state,
        lambda height: network.blocks[height - 1].header,
        lambda height: msgspec.structs.replace(network.blocks[height - 1], finalization=None),
    )
    writer.finish()
    return file.getvalue()


def _valset_preimage(network: Network) -> bytes:
    preimage = hashing.TAG_VALSET + struct.pack(">QI", 0, network.validators.n)
    for member in network.validators.members:
        preimage += struct.pack(">B", len(member.id)) + member.id.encode() + member.public_key
    return preimage


def _envelope(envelope: Envelope) -> dict[str, Any]:
    return {
        "organisation": envelope.organisation,
        "signer_keys": _plain(envelope.signer_keys),
        "not_after_ms": envelope.not_after_ms,
        "atomic": envelope.atomic,
        "operations": len(envelope.operations),
        "body": envelope.body.hex(),
        "id": envelope.id.hex(),
        "signed_message": (hashing.TAG_ENVELOPE_SIGNATURE + envelope.body).hex(),
        "signatures": _plain(envelope.signatures),
        "raw": envelope.raw.hex(),
        "leaf_hash_in_batch": leaf_hash(envelope.raw).hex(),
    }


def _operation(operation: Any) -> dict[str, Any]:
    return {
        "kind": type(operation).__name__,
        "fields": _plain(msgspec.to_builtins(operation, builtin_types=(bytes,))),
        "raw": wire.encode_operation(operation).SerializeToString(deterministic=True).hex(),
    }


def _batch(batch: Batch) -> dict[str, Any]:
    header = batch.header
    names = ("epoch", "origin", "incarnation", "sequence", "previous", "count", "envelope_bytes")
    return {
        "header": {
            name: _plain(getattr(header, name)) for name in ("chain_id", *names, "attachment_root", "envelope_root")
        },
        "header_raw": header.raw.hex(),
        "digest": header.digest.hex(),
        "signed_message": (hashing.TAG_BATCH_SIGNATURE + header.raw).hex(),
        "signature": batch.signature.hex(),
        "envelopes": _plain(batch.envelopes),
    }


def _keys_to_come(network: Network) -> dict[str, Any]:
    """What is signed about keys before they are used."""
    chain_id, coming, present = network.genesis.chain_id, small_network.COMING_KEY, seeded_key("delta", "consensus")
    added = small_network.ADDED_KEY
    registration = registration_message(chain_id, 1, "delta", coming.public)
    possession = possession_message(chain_id, 1, "delta", coming.public)
    preimage = hashing.TAG_KEY_REGISTRATION + b"\x01" + chain_id + struct.pack(">QH", 1, 5) + b"delta" + coming.public
    ready = readiness_message(chain_id, 0, small_network.PROPOSAL, coming.public)
    ready_preimage = hashing.TAG_READINESS + chain_id + bytes(8) + small_network.PROPOSAL + coming.public
    own = key_possession_message(chain_id, "alpha")
    return {
        "registration": {"signed_message": registration.hex(), "signature": present.sign(registration).hex()},
        "possession": {
            "preimage": preimage.hex(),
            "signed_message": possession.hex(),
            "signature": coming.sign(possession).hex(),
        },
        "readiness": {
            "preimage": ready_preimage.hex(),
            "signed_message": ready.hex(),
            "signature": coming.sign(ready).hex(),
        },
        "key_possession": {
            "signed_message": own.hex(),
            "signature": added.sign(own).hex(),
            "public": added.public.hex(),
        },
    }


def _ack(network: Network, batch: Batch) -> dict[str, Any]:
    header = batch.header
    unsigned = Ack(HELD, 0, 2, header.origin, header.incarnation, header.sequence, header.digest, b"")
    message = ack_message(network.genesis.chain_id, unsigned)
    signature = seeded_key("charlie", "consensus").sign(message)
    preimage = (
        hashing.TAG_ACK
        + network.genesis.chain_id
        + struct.pack(">BQIH", HELD, 0, 2, len(header.origin))
        + header.origin.encode()
        + struct.pack(">QQ", header.incarnation, header.sequence)
        + header.digest
    )
    raw = wire.encode_ack(msgspec.structs.replace(unsigned, signature=signature)).SerializeToString(deterministic=True)
    return {
        "kind": HELD,
        "epoch": 0,
        "acker": 2,
        "origin": header.origin,
        "incarnation": header.incarnation,
        "sequence": header.sequence,
        "digest": header.digest.hex(),
        "preimage": preimage.hex(),
        "signed_message": message.hex(),
        "signature": signature.hex(),
        "raw": raw.hex(),
    }


def _accepted(network: Network, batch: Batch) -> dict[str, Any]:
    envelope = wire.decode_envelope(batch.envelopes[0])
    origin = batch.header.origin
    message = accepted_message(network.genesis.chain_id, 0, origin, batch.header.digest, envelope.id)
    preimage = (
        hashing.TAG_ACCEPTED
        + network.genesis.chain_id
        + struct.pack(">QH", 0, len(origin))
        + origin.encode()
        + batch.header.digest
        + envelope.id
    )
    return {
        "epoch": 0,
        "origin": origin,
        "batch_digest": batch.header.digest.hex(),
        "envelope_id": envelope.id.hex(),
        "preimage": preimage.hex(),
        "signed_message": message.hex(),
        "signature": seeded_key(origin, "consensus").sign(message).hex(),
    }


def _statement(statement: Statement) -> dict[str, Any]:
    return {
        "kind": type(statement.content).__name__,
        "raw": statement.raw.hex(),
        "digest": statement.digest.hex(),
    }


def _payload_with_statements(network: Network) -> dict[str, Any]:
    digests = network.blocks[1].payload.batch_digests
    payload = wire.encode_payload(digests, [statement.raw for statement in small_network.statements(network)])
    return {
        "batch_digests": _plain(digests),
        "statements": _plain(payload.statements),
        "raw": payload.raw.hex(),
        "payload_root": payload.root.hex(),
    }


def _votes(network: Network, block: Block) -> list[dict[str, Any]]:
    header, votes = block.header, []
    for kind in VoteKind:
        nullify = kind is VoteKind.NULLIFY
        view = 2 if nullify else header.view
        parent_view, digest = (0, b"") if nullify else (header.parent_view, header.digest)
        message = vote_message(network.genesis.chain_id, kind, 0, view, parent_view, digest)
        preimage = hashing.TAG_VOTE + network.genesis.chain_id + struct.pack(">BQQ", kind, 0, view)
        preimage += b"" if nullify else struct.pack(">Q", parent_view) + digest
        votes.append(
            {
                "kind": kind.name,
                "epoch": 0,
                "view": view,
                "parent_view": parent_view,
                "digest": digest.hex(),
                "signer": 0,
                "preimage": preimage.hex(),
                "signed_message": message.hex(),
                "signature": seeded_key("alpha", "consensus").sign(message).hex(),
            }
        )
    return votes


def _certificate(what: str, certificate: Certificate | None) -> dict[str, Any]:
    if certificate is None:
        raise ValueError(f"the network has no {what}")
    message = wire.encode_certificate(certificate)
    return {
        "what": what,
        "kind": certificate.kind.value,
        "epoch": certificate.epoch,
        "view": certificate.view,
        "parent_view": certificate.parent_view,
        "digest": certificate.digest.hex(),
        "signers": list(certificate.signers),
        "signer_bitmap": message.signer_bitmap.hex(),
        "signatures": _plain(certificate.signatures),
        "raw": wire.certificate_bytes(certificate).hex(),
    }


def _header(header: Header) -> dict[str, Any]:
    names = [name for name in Header.__dataclass_fields__ if name not in ("raw", "digest")]
    return {name: _plain(getattr(header, name)) for name in names} | {
        "raw": header.raw.hex(),
        "digest": header.digest.hex(),
    }


def _receipts(network: Network) -> dict[str, Any]:
    head = network.state.head
    if head is None:
        raise ValueError("the network has no state")
    blobs = [network.state.receipt_blob(position) for position in range(head.receipt_count)]
    roots = []
    for height in range(head.height + 1):
        record = network.state.height_record(height)
        if record is not None:
            roots.append({"height": height, "count": record.receipt_count, "receipts_root": record.receipts_root.hex()})
    return {
        "receipts": [_receipt(blob) for blob in blobs],
        "roots": roots,
    }


def _receipt(blob: bytes) -> dict[str, Any]:
    receipt = wire.decode_receipt(blob)
    fields = {name: _plain(getattr(receipt, name)) for name in receipt.__struct_fields__ if name != "raw"}
    return fields | {"raw": blob.hex(), "leaf_hash": receipts_range.leaf_hash(blob).hex()}


def _records(network: Network) -> list[dict[str, Any]]:
    records = []
    moment = Moment(height=6, time_ms=small_network.TIME_MS + 6_000, epoch=0, view=10)
    for statement in small_network.statements(network):
        execute_statement(statement, network.state, moment)
    write_mark(network.state, moment, parent_time_ms=small_network.TIME_MS - 1)
    rebuilt = load_genesis(small_network.rebuilt_genesis())
    network.state.put(PREDECESSORS, rebuilt.height.to_bytes(8, "big"), predecessor_record(rebuilt))
    for table in TABLES:
        key, record = next(iter(network.state.iterate(table)))
        if table is POLICIES:
            key, record = POLICY_1, network.state.get(POLICIES, POLICY_1)
        records.append(
            {
                "table": table.name,
                "key": (table.prefix + key).hex(),
                "fields": _plain(msgspec.to_builtins(record, builtin_types=(bytes,))),
                "value": table.encode(record).hex(),
            }
        )
    network.state.discard()
    return records


def _state_proofs() -> list[dict[str, Any]]:
    """The proofs of commitment.json, whose log fills two twigs, as they stand in a proof file."""
    log, _, roots = commitment_log()
    proofs = []
    for what, key, at, value_at in ASKED:
        root = roots[at][1]
        proof = log.prove(key, at, len(roots) - 1, value_at)
        shown = commitment.verify(proof, root)
        proofs.append(
            {
                "what": what,
                "state_root": root.hex(),
                "proof": encode_state_proof(proof).hex(),
                "key": shown.key.hex(),
                "value": shown.value.hex(),
                "written_at": shown.written_at,
                "superseded_at": shown.superseded_at,
            }
        )
    return proofs


def _snapshot(network: Network) -> dict[str, Any]:
    """The snapshot that the last header of the network certifies, and parts of it."""
    pinned = pin(network.state, network)
    manifest = pinned.manifest
    leaves = [pinned.leaves(first, stop) for first, stop in ((0, manifest.leaf_count), (5, 8))]
    receipts = [pinned.receipts(first, stop) for first, stop in ((0, manifest.receipt_count), (2, 3))]
    return {
        "height": pinned.height,
        "certified_by": manifest.header.subject.height,
        "manifest": manifest.raw.hex(),
        "log_root": manifest.log_root.hex(),
        "leaf_count": manifest.leaf_count,
        "receipts_tree_root": manifest.receipts_tree_root.hex(),
        "receipt_count": manifest.receipt_count,
        "leaf_chunks": [_chunk(encode_chunk(chunk).leaves, len(chunk.leaves)) for chunk in leaves],
        "receipt_chunks": [_chunk(encode_chunk(chunk).receipts, len(chunk.receipts)) for chunk in receipts],
    }


def _chunk(message: Any, count: int) -> dict[str, Any]:
    return {"first": message.first, "count": count, "raw": message.SerializeToString(deterministic=True).hex()}


def files() -> dict[str, bytes]:
    """Path below this folder -> contents, of everything made here."""
    network = small_network.build()
    made = {"protocol.json": (json.dumps(protocol_vectors(network), indent=1) + "\n").encode()}
    return made | {f"proofs/{name}": contents for name, contents in proof_files(network).items()}


def main(_: Sequence[str] = ()) -> None:
    """Write them."""
    (HERE / "proofs").mkdir(exist_ok=True)
    for name, contents in files().items():
        (HERE / name).write_bytes(contents)


if __name__ == "__main__":
    main()
