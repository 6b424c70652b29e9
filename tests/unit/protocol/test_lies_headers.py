"""Liars about certificates, headers and the genesis: the product and the stranger refuse the same.

Every lie differs from something both accept in the one respect that names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from consensus.types import Certificate, Justification, VoteKind
from consensus.votes import vote_message
from crypto.hashing import TAG_CARD
from ledger import proof_building as building
from ledger import proof_errors, proofs, wire
from ledger.cards import GenesisError
from ledger.genesis import load_genesis
from ledger.genesis_header import genesis_header_of
from ledger.parameters import Parameters
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
    first_envelope_proof,
    justification,
    known,
    made,
    record_proof,
    refused,
    rewritten_header,
    rewritten_justification,
    signed,
    with_longer_key,
    with_unknown_field,
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


def with_bitmap(change: Callable[[bytes], bytes]) -> bytes:
    message = proof_pb2.Proof.FromString(certified(votes(QUORUM)))
    finalization = message.record.header.finalization
    finalization.signer_bitmap = change(finalization.signer_bitmap)
    return message.SerializeToString(deterministic=True)


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
    "a bitmap with a zero byte at its end": lambda: with_bitmap(lambda bitmap: bitmap + b"\0"),
    "a bitmap of 33 bytes": lambda: with_bitmap(lambda bitmap: bitmap + bytes(31) + b"\1"),
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


def justified_by(raw: bytes) -> bytes:
    """An envelope of block 2, whose header commits to these bytes as its justification."""
    other = rewritten_justification(raw)
    header = signed((altered(2, justification_digest=other.digest), other))
    return file_of(replace(envelope_proof(), header=header))


def padded_bitmap() -> bytes:
    """The justification of block 2; the bitmap of the parent's certificate has a zero byte more."""
    message = block_pb2.Justification.FromString(justification(2).raw)
    message.parent.signer_bitmap += b"\0"
    return message.SerializeToString(deterministic=True)


def parent_last() -> bytes:
    """The justification of block 2, its fields in the other order."""
    parent = block_pb2.Justification(parent=wire.encode_certificate(votes((0, 1, 3), VoteKind.NOTARIZE, 1)))
    first = parent.SerializeToString(deterministic=True)
    assert justification(2).raw.startswith(first)
    return justification(2).raw.removeprefix(first) + first


def unknown_field_within() -> bytes:
    """The justification of block 2 with an unknown field in the parent's certificate."""
    message = block_pb2.Justification.FromString(justification(2).raw)
    message.parent.MergeFromString(with_unknown_field(b""))
    return message.SerializeToString(deterministic=True)


def in_form(form: Callable[[bytes], bytes]) -> bytes:
    """The record under a header in another form."""
    return file_of(replace(record_proof(), header=signed((rewritten_header(5, form), justification(5)))))


def empty_field_15(raw: bytes) -> bytes:
    """A header whose next validator set is written, and empty."""
    assert raw.endswith(b"\x80\x01\x01")
    return raw[:-3] + b"\x7a\x00" + raw[-3:]


def first(certificate: Certificate | None = None, **changes: object) -> bytes:
    """The envelope of block 1 under an altered header, justified by a certificate of the genesis."""
    why = wire.make_justification(certificate, ())
    header = signed((altered(1, **({"justification_digest": why.digest} | changes)), why))
    return file_of(replace(first_envelope_proof(), header=header))


def nullified_parent() -> Certificate:
    """A nullification of view 1 that names the block of view 1."""
    return signed_tuple(VoteKind.NULLIFY, 0, 1, 0, made().blocks[0].header.digest)


def short_payload_root() -> bytes:
    message = block_pb2.Header.FromString(made().blocks[4].header.raw)
    message.payload_root = bytes(31)
    return in_form(lambda _: message.SerializeToString(deterministic=True))


def skipped() -> tuple[Certificate, ...]:
    return justification(2).nullifications


