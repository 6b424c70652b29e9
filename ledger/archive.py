"""An archive: the books of a network up to its last final block, which nobody has to believe.

    head      the proof that the last block is final, hand-overs from the genesis on included. Its header carries the
              roots after ``state_height``: log root, root of the tree of receipts and both counts lead to them
    chunks    all leaves and receipts of that state, each proved (``ledger.snapshot``)
    blocks    those after that height, up to the last: each is the parent of the next by its digest, and the last is
              the one that is final. Whoever reads the archive executes them

What is final, is final by Q signatures over the last header; everything else hangs on it by hashes. Where the reader
has accepted a checkpoint of the network, the books have to reach it, and to lead through its block (consensus.md §10).
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.types import Header
from crypto.keys import verify_many
from crypto.merkle import EMPTY_ROOT
from crypto.merkle import root as merkle_root
from ledger.cards import GenesisError
from ledger.checkpoints import Checkpoint
from ledger.codes import Code
from ledger.execution import ExecutableBlock, ListedBatch
from ledger.genesis import Genesis
from ledger.genesis_header import genesis_header_of
from ledger.known_epochs import KnownEpochs
from ledger.ports import HeightRecord
from ledger.proof_errors import BelowCheckpoint, ConflictingHistory, ProofError
from ledger.proof_types import HeaderProof
from ledger.proofs import verify_header_proof
from ledger.snapshot import CertifiedState, StatedLogs
from ledger.types import Batch, Block, Envelope, Statement
from ledger.wellformed import VerifyMany, read_envelope, signature_jobs
from ledger.wire import WireError, decode_statement


class ArchiveError(GenesisError):
    """An archive that cannot be used.

    Attributes:
        part: which part of it, e.g. ``block 12``.
    """

    what_to_do = "Take no part in a network on these books: get the archive again, or another one, and tell the others."

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(f"archive, {part}: {problem}", self.what_to_do)
        self.part = part


class BooksEndTooEarly(ArchiveError):
    """They end below a checkpoint that the reader accepted: blocks that were final are cut off."""

    what_to_do = (
        "Take no part in a network on these books: get the archive of a copy that reaches the checkpoint, and tell the "
        "others and your supervisor who handed this one on."
    )


class BooksOfOtherHistory(ArchiveError):
    """They contradict a checkpoint that the reader accepted."""

    what_to_do = (
        "Take no part in a network on these books. Keep the archive as evidence, and ask your supervisor by another "
        "way which history is the network's."
    )


class ArchiveHead(StatedLogs, frozen=True, gc=False, kw_only=True):
    """What an archive is said to be of; nothing in it is checked yet."""

    chain_id: bytes
    """Of the network."""
    last: HeaderProof
    """Its subject is the header of the last final block."""
    state_header: Header | None
    """Of the block that left the state in the chunks; None where that is the genesis."""
    raw: bytes
    """Serialized, canonical."""


def believed(genesis: Genesis, checkpoint: Checkpoint | None) -> KnownEpochs:
    """What a reader of an archive believes before it is opened: the genesis, and the checkpoint that was accepted last.

    Raises:
        BooksOfOtherHistory: they contradict each other.
    """
    if checkpoint is None:
        return KnownEpochs.of_genesis(genesis)
    try:
        return checkpoint.known_epochs(genesis)
    except ConflictingHistory as error:
        raise BooksOfOtherHistory("old genesis", str(error)) from error


def verify_head(
    head: ArchiveHead, genesis: Genesis, known: KnownEpochs, verify: VerifyMany = verify_many
) -> CertifiedState:
    """The state that the chunks of an archive of this network have to be.

    ``record.block_digest`` is of a header that nothing holds yet: the first block of the archive has to.

    Args:
        known: what is believed (``believed``).

    Raises:
        ArchiveError: it proves nothing of this network.
    """
    last = head.last.subject
    if head.chain_id != genesis.chain_id:
        raise ArchiveError(
            "head", f"it is of network {head.chain_id.hex()[:16]}, the old genesis is of {genesis.chain_id.hex()[:16]}"
        )
    try:
        verify_header_proof(head.last, known, verify)
    except BelowCheckpoint as error:
        raise BooksEndTooEarly(
            "head", f"the books end at height {last.height}, and you accepted a checkpoint of height {known.floor}"
        ) from error
    except ConflictingHistory as error:
        raise BooksOfOtherHistory("head", str(error)) from error
    except ProofError as error:
        raise ArchiveError("head", str(error)) from error
    of_genesis = last.state_height == genesis.height
    start = genesis_header_of(genesis) if of_genesis else head.state_header
    if start is None or start.height != last.state_height or of_genesis == (head.state_header is not None):
        raise ArchiveError("head", f"the header of height {last.state_height} is missing, or another one is there")
    check_history(start, known)
    problem = head.problem(last)
    if problem is not None:
        raise ArchiveError("head", problem)
    return CertifiedState(
        record=head.record(last, start, bytes(32) if of_genesis else start.digest),
        log_root=head.log_root,
        receipts_tree_root=head.receipts_tree_root,
        manifest=head.raw,
    )


def read_block(block: Block, parent: Header, chain_id: bytes, verify: VerifyMany = verify_many) -> ExecutableBlock:
    """The block after ``parent``, ready to execute, with everything in it that its header commits to.

    Raises:
        ArchiveError: it does not follow, or holds something else.
    """
    header, part = block.header, f"block {block.header.height}"
    if header.height != parent.height + 1 or header.parent_digest != parent.digest:
        raise ArchiveError(part, f"it does not follow block {parent.height}")
    if header.chain_id != chain_id:
        raise ArchiveError(part, "it is of another network")
    if header.timestamp_ms <= parent.timestamp_ms:
        raise ArchiveError(part, "it is not dated after the block before it")
    payload = block.payload
    if payload.root != header.payload_root:
        raise ArchiveError(part, "it lists other batches than its header commits to")
    if tuple(batch.header.digest for batch in block.batches) != payload.batch_digests:
        raise ArchiveError(part, "its batches are not those it lists")
    listed = [ListedBatch(batch.header, _envelopes(batch, chain_id, part, verify)) for batch in block.batches]
    return ExecutableBlock.of(header, listed, _statements(payload.statements, part))


def check_history(header: Header, known: KnownEpochs) -> None:
    """That the checkpoint has no other block at this height.

    Blocks below the archive's state are not in it: a checkpoint there counts by its height and its validators alone.

    Raises:
        BooksOfOtherHistory: it has.
    """
    if known.floor_digest and header.height == known.floor and header.digest != known.floor_digest:
        raise BooksOfOtherHistory(
            f"block {header.height}", "the checkpoint that you accepted has another block at this height"
        )


def check_roots(header: Header, own: HeightRecord | None) -> None:
    """That own execution came to what the header says of the state after its ``state_height``; ArchiveError if not."""
    if own is not None and (own.state_root, own.receipts_root) != (header.state_root, header.receipts_root):
        raise ArchiveError(
            f"block {header.height}", f"own execution came to other roots after height {header.state_height}"
        )


def _envelopes(batch: Batch, chain_id: bytes, part: str, verify: VerifyMany) -> Sequence[Envelope]:
    header = batch.header
    if header.chain_id != chain_id or header.attachment_root != EMPTY_ROOT:
        raise ArchiveError(part, f"a batch of {header.origin} is of another network, or has attachments")
    if merkle_root(batch.envelopes) != header.envelope_root:
        raise ArchiveError(part, f"a batch of {header.origin} holds other envelopes than it commits to")
    envelopes: list[Envelope] = []
    for raw in batch.envelopes:
        envelope = read_envelope(raw, chain_id)
        if isinstance(envelope, Code):
            raise ArchiveError(part, f"an envelope in a batch of {header.origin} is ill-formed: {envelope.name}")
        envelopes.append(envelope)
    if not all(verify([job for envelope in envelopes for job in signature_jobs(envelope)])):
        raise ArchiveError(part, f"an envelope in a batch of {header.origin} has a bad signature")
    return envelopes


def _statements(raws: Sequence[bytes], part: str) -> tuple[Statement, ...]:
    try:
        return tuple([decode_statement(raw) for raw in raws])
    except WireError as error:
        raise ArchiveError(part, f"a statement in it is unreadable ({error})") from error
