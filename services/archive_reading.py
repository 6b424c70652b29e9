"""Reading an archive: from the old genesis file, which this organisation has, to the state after the last final block.

A checkpoint of the old network that this organisation accepted is believed like that file: books that end below it, or
contradict it, are refused.

    restore     verifies every part and executes what the state in the chunks does not cover yet
    take_over   ``restore``, then the genesis block of the network that carries these books on; every root compared

Nothing in the archive is believed, and nothing is left behind where any part of it is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import msgspec

from consensus.types import Header
from crypto.keys import verify_many
from ledger.archive import (
    ArchiveError,
    ArchiveHead,
    believed,
    check_history,
    check_roots,
    read_block,
    verify_head,
)
from ledger.block_port import FirstHeightWrite
from ledger.checkpoints import Checkpoint
from ledger.contract import Contracts
from ledger.execution import Execution
from ledger.genesis import Genesis, write_genesis_state
from ledger.genesis_header import genesis_header_of
from ledger.known_epochs import KnownEpochs
from ledger.ports import CorruptStore, HeightRecord, ImportStore
from ledger.predecessor import Predecessor
from ledger.proof_errors import ProofError
from ledger.proof_types import HeaderProof
from ledger.proofs import verify_header_proof
from ledger.snapshot import CertifiedState, LeafChunk, SnapshotError, verify_leaves, verify_receipts
from ledger.snapshot_import import Importer, Log, install
from ledger.state import State
from ledger.succession import BooksMismatch, end_of, succeed
from ledger.wellformed import VerifyMany
from ledger.wire import WireError, decode_block, parse
from ledger.wire.archives import decode_archive_head
from ledger.wire.snapshots import decode_chunk
from lossbook.v1 import block_pb2, peer_pb2
from services.archive_file import ArchiveFile, Frame
from store.blocks import LevelBlockStore
from store.state import LevelStateStore


class Restored(msgspec.Struct, frozen=True):
    """The books of a network, as this machine found them."""

    state: State
    """After the last final block."""
    head: HeightRecord
    last: HeaderProof
    """That the last block is final."""
    end: Predecessor
    """How the network ended; without the roots of what comes next."""
    known: KnownEpochs
    """What was believed of the network before: its genesis, and the checkpoint where one was accepted."""


def restore(
    archive: ArchiveFile,
    old_genesis: Genesis,
    store: ImportStore,
    contracts: Contracts,
    verify: VerifyMany = verify_many,
    checkpoint: Checkpoint | None = None,
) -> Restored:
    """The state after the last final block of an archive, in a new store.

    Args:
        checkpoint: of the old network, accepted before; None if none was.

    Raises:
        ArchiveError: it is not the books of this network, or not all of them.
        StoreError: the disk refuses.
    """
    try:
        known = believed(old_genesis, checkpoint)
        return _Restoring(archive, old_genesis, known, store, contracts, verify).run()
    except (WireError, SnapshotError) as error:
        raise ArchiveError("contents", str(error)) from error


def take_over(
    archive: ArchiveFile,
    old_genesis: Genesis,
    genesis: Genesis,
    target: Path,
    contracts: Contracts,
    verify: VerifyMany = verify_many,
    checkpoint: Checkpoint | None = None,
) -> HeightRecord:
    """The stores ``state`` and ``blocks`` of a home that begins on these books, in an empty directory.

    Args:
        checkpoint: as ``restore``.

    Returns:
        Roots after the genesis block.

    Raises:
        ArchiveError: as ``restore``.
        SuccessionError: the genesis is not on these books.
        StoreError: the disk refuses.
    """
    with closing(LevelStateStore(target / "state")) as states:
        restored = restore(archive, old_genesis, states, contracts, verify, checkpoint)
        check_predecessor(genesis, restored, verify)
        writes = succeed(genesis, restored.state)
        states.commit(writes, sync=True)
    with closing(LevelBlockStore(target / "blocks", genesis.chain_id)) as blocks:
        blocks.commit([FirstHeightWrite(genesis.height + 1, genesis_header_of(genesis).digest)], sync=True)
    return writes.record


def check_predecessor(genesis: Genesis, restored: Restored, verify: VerifyMany = verify_many) -> None:
    """That the genesis names this network and this last block, with a Finalization that is good.

    Raises:
        BooksMismatch: it does not.
    """
    before, end = genesis.predecessor, restored.end
    if before is None:
        raise BooksMismatch(
            f"{genesis.name} begins with empty books", "Leave the archive away, or get the genesis that names it."
        )
    for what, said, found in (
        ("network", before.chain_id.hex()[:16], end.chain_id.hex()[:16]),
        ("epoch", before.epoch, end.epoch),
    ):
        if said != found:
            raise BooksMismatch(
                f"the genesis carries on the books of {what} {said}, the archive holds those of {found}",
                "Use the archive that this genesis was assembled from.",
            )
    if before.finalization == end.finalization:
        return
    proof = msgspec.structs.replace(restored.last, finalization=before.finalization)
    try:  # another quorum may have signed than in this archive; it is checked like that one
        verify_header_proof(proof, restored.known, verify)
    except ProofError as error:
        raise BooksMismatch(
            f"the Finalization in the genesis is not one of the last block in the archive ({error})",
            "Use the archive that this genesis was assembled from.",
        ) from error


class _Restoring:
    def __init__(
        self,
        archive: ArchiveFile,
        genesis: Genesis,
        known: KnownEpochs,
        store: ImportStore,
        contracts: Contracts,
        verify: VerifyMany,
    ) -> None:
        self._frames = archive.frames()
        self._genesis = genesis
        self._known = known
        self._store = store
        self._contracts = contracts
        self._verify = verify

    def run(self) -> Restored:
        frame, content = next(self._frames, (Frame.END, b""))
        if frame is not Frame.HEAD:
            raise ArchiveError("file", "it does not begin with its head")
        head = decode_archive_head(content)
        certified = verify_head(head, self._genesis, self._known, self._verify)
        first = self._begin()
        importer = Importer(self._store, certified)
        blocks = self._import(importer)
        if not importer.complete:
            raise ArchiveError("chunks", "leaves or receipts are missing")
        state = self._install(certified, first)
        last = self._execute(blocks, state, self._start(head))
        record = state.head
        if record is None or last.digest != head.last.subject.digest:
            raise ArchiveError("blocks", f"they end with block {last.height}, not with the one that is proved final")
        end = end_of(self._genesis.chain_id, state, head.last.finalization)
        return Restored(state, record, head.last, end, self._known)

    def _begin(self) -> HeightRecord:
        """Put the genesis into the store, where that has its leaves in the file; its record."""
        before = self._genesis.predecessor
        if before is None:
            state = State.open(self._store)
            write_genesis_state(self._genesis, state)
            writes = state.commit(0, self._genesis.time_ms, ())
            self._store.commit(writes)
            return writes.record
        return HeightRecord(
            height=self._genesis.height,
            state_root=before.genesis_state_root,
            receipts_root=before.receipts_root,
            leaf_count=before.genesis_leaf_count,
            receipt_count=before.receipt_count,
            timestamp_ms=self._genesis.time_ms,
            block_digest=bytes(32),
        )

    def _import(self, importer: Importer) -> Iterator[bytes]:
        """Take the chunks in; what is left are the blocks."""
        for frame, content in self._frames:
            if frame is Frame.BLOCK:
                return chain((content,), self._blocks())
            if frame is not Frame.CHUNK:
                raise ArchiveError("file", "it has two heads")
            self._take(importer, content)
        return iter(())

    def _take(self, importer: Importer, content: bytes) -> None:
        chunk = decode_chunk(parse(peer_pb2.GetSnapshotChunksResponse, content))
        if isinstance(chunk, LeafChunk):
            log, items, hashes = Log.LEAVES, chunk.leaves, verify_leaves(chunk, importer.snapshot)
        else:
            log, items, hashes = Log.RECEIPTS, chunk.receipts, verify_receipts(chunk, importer.snapshot)
        if chunk.first != importer.held[log]:
            raise ArchiveError("chunks", f"{log.name.lower()} from {chunk.first} where {importer.held[log]} come next")
        self._store.import_rows(importer.take(log, items, hashes))

    def _install(self, certified: CertifiedState, first: HeightRecord) -> State:
        if certified.height == first.height and self._genesis.predecessor is None:
            state = State.open(self._store)
        else:
            try:
                state = install(self._store, certified, first)
            except CorruptStore as error:
                raise ArchiveError("chunks", error.what) from error
        head = state.head
        if head is None or head != certified.record:
            raise ArchiveError("chunks", "they do not lead to the roots of the last header")
        return state

    def _start(self, head: ArchiveHead) -> Header:
        return head.state_header or genesis_header_of(self._genesis)

    def _blocks(self) -> Iterator[bytes]:
        for frame, content in self._frames:
            if frame is not Frame.BLOCK:
                raise ArchiveError("file", "something else comes after the first block")
            yield content

    def _execute(self, blocks: Iterator[bytes], state: State, parent: Header) -> Header:
        execution = Execution(state, self._contracts)
        for raw in blocks:
            block = decode_block(parse(block_pb2.Block, raw))
            executable = read_block(block, parent, self._genesis.chain_id, self._verify)
            check_history(block.header, self._known)
            check_roots(block.header, state.height_record(block.header.state_height))
            self._store.commit(execution.run(executable).writes)
            parent = block.header
        return parent