HEADERS: dict[str, Callable[[], bytes]] = {
    "another version": lambda: newest(version=2),
    "another chain": lambda: newest(chain_id=OTHER),
    "another epoch": lambda: newest(epoch=1),
    "another validator set": lambda: newest(valset_hash=OTHER),
    "a child, and no tail, of the end of the epoch": lambda: file_of(
        replace(
            envelope_proof(),
            header=signed(
                (altered(2, next_valset_hash=OTHER), justification(2)),
                (altered(3, parent_digest=altered(2, next_valset_hash=OTHER).digest), justification(3)),
            ),
        )
    ),
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
    "a certificate of the genesis": lambda: first(signed_tuple(VoteKind.NOTARIZE, 0, 0, 0, made().root.digest)),
    "child of another genesis": lambda: first(parent_digest=OTHER),
    "height 2 on the genesis": lambda: first(height=2),
    "as early as the genesis": lambda: first(timestamp_ms=TIME_MS),
    "height 1 on a block": lambda: file_of(
        replace(envelope_proof(), header=signed((altered(2, height=1, state_height=0), justification(2))))
    ),
    "a header with an unknown field": lambda: in_form(with_unknown_field),
    "a header with a number longer than it must be": lambda: in_form(with_longer_key),
    "a header that writes a default": lambda: in_form(empty_field_15),
    "a header whose version is written twice": lambda: in_form(lambda raw: raw[:2] + raw),
    "a header out of order": lambda: in_form(lambda raw: raw[2:] + raw[:2]),
    "a justification with an unknown field": lambda: justified_by(with_unknown_field(justification(2).raw)),
    "a justification with a length longer than it must be": lambda: justified_by(with_longer_key(justification(2).raw)),
    "a justification out of order": lambda: justified_by(parent_last()),
    "a certificate with an unknown field": lambda: justified_by(unknown_field_within()),
    "a bitmap in a justification with a zero byte at its end": lambda: justified_by(padded_bitmap()),
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
    accepted(justified_by(justification(2).raw))
    accepted(in_form(lambda raw: raw))
    accepted(first())
    accepted(with_bitmap(lambda bitmap: bitmap))
    accepted(file_of(replace(envelope_proof(), header=signed((altered(2, state_height=0), justification(2))))))


def test_invalid_genesis_header_is_the_reason() -> None:
    """What follows from the genesis file decides, not that something else is wrong with such a header."""
    for lie in ("child of another genesis", "as early as the genesis"):
        with pytest.raises(proof_errors.BadHeaderChain, match="child of the genesis"):
            proofs.verify_bytes(HEADERS[lie](), made().genesis)


@pytest.mark.parametrize("height", range(1, 6))
def test_a_header_without_finalization_is_proved_by_its_child(height: int) -> None:
    proof = building.header_proof(made(), height)
    assert len(proof.headers) == (2 if height in (2, 4) else 1)
    assert stranger.check_headers(encode_header_proof(proof).SerializeToString(), known())["height"] == height


# ---------------------------------------------------------------- genesis


def genesis_with(change: Callable[[dict[str, Any]], object]) -> bytes:
    genesis = json.loads(made().genesis.raw)
    change(genesis)
    return json.dumps(genesis).encode()


def _exchange_signatures(genesis: dict[str, Any]) -> None:
    first, second = genesis["cards"][:2]
    first["signature"], second["signature"] = second["signature"], first["signature"]


def _exchange_possessions(genesis: dict[str, Any]) -> None:
    first, second = genesis["cards"][:2]
    first["possession"], second["possession"] = second["possession"], first["possession"]


def _parameter(change: Callable[[dict[str, Any]], object]) -> bytes:
    return genesis_with(lambda genesis: change(genesis["parameters"]))


def _card_file(change: Callable[[dict[str, Any]], object]) -> bytes:
    return genesis_with(lambda genesis: change(genesis["cards"][0]))


def _card_text(old: str, new: str) -> bytes:
    """The genesis with another text on the card of alpha, who signs it."""

    def change(file: dict[str, Any]) -> None:
        assert old in file["card"]
        message = file["card"].replace(old, new, 1).encode()
        file["card"] = message.decode()
        file["signature"] = seeded_key("alpha", "ledger").sign(TAG_CARD + b"\x00" + message).hex()
        file["possession"] = seeded_key("alpha", "consensus").sign(TAG_CARD + b"\x01" + message).hex()

    return _card_file(change)


def _written_twice(name: str, value: str = "0") -> bytes:
    """The file with a name once more before itself."""
    raw = made().genesis.raw
    written = f'"{name}": '.encode()
    assert written in raw
    return raw.replace(written, written + value.encode() + b", " + written, 1)


GENESES: dict[str, bytes] = {
    "another format": genesis_with(lambda genesis: genesis.update(format="lossbook-genesis-2")),
    "cards out of order": genesis_with(lambda genesis: genesis["cards"].reverse()),
    "a card twice": genesis_with(lambda genesis: genesis["cards"].insert(0, genesis["cards"][0])),
    "no validator": genesis_with(lambda genesis: genesis.update(cards=genesis["cards"][-1:])),
    "signatures exchanged": genesis_with(_exchange_signatures),
    "possessions exchanged": genesis_with(_exchange_possessions),
    "not JSON": made().genesis.raw[:-3],
    "no parameters": genesis_with(lambda genesis: genesis.update(parameters={})),
    **{
        f"no {name}": _parameter(lambda parameters, name=name: parameters.pop(name))  # type: ignore[misc]
        for name in Parameters.__struct_fields__
    },
    "no permissions": genesis_with(lambda genesis: genesis.pop("permissions")),
    "no four-eyes amount": _parameter(lambda parameters: parameters["currencies"]["EUR"].pop("four_eyes_minor")),
    "an unknown name": genesis_with(lambda genesis: genesis.update(extra=1)),
    "an unknown parameter": _parameter(lambda parameters: parameters.update(extra=1)),
    "an unknown name at a currency": _parameter(lambda parameters: parameters["currencies"]["EUR"].update(extra=1)),
    "an unknown permission": genesis_with(lambda genesis: genesis["permissions"].update(write=[])),
    "an unknown name in a card file": _card_file(lambda file: file.update(extra="")),
    "an unknown name on a card": _card_text('{"id"', '{"extra":1,"id"'),
    "an unknown name at a key": _card_text('{"public"', '{"extra":1,"public"'),
    "a card without a signature": _card_file(lambda file: file.pop("signature")),
    "a validator's card without possession": _card_file(lambda file: file.pop("possession")),
    "possession without a consensus key": genesis_with(
        lambda genesis: genesis["cards"][-1].update(possession=genesis["cards"][0]["possession"])
    ),
    "a signature in capitals": _card_file(lambda file: file.update(signature=file["signature"].upper())),
    "a signature with a space": _card_file(lambda file: file.update(signature=file["signature"] + " ")),
    "a name twice": _written_twice("name", '"vectors"'),
    "a parameter twice": _written_twice("k_max", "20"),
    "a currency twice": _written_twice("EUR", '{"minor_digits": 2, "four_eyes_minor": 1}'),
    "a name at a currency twice": _written_twice("minor_digits", "2"),
    "a permission twice": _written_twice("read", "[]"),
    "a name in a card file twice": _written_twice("signature", '""'),
    "a name on a card twice": _card_text('{"id"', '{"id":"bravo","id"'),
    "a name at a key twice": _card_text('{"public"', '{"public":"","public"'),
}


@pytest.mark.parametrize("lie", GENESES)
def test_invalid_genesis(lie: str) -> None:
    with pytest.raises(GenesisError):
        load_genesis(GENESES[lie])
    with pytest.raises(Refused):
        stranger.read_network(GENESES[lie])


def test_the_same_geneses_without_lies() -> None:
    unaltered = (genesis_with(lambda genesis: None), _card_text('{"id"', '{"id"'), _written_elsewhere())
    for raw in unaltered:
        assert load_genesis(raw).chain_id == stranger.read_network(raw).chain_id
        assert genesis_header_of(load_genesis(raw)).digest == stranger.read_network(raw).genesis["digest"]


def _written_elsewhere() -> bytes:
    """The order of names, and a possession that is empty, change the chain id and nothing else."""
    genesis = json.loads(made().genesis.raw)
    genesis["cards"][-1]["possession"] = ""
    return json.dumps(genesis, sort_keys=True).encode()
