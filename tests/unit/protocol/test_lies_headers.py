"""Liars about certificates, headers and the genesis: the product and the stranger refuse the same.

Every lie differs from something both accept in the one respect that names it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from consensus.types import Certificate, Justification, VoteKind
from consensus.votes import vote_message
from crypto.hashing import TAG_HEADER, tagged
from ledger import proof_building as building
from ledger import wire
from ledger.cards import GenesisError
from ledger.genesis import load_genesis
from ledger.proof_types import HeaderProof
from ledger.wire.proofs import encode_header_proof
from lossbook.v1 import block_pb2, proof_pb2
from tests.unit.protocol import stranger
from tests.unit.protocol.liars import (
    OTHER,
    QUORUM,
    accepted,
    altered,
    envelope_proof,
    file_of,
    justification,
    known,
    made,
    receipt_proof,
    record_proof,
    refused,
    signed,
)
from tests.unit.protocol.stranger import Refused
from tests.vectors.small_network import INSURERS, TIME_MS, seeded_key

# ---------------------------------------------------------------- certificates


def certified(certificate: Certificate) -> bytes:
    """The record's proof with another finalization."""
    return file_of(replace(record_proof(), header=HeaderProof(record_proof().header.headers, certificate)))


def votes(signers: Sequence[int], kind: VoteKind = VoteKind.FINALIZE, height: int = 5) -> Certificate:
    return made().of_block(kind, made().blocks[height - 1].header, signers)


def signed_tuple(kind: VoteKind, epoch: int, view: int, parent_view: int, digest: bytes) -> Certificate:
    """Genuine signatures of a quorum under whatever tuple is given, also one that no vote can have."""
    message = vote_message(made().genesis.chain_id, kind, epoch, view, parent_view, digest)
    signatures = tuple(seeded_key(INSURERS[signer], "consensus").sign(message) for signer in QUORUM)
    return Certificate(kind, epoch, view, parent_view, digest, QUORUM, signatures)


def of_epoch_1() -> bytes:
    good = votes(QUORUM)
    return certified(signed_tuple(good.kind, 1, good.view, good.parent_view, good.digest))


def by_a_stranger() -> bytes:
    good = votes(QUORUM)
    return certified(Certificate(good.kind, 0, good.view, good.parent_view, good.digest, (0, 1, 4), good.signatures))


def one_signature_short() -> bytes:
    message = proof_pb2.Proof.FromString(certified(votes((0, 1, 2, 3))))
    del message.record.header.finalization.signatures[3]
    return message.SerializeToString(deterministic=True)


CERTIFICATES: dict[str, Callable[[], bytes]] = {
    "two of four": lambda: certified(votes((0, 1))),
    "one signer twice": lambda: certified(votes((0, 1, 1))),
    "a notarization": lambda: certified(votes(QUORUM, VoteKind.NOTARIZE)),
    "of another block": lambda: certified(votes(QUORUM, height=4)),
    "of another epoch": of_epoch_1,
    "by a signer who is no validator": by_a_stranger,
    "signatures of others": lambda: certified(replace_signatures(votes(QUORUM), votes((1, 2, 3)))),
    "one signature short": one_signature_short,
}


def replace_signatures(good: Certificate, other: Certificate) -> Certificate:
    return Certificate(good.kind, good.epoch, good.view, good.parent_view, good.digest, good.signers, other.signatures)


@pytest.mark.parametrize("lie", CERTIFICATES)
def test_invalid_certificate(lie: str) -> None:
    refused(CERTIFICATES[lie]())


@pytest.mark.parametrize("signers", [(0, 1, 2), (1, 2, 3), (0, 1, 2, 3)])
def test_any_quorum_will_do(signers: tuple[int, ...]) -> None:
    accepted(certified(votes(signers)))


# ---------------------------------------------------------------- headers that a quorum signed


def newest(**changes: object) -> bytes:
    """The record under an altered header of height 5."""
    return file_of(replace(record_proof(), header=signed((altered(5, **changes), justification(5)))))


def child(**changes: object) -> bytes:
    """An envelope of block 2, of which only its child is finalized; the child is altered."""
    header = signed((made().blocks[1].header, justification(2)), (altered(3, **changes), justification(3)))
    return file_of(replace(envelope_proof(), header=header))


def justified(parent: Certificate | None, nullifications: Sequence[Certificate]) -> bytes:
    """An envelope of block 2, whose header commits to this justification."""
    other = wire.make_justification(parent, nullifications)
    header = signed((altered(2, justification_digest=other.digest), other))
    return file_of(replace(envelope_proof(), header=header))


def other_signers() -> Justification:
    """As good as the one that block 2 commits to."""
    return wire.make_justification(votes((0, 1, 2), VoteKind.NOTARIZE, 1), skipped())


def nullified_parent() -> Certificate:
    """A nullification of view 1 that names the block of view 1."""
    return signed_tuple(VoteKind.NULLIFY, 0, 1, 0, made().blocks[0].header.digest)


def short_payload_root() -> bytes:
    message = block_pb2.Header.FromString(made().blocks[4].header.raw)
    message.payload_root = bytes(31)
    raw = message.SerializeToString(deterministic=True)
    header = dataclasses.replace(made().blocks[4].header, raw=raw, digest=tagged(TAG_HEADER, raw))
    return file_of(replace(record_proof(), header=signed((header, justification(5)))))


def skipped() -> tuple[Certificate, ...]:
    return justification(2).nullifications


