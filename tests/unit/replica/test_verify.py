"""What a replica believes of a feed, and what it refuses, with the height and the culprit named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consensus.justification import HeaderRules
from consensus.types import Certificate, VoteKind
from crypto.keys import verify
from ledger.types import Block
from ledger.wire import (
    decode_batch,
    decode_envelope,
    encode_batch,
    encode_batch_header,
    encode_envelope,
    encode_payload,
    make_justification,
)
from replica.errors import FeedError, ForgedBlock, ForgedCertificate, Gap, TruncatedStream
from replica.verify import PENDING_BLOCKS_MAX, ChainVerifier, StartPoint, VerifiedBlock
from tests.support.chain import Chain, altered, altered_certificate, altered_header, sign_batch
from tests.support.evidence import forged_statement, statement
from tests.support.insurers import policy_issue

SOURCE = "insurer-2"


def make_verifier(chain: Chain, start: StartPoint | None = None) -> ChainVerifier:
    return ChainVerifier(
        chain_id=chain.genesis.chain_id,
        epochs={0: HeaderRules(1, chain.genesis.chain_id, chain.validators, chain.genesis_header)},
        start=start or StartPoint(chain.genesis_header, {}),
    )


def feed(verifier: ChainVerifier, block: Block, source: str = SOURCE) -> list[VerifiedBlock]:
    examined = verifier.examine(block, source)
    return verifier.accept(examined, [verify(c.public, c.message, c.signature) for c in examined.checks])


def refused(verifier: ChainVerifier, block: Block, kind: type[FeedError], words: str) -> FeedError:
    """The block is refused in these words, its height and source are named, and the honest block still fits."""
    before = (verifier.next_height, verifier.pending_blocks)
    with pytest.raises(kind, match=words) as caught:
        feed(verifier, block)
    assert type(caught.value) is kind
    assert caught.value.source == SOURCE
    assert (verifier.next_height, verifier.pending_blocks) == before
    return caught.value


@pytest.fixture
def chain() -> Chain:
    """Three blocks: one policy, nothing, two batches after two skipped views."""
    made = Chain()
    made.block([made.ledger.envelope([policy_issue()])])
    made.block()
    made.block(
        [made.ledger.envelope([policy_issue(policy_id=b"policy-000000002")])],
        [made.ledger.envelope([policy_issue(policy_id=b"policy-000000003")])],
        skipped_views=2,
    )
    return made


# ---------------------------------------------------------------- the valid case


def test_an_honest_chain_comes_out_block_by_block(chain: Chain) -> None:
    verifier = make_verifier(chain)
    heights = [verified.header.height for block in chain.blocks for verified in feed(verifier, block)]
    assert heights == [1, 2, 3]
    assert verifier.final_height == 3


def test_every_signature_is_counted(chain: Chain) -> None:
    verifier = make_verifier(chain)
    signatures = [verified.signatures for block in chain.blocks for verified in feed(verifier, block)]
    # finalization 3; batch 1 and envelope 6 keys; parent 3; nullifications 2 x 3
    assert signatures == [3 + 1 + 6, 3 + 3, 3 + 3 + 2 * 3 + 2 * (1 + 6)]


def test_a_block_without_its_own_finalization_waits_for_a_descendants() -> None:
    chain = Chain()
    verifier = make_verifier(chain)
    assert feed(verifier, chain.block(finalized=False)) == []
    assert feed(verifier, chain.block(finalized=False)) == []
    assert verifier.final_height == 0
    assert [verified.header.height for verified in feed(verifier, chain.block())] == [1, 2, 3]


def test_a_finalization_that_serves_as_the_parents_certificate_finalizes_too() -> None:
    chain = Chain()
    verifier = make_verifier(chain)
    feed(verifier, chain.block(finalized=False))
    released = feed(verifier, chain.block(finalized=False, parent_kind=VoteKind.FINALIZE))
    assert [verified.header.height for verified in released] == [1]
    assert released[0].block.finalization == chain.blocks[1].justification.parent  # kept: it proves this tip
    assert verifier.pending_blocks == 1


def test_a_finalization_by_all_four_is_as_good(chain: Chain) -> None:
    block = chain.blocks[0]
    block = altered(block, finalization=chain.finalization(block.header, (0, 1, 2, 3)))
    assert len(feed(make_verifier(chain), block)) == 1


def test_verification_goes_on_where_it_stopped(chain: Chain) -> None:
    first = make_verifier(chain)
    (verified,) = feed(first, chain.blocks[0])
    again = make_verifier(chain, StartPoint(verified.header, verified.heads))
    assert again.next_height == 2
    assert [v.header.height for block in chain.blocks[1:] for v in feed(again, block)] == [2, 3]


def test_another_source_starts_after_the_last_final_block() -> None:
    chain = Chain()
    verifier = make_verifier(chain)
    first, second = chain.block(), chain.block(finalized=False)
    feed(verifier, first)
    feed(verifier, second)
    verifier.forget_unfinal()
    assert verifier.next_height == 2
    second = altered(second, finalization=chain.finalization(second.header))
    assert [verified.header.height for verified in feed(verifier, second)] == [2]


# ---------------------------------------------------------------- forged blocks


def with_envelope(block: Block, raw: bytes, *, new_header: bool) -> Block:
    """The block's first batch with its first envelope exchanged, under the genuine batch header or one to match."""
    batch = block.batches[0]
    envelopes = (raw, *batch.envelopes[1:])
    header = batch.header.raw
    if new_header:
        header = encode_batch_header(
            chain_id=batch.header.chain_id,
            epoch=0,
            origin=batch.header.origin,
            incarnation=batch.header.incarnation,
            sequence=batch.header.sequence,
            previous=batch.header.previous,
            envelopes=envelopes,
            attachment_root=batch.header.attachment_root,
        )
    return altered(block, batches=(decode_batch(encode_batch(header, batch.signature, envelopes)), *block.batches[1:]))


def altered_operation(block: Block) -> bytes:
    """The block's first envelope with one byte of its operation changed, as a relay could do it."""
    envelope = decode_envelope(block.batches[0].envelopes[0])
    body = envelope.body.replace(b"policy-000000001", b"policy-00000000X")
    assert body != envelope.body
    return encode_envelope(body, envelope.signatures)


def test_invalid_an_altered_operation(chain: Chain) -> None:
    block = chain.blocks[0]
    forged = with_envelope(block, altered_operation(block), new_header=False)
    error = refused(make_verifier(chain), forged, ForgedBlock, "holds other envelopes than it commits to")
    assert error.height == 1
    assert "insurer-2" in error.diagnostics()


def test_invalid_an_altered_operation_with_a_batch_header_to_match(chain: Chain) -> None:
    block = chain.blocks[0]
    forged = with_envelope(block, altered_operation(block), new_header=True)
    refused(make_verifier(chain), forged, ForgedBlock, "not those it lists")


def test_invalid_an_altered_operation_with_batch_header_and_payload_to_match(chain: Chain) -> None:
    block = chain.blocks[0]
    forged = with_envelope(block, altered_operation(block), new_header=True)
    forged = altered(forged, payload=encode_payload([batch.header.digest for batch in forged.batches]))
    refused(make_verifier(chain), forged, ForgedBlock, "not the one its header commits to")


def test_invalid_an_altered_operation_with_everything_to_match_but_the_certificate(chain: Chain) -> None:
    block = chain.blocks[0]
    forged = with_envelope(block, altered_operation(block), new_header=True)
    payload = encode_payload([batch.header.digest for batch in forged.batches])
    forged = altered_header(altered(forged, payload=payload), payload_root=payload.root)
    refused(make_verifier(chain), forged, ForgedCertificate, "for another block")


def test_invalid_an_altered_operation_that_a_quorum_signed() -> None:
    """More than f validators collude: the client's own signature still convicts them."""
    chain = Chain()
    envelope = chain.ledger.envelope([policy_issue()])
    body = envelope.body.replace(b"policy-000000001", b"policy-00000000X")
    block = chain.block([decode_envelope(encode_envelope(body, envelope.signatures))])
    refused(make_verifier(chain), block, ForgedBlock, "envelope .* has a bad signature")


def test_invalid_a_stripped_co_signature() -> None:
    chain = Chain()
    envelope = chain.ledger.envelope([policy_issue()])
    block = chain.block([decode_envelope(encode_envelope(envelope.body, envelope.signatures[:-1]))])
    refused(make_verifier(chain), block, ForgedBlock, "MISSING_SIGNATURE")


def test_invalid_an_envelope_of_another_network() -> None:
    chain = Chain()
    block = chain.block([chain.ledger.envelope([policy_issue()], chain_id=bytes(32))])
    refused(make_verifier(chain), block, ForgedBlock, "WRONG_CHAIN")


def test_invalid_a_batch_signed_by_another_origin(chain: Chain) -> None:
    block = chain.blocks[0]
    batch = block.batches[0]
    forged = altered(block, batches=(sign_batch(1, batch.header.raw, batch.envelopes),))
    refused(make_verifier(chain), forged, ForgedBlock, "batch of insurer-1 has a bad signature")


def test_invalid_a_batch_that_skips_one() -> None:
    chain = Chain()
    chain.batch(0, [chain.ledger.envelope([policy_issue()]).raw])  # never listed
    block = chain.block([chain.ledger.envelope([policy_issue()])])
    refused(make_verifier(chain), block, ForgedBlock, "does not follow its last listed batch")