HEADERS: dict[str, Callable[[], bytes]] = {
    "another version": lambda: newest(version=2),
    "another chain": lambda: newest(chain_id=OTHER),
    "another epoch": lambda: newest(epoch=1),
    "another validator set": lambda: newest(valset_hash=OTHER),
    "a next validator set": lambda: newest(next_valset_hash=OTHER),
    "another commitment scheme": lambda: newest(state_scheme=2),
    "no view of its own": lambda: newest(view=6),
    "a state from the future": lambda: newest(state_height=5),
    "a skipped view unaccounted for": lambda: newest(view=8),
    "2^64 - 8 skipped views": lambda: newest(view=(1 << 64) - 1),
    "an older state": lambda: newest(state_height=3),
    "another state": lambda: newest(state_root=OTHER),
    "child of another": lambda: child(parent_digest=OTHER),
    "child of another view": lambda: child(parent_view=3),
    "child with a gap": lambda: child(height=4),
    "child of the same time": lambda: child(timestamp_ms=made().blocks[1].header.timestamp_ms),
    "another justification": lambda: file_of(
        replace(envelope_proof(), header=signed((made().blocks[1].header, justification(3))))
    ),
    "another justification as good": lambda: file_of(
        replace(envelope_proof(), header=signed((made().blocks[1].header, other_signers())))
    ),
    "a root of 31 bytes": short_payload_root,
    "a nullification that names the parent": lambda: justified(nullified_parent(), skipped()),
    "a notarization of nothing for a skipped view": lambda: justified(
        justification(2).parent, (signed_tuple(VoteKind.NOTARIZE, 0, 2, 0, b""), skipped()[1])
    ),
    "no nullification of view 3": lambda: justified(justification(2).parent, skipped()[:1]),
    "one nullification twice": lambda: justified(justification(2).parent, skipped()[:1] * 2),
    "nullifications descending": lambda: justified(justification(2).parent, skipped()[::-1]),
    "a nullification too many": lambda: justified(justification(2).parent, skipped() + skipped()[:1]),
    "no certificate of the parent": lambda: justified(None, skipped()),
    "a nullification for the parent": lambda: justified(
        made().certificate(VoteKind.NULLIFY, 1, 0, b"", QUORUM), skipped()
    ),
    "a certificate of another parent": lambda: justified(votes(QUORUM, VoteKind.NOTARIZE, 3), skipped()),
    "a minority's certificate of the parent": lambda: justified(votes((0, 1), VoteKind.NOTARIZE, 1), skipped()),
    "a certificate of the genesis": lambda: file_of(
        replace(
            receipt_proof(),
            header=signed(
                (altered(5, parent_view=0, view=1, justification_digest=justification(5).digest), justification(5))
            ),
        )
    ),
}


@pytest.mark.parametrize("lie", HEADERS)
def test_invalid_header(lie: str) -> None:
    refused(HEADERS[lie]())


def test_the_same_headers_unaltered() -> None:
    accepted(newest())
    accepted(child())
    accepted(justified(justification(2).parent, skipped()))
    accepted(justified(votes(QUORUM, VoteKind.FINALIZE, 1), skipped()))
    accepted(newest(timestamp_ms=TIME_MS))
    accepted(justified(other_signers().parent, skipped()))


@pytest.mark.parametrize("changes", [{"parent_digest": OTHER}, {"height": 2}], ids=["digest", "height"])
def test_invalid_genesis_as_parent(changes: dict[str, object]) -> None:
    """Only who computes the genesis header can tell; the page leaves it open, the stranger does."""
    proof = building.header_proof(made(), 1)
    assert stranger.check_headers(encode_header_proof(proof).SerializeToString(), known())["height"] == 1
    changed = signed((altered(1, **changes), justification(1)))
    with pytest.raises(Refused):
        stranger.check_headers(encode_header_proof(changed).SerializeToString(), known())


@pytest.mark.parametrize("height", range(1, 6))
def test_a_header_without_finalization_is_proved_by_its_child(height: int) -> None:
    proof = building.header_proof(made(), height)
    assert len(proof.headers) == (2 if height in (2, 4) else 1)
    assert stranger.check_headers(encode_header_proof(proof).SerializeToString(), known())["height"] == height


# ---------------------------------------------------------------- genesis


def genesis_with(change: Callable[[dict[str, Any]], None]) -> bytes:
    genesis = json.loads(made().genesis.raw)
    change(genesis)
    return json.dumps(genesis).encode()


def _exchange_signatures(genesis: dict[str, Any]) -> None:
    first, second = genesis["cards"][:2]
    first["signature"], second["signature"] = second["signature"], first["signature"]


def _exchange_possessions(genesis: dict[str, Any]) -> None:
    first, second = genesis["cards"][:2]
    first["possession"], second["possession"] = second["possession"], first["possession"]


GENESES: dict[str, bytes] = {
    "another format": genesis_with(lambda genesis: genesis.update(format="lossbook-genesis-2")),
    "cards out of order": genesis_with(lambda genesis: genesis["cards"].reverse()),
    "a card twice": genesis_with(lambda genesis: genesis["cards"].insert(0, genesis["cards"][0])),
    "no validator": genesis_with(lambda genesis: genesis.update(cards=genesis["cards"][-1:])),
    "signatures exchanged": genesis_with(_exchange_signatures),
    "possessions exchanged": genesis_with(_exchange_possessions),
    "not JSON": made().genesis.raw[:-3],
}


@pytest.mark.parametrize("lie", GENESES)
def test_invalid_genesis(lie: str) -> None:
    with pytest.raises(GenesisError):
        load_genesis(GENESES[lie])
    with pytest.raises(Refused):
        stranger.read_network(GENESES[lie])


def test_invalid_name_twice_in_the_genesis() -> None:
    raw = made().genesis.raw.replace(b'"name": "vectors"', b'"name": "a", "name": "vectors"')
    with pytest.raises(Refused, match="twice"):
        stranger.read_network(raw)