def test_invalid_a_batch_listed_again(chain: Chain) -> None:
    verifier = make_verifier(chain)
    for block in chain.blocks:
        feed(verifier, block)
    chain._heads.clear()
    block = chain.block([chain.ledger.envelope([policy_issue()])])
    refused(verifier, block, ForgedBlock, "does not follow its last listed batch")


def test_invalid_batches_left_out(chain: Chain) -> None:
    refused(make_verifier(chain), altered(chain.blocks[0], batches=()), ForgedBlock, "not those it lists")


def test_invalid_batches_in_another_order(chain: Chain) -> None:
    verifier = make_verifier(chain)
    feed(verifier, chain.blocks[0])
    feed(verifier, chain.blocks[1])
    block = chain.blocks[2]
    refused(verifier, altered(block, batches=block.batches[::-1]), ForgedBlock, "not those it lists, in that order")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "protocol version"),
        ({"chain_id": b"x" * 32}, "another chain"),
        ({"epoch": 1}, "another epoch"),
        ({"valset_hash": b"x" * 32}, "another validator set"),
        ({"timestamp_ms": 1}, "not after its parent's"),
        ({"state_height": 2}, "state height"),
    ],
)
def test_invalid_header_fields(chain: Chain, change: dict[str, object], words: str) -> None:
    verifier = make_verifier(chain)
    feed(verifier, chain.blocks[0])
    refused(verifier, altered_header(chain.blocks[1], **change), ForgedBlock, words)


def test_invalid_a_state_height_that_goes_back(chain: Chain) -> None:
    verifier = make_verifier(chain)
    for block in chain.blocks:
        feed(verifier, block)
    forged = altered_header(chain.block(), state_height=1)
    refused(verifier, forged, ForgedBlock, "below its parent's")


def test_statements_are_checked_and_handed_on() -> None:
    chain = Chain()
    verifier = make_verifier(chain)
    listed = [statement(1).raw, statement(2).raw]
    (verified,) = feed(verifier, chain.block(statements=listed))
    assert [each.raw for each in verified.statements] == listed


@pytest.mark.parametrize(
    ("raw", "why"),
    [(forged_statement(1).raw, "not true: bad signature"), (b"\x7a\x00", "does not decode")],
    ids=["forged", "of no kind"],
)
def test_invalid_statements(raw: bytes, why: str) -> None:
    chain = Chain()
    block = chain.block()
    payload = encode_payload([], [raw])
    refused(
        make_verifier(chain),
        altered_header(altered(block, payload=payload), payload_root=payload.root),
        ForgedBlock,
        why,
    )


def test_invalid_a_batch_with_attachments(chain: Chain) -> None:
    batch = chain.blocks[0].batches[0]
    header = encode_batch_header(
        chain_id=batch.header.chain_id,
        epoch=0,
        origin=batch.header.origin,
        incarnation=1,
        sequence=1,
        previous=bytes(32),
        envelopes=batch.envelopes,
        attachment_root=b"x" * 32,
    )
    batch = sign_batch(0, header, batch.envelopes)
    payload = encode_payload([batch.header.digest])
    block = altered(chain.blocks[0], batches=(batch,), payload=payload, finalization=None)
    refused(make_verifier(chain), altered_header(block, payload_root=payload.root), ForgedBlock, "has attachments")


# ---------------------------------------------------------------- forged certificates


def test_invalid_a_changed_roots_finalization_is_for_another_block(chain: Chain) -> None:
    forged = altered_header(chain.blocks[0], state_root=bytes(32))
    refused(make_verifier(chain), forged, ForgedCertificate, "for another block")


Forge = Callable[[Certificate], Certificate]
FORGERIES: dict[str, tuple[Forge, str]] = {
    "too few signers": (
        lambda c: altered_certificate(c, signers=c.signers[:2], signatures=c.signatures[:2]),
        "no quorum",
    ),
    "a signer twice": (
        lambda c: altered_certificate(c, signers=(0, 1, 1), signatures=(*c.signatures[:2], c.signatures[1])),
        "do not ascend",
    ),
    "a signer outside the set": (lambda c: altered_certificate(c, signers=(0, 1, 4)), "not in the validator set"),
    "a far bit": (lambda c: altered_certificate(c, signers=(0, 1, 255)), "not in the validator set"),
    "the wrong signers": (lambda c: altered_certificate(c, signers=(0, 1, 3)), "bad signature"),
    "a garbled signature": (
        lambda c: altered_certificate(c, signatures=(*c.signatures[:2], bytes(64))),
        "bad signature",
    ),
    "fewer signatures than signers": (
        lambda c: altered_certificate(c, signatures=c.signatures[:2]),
        "differ in number",
    ),
    "another epoch": (lambda c: altered_certificate(c, epoch=1), "another epoch"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_invalid_finalizations(chain: Chain, forgery: str) -> None:
    forge, words = FORGERIES[forgery]
    block = chain.blocks[0]
    assert block.finalization is not None
    forged = altered(block, finalization=forge(block.finalization))
    assert refused(make_verifier(chain), forged, ForgedCertificate, words).height == 1


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("place", ["parent", "first nullification", "second nullification"])
def test_invalid_certificates_in_a_justification(chain: Chain, forgery: str, place: str) -> None:
    forge, words = FORGERIES[forgery]
    verifier = make_verifier(chain)
    feed(verifier, chain.blocks[0])
    feed(verifier, chain.blocks[1])
    refused(verifier, with_justification(chain, chain.blocks[2], place, forge), ForgedCertificate, words)


def with_justification(chain: Chain, block: Block, place: str, forge: Forge) -> Block:
    """A block whose committed justification holds a forged certificate: its leader, and a quorum, lied."""
    parent, nullifications = block.justification.parent, list(block.justification.nullifications)
    assert parent is not None
    if place == "parent":
        parent = forge(parent)
    else:
        at = 0 if place.startswith("first") else 1
        nullifications[at] = forge(nullifications[at])
    justification = make_justification(parent, nullifications)
    forged = altered_header(altered(block, justification=justification), justification_digest=justification.digest)
    return altered(forged, finalization=chain.finalization(forged.header))


def test_invalid_a_justification_other_than_the_committed_one(chain: Chain) -> None:
    verifier = make_verifier(chain)
    feed(verifier, chain.blocks[0])
    block = chain.blocks[1]
    genuine = chain.notarization(chain.blocks[0].header, (1, 2, 3))
    forged = altered(block, justification=make_justification(genuine, []))
    refused(verifier, forged, ForgedCertificate, "not the one its header commits to")


@pytest.mark.parametrize("dropped", ["parent", "nullification"])
def test_invalid_a_missing_certificate_in_the_justification(chain: Chain, dropped: str) -> None:
    verifier = make_verifier(chain)
    feed(verifier, chain.blocks[0])
    feed(verifier, chain.blocks[1])
    block = chain.blocks[2]
    parent: Certificate | None = block.justification.parent
    nullifications = list(block.justification.nullifications)
    if dropped == "parent":
        parent = None
    else:
        nullifications.pop()
    justification = make_justification(parent, nullifications)
    forged = altered_header(altered(block, justification=justification), justification_digest=justification.digest)
    forged = altered(forged, finalization=chain.finalization(forged.header))
    words = "no certificate of the parent" if dropped == "parent" else "1 nullifications for 2 skipped views"
    refused(verifier, forged, ForgedCertificate, words)


def test_invalid_an_absurd_number_of_skipped_views(chain: Chain) -> None:
    verifier = make_verifier(chain)
    feed(verifier, chain.blocks[0])
    forged = altered_header(chain.blocks[1], view=(1 << 64) - 1)
    refused(verifier, forged, ForgedCertificate, "skipped views")


def test_invalid_a_notarization_served_as_finalization(chain: Chain) -> None:
    block = chain.blocks[0]
    forged = altered(block, finalization=chain.notarization(block.header))
    refused(make_verifier(chain), forged, ForgedCertificate, "of another kind")


# ---------------------------------------------------------------- gaps and truncated streams


def test_invalid_a_height_left_out(chain: Chain) -> None:
    verifier = make_verifier(chain)
    feed(verifier, chain.blocks[0])
    assert refused(verifier, chain.blocks[2], Gap, "height 3 was served instead").height == 2


def test_invalid_a_block_served_twice(chain: Chain) -> None:
    verifier = make_verifier(chain)
    feed(verifier, chain.blocks[0])
    refused(verifier, chain.blocks[0], Gap, "height 1 was served instead")


def test_invalid_a_block_of_another_branch(chain: Chain) -> None:
    other = Chain()
    other.block(skipped_views=1)
    verifier = make_verifier(chain)
    feed(verifier, chain.blocks[0])
    refused(verifier, other.block(), Gap, "does not build on the block served before it")


def test_a_stream_that_ends_before_a_certificate_is_truncated() -> None:
    chain = Chain()
    verifier = make_verifier(chain)
    feed(verifier, chain.block())
    assert verifier.stream_ended(SOURCE) is None
    feed(verifier, chain.block(finalized=False))
    ended = verifier.stream_ended(SOURCE)
    assert isinstance(ended, TruncatedStream)
    assert (ended.height, ended.source) == (3, SOURCE)
    assert verifier.final_height == 1


def test_a_stream_that_never_brings_a_certificate_is_refused_at_the_bound() -> None:
    chain = Chain()
    verifier = make_verifier(chain)
    for _ in range(PENDING_BLOCKS_MAX):
        assert feed(verifier, chain.block(finalized=False)) == []
    refused(verifier, chain.block(finalized=False), TruncatedStream, "without any certificate")
