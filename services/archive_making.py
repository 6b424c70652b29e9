"""Making an archive out of the one home that is left, a validator's or a replica's, which stays as it is.

The home is checked as ``lossbook doctor`` checks it; work is done on copies of its stores. What is final there and was
not executed yet is executed first, so that the archive ends with the last block this home knows to be final.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from consensus.types import Header
from ledger import wire
from ledger.archive import ArchiveError, check_roots, read_block
from ledger.block_port import BlockStore
from ledger.cards import GenesisError
from ledger.contract import Contracts
from ledger.execution import Execution
from ledger.genesis import Genesis, load_genesis
from ledger.genesis_header import genesis_header_of
from ledger.ports import StateStore, StoreError
from ledger.proof_building import header_proof
from ledger.proof_types import HeaderProof
from ledger.sealed import Sealed, sealed_in
from ledger.snapshot_making import PinnedState
from ledger.state import State, Table
from ledger.state_log import ProofUnavailable
from ledger.types import Block
from ledger.wire.archives import encode_archive_head
from ledger.wire.snapshots import encode_chunk
from services.archive_file import ArchiveWriter, Frame
from services.state_reader import FinalHeaders
from services.stored_chain import StoredChain
from store.blocks import LevelBlockStore
from store.check import check_home
from store.copy import copy_for_reading
from store.files import FILE_MODE, OsFiles
from store.findings import Verdict
from store.home import Home, any_home
from store.level import require_current
from store.sealed import SealedStore
from store.state import LevelStateStore


class HomeUnfit(GenesisError):
    """A home whose books cannot be handed on.

    Attributes:
        home: its path.
    """

    def __init__(self, home: Path, problem: str) -> None:
        super().__init__(
            f"the books in {home} are not whole: {problem}",
            "Nothing was written. Look for another copy; what is left of this one stays as it is.",
        )
        self.home = home


class Made(msgspec.Struct, frozen=True):
    """What was put into an archive."""

    chain_id: bytes
    organisation: str
    """Whose home it was."""
    height: int
    """Last final block that is in it."""
    finalized_height: int
    """Last block that the home holds as final: above ``height`` only where no certificate of it is stored."""
    executed_here: int
    """Blocks that were final in the home and not executed, and were executed now."""
    state_root: bytes
    receipts_root: bytes
    receipts: int
    time_ms: int
    sealed: int
    """Sealed fields that the state commits to."""
    missing: tuple[Sealed, ...]
    """Those whose blobs do not lie in the home."""
    digest: bytes
    """Of the file."""


def make_archive(home: Path, out: Path, contracts: Contracts, tables: Iterable[Table[Any]]) -> Made:
    """Write the archive of a home whose daemon does not run; the home is not changed.

    Args:
        out: must not exist.
        tables: of the state, for what they say of sealed fields.

    Raises:
        HomeUnfit: it is not whole, or nothing above the genesis is final there.
        ArchiveError: a block in it is not what its header says.
        FileExistsError: ``out`` is there already.
        HomeMissing, HomeInUse, StoreError, OSError: each says what to do.
    """
    if out.exists():
        raise FileExistsError(errno.EEXIST, "it is there already, and is not written over", str(out))
    failures = [finding for finding in check_home(home) if finding.verdict is Verdict.FAILURE]
    found = any_home(home)
    wanted = ("home", "genesis", "origin", "state", "receipts", "blocks")
    unfit = [finding for finding in failures if finding.what in wanted]
    if unfit:
        raise HomeUnfit(home, "; ".join(f"{finding.what}: {finding.text}" for finding in unfit))
    genesis = load_genesis(found.genesis.read_bytes(), found.chain_id)
    with (
        found.lock(),
        tempfile.TemporaryDirectory(prefix=".lossbook-archive-", dir=out.absolute().parent) as room,
        _copies(found, Path(room)) as (blocks, states),
    ):
        return _Making(found, genesis, blocks, states, contracts, tuple(tables)).write(out)


@contextmanager
def _copies(home: Home, room: Path) -> Iterator[tuple[LevelBlockStore, LevelStateStore]]:
    for name in ("blocks", "state"):
        require_current(home.path / name)
        copy_for_reading(home.path / name, room / name)
    with ExitStack() as stack:
        blocks = stack.enter_context(closing(LevelBlockStore(room / "blocks", home.chain_id)))
        states = stack.enter_context(closing(LevelStateStore(room / "state")))
        yield blocks, states


class _Making:
    """One archive.

    Args:
        blocks, states: copies of the home's stores.
    """

    def __init__(
        self,
        home: Home,
        genesis: Genesis,
        blocks: BlockStore,
        states: StateStore,
        contracts: Contracts,
        tables: tuple[Table[Any], ...],
    ) -> None:
        self._home = home
        self._genesis = genesis
        self._states = states
        self._contracts = contracts
        self._tables = tables
        self._final = blocks.finalized_height() or genesis.height
        self._chain = StoredChain(blocks, lambda: self._final)
        self._state = State.open(states)

    def write(self, out: Path) -> Made:
        executed_here = self._execute_rest()
        headers = FinalHeaders(self._chain, self._state)
        last = self._last(headers)
        height = last.subject.height
        record = self._state.height_record(height)
        if record is None:
            raise HomeUnfit(self._home.path, f"there are no roots of block {height}")
        under_way = out.with_name(f".{out.name}.new-{os.getpid()}")
        try:
            with under_way.open("xb") as file:
                under_way.chmod(FILE_MODE)
                writer = ArchiveWriter(file)
                state = self._state_at(last.subject.state_height)
                write_books(writer, self._genesis, last, state, self._header, self._block)
                digest = writer.finish()
                file.flush()
                os.fsync(file.fileno())
            under_way.rename(out)
            OsFiles().sync_directory(out.absolute().parent)
        finally:
            under_way.unlink(missing_ok=True)
        sealed = list(sealed_in(self._state, self._tables))
        return Made(
            chain_id=self._genesis.chain_id,
            organisation=self._home.organisation,
            height=height,
            finalized_height=self._final,
            executed_here=executed_here,
            state_root=record.state_root,
            receipts_root=record.receipts_root,
            receipts=record.receipt_count,
            time_ms=record.timestamp_ms,
            sealed=len(sealed),
            missing=tuple(missing_blobs(self._home, sealed)),
            digest=digest,
        )

    # ------------------------------------------------------------ what is final and not executed

    def _execute_rest(self) -> int:
        first = self._state.height + 1
        if self._state.head is None:
            raise HomeUnfit(self._home.path, "nothing was ever executed there, not even the genesis")
        execution = Execution(self._state, self._contracts)
        parent = self._header(first - 1)
        for height in range(first, self._final + 1):
            block = self._block(height)
            check_roots(block.header, self._state.height_record(block.header.state_height))
            self._states.commit(execution.run(read_block(block, parent, self._genesis.chain_id)).writes)
            parent = block.header
        return max(0, self._final + 1 - first)

    def _header(self, height: int) -> Header:
        if height == self._genesis.height:
            return genesis_header_of(self._genesis)
        header = self._chain.header(height)
        if header is None:
            raise HomeUnfit(self._home.path, f"block {height} is not there")
        return header

    def _block(self, height: int) -> Block:
        stored = self._chain.block(height)
        if stored is None:
            raise HomeUnfit(self._home.path, f"block {height} is not there")
        parts = wire.decode_stored_parts(stored.proposal)
        batches = tuple([wire.decode_batch(raw) for raw in stored.batches])
        return Block(parts.header, parts.justification, parts.payload, batches)

    # ------------------------------------------------------------ writing

    def _last(self, headers: FinalHeaders) -> HeaderProof:
        """The highest final block that can be proved."""
        for height in range(self._final, self._genesis.height, -1):
            try:
                return header_proof(headers, height)
            except ProofUnavailable:
                continue
        empty = self._final == self._genesis.height
        why = "no block above the genesis is final there" if empty else "no certificate of a final block is held there"
        raise HomeUnfit(self._home.path, f"{why}: there are no books to carry on that could be proved")

    def _state_at(self, height: int) -> State:
        """The state, from which this height can be proved: as it is, or opened anew where the height lies far back."""
        try:
            self._state.pin(height)
        except ProofUnavailable:
            record = self._state.height_record(height)
            if record is None:
                raise
            return State.open_at(self._states, record)
        return self._state


def write_books(
    writer: ArchiveWriter,
    genesis: Genesis,
    last: HeaderProof,
    state: State,
    header_at: Callable[[int], Header],
    block_at: Callable[[int], Block],
) -> None:
    """All frames of an archive but the end.

    Args:
        last: that the last block is final.
        state: from which the height that its header certifies can be proved.
        header_at, block_at: of final heights.

    Raises:
        ArchiveError: the state does not know the height.
    """
    base = last.subject.state_height
    record, start = state.height_record(base), state.height_record(genesis.height)
    if record is None or start is None:
        raise ArchiveError(f"state of height {base}", "the home has no roots for it")
    log = state.pin(base)
    head = encode_archive_head(
        chain_id=genesis.chain_id,
        last=last,
        state_header=None if base == genesis.height else header_at(base),
        log_root=log.root,
        leaf_count=log.count,
        receipts_tree_root=state.receipts_tree_root(record.receipt_count),
        receipt_count=record.receipt_count,
    )
    writer.write(Frame.HEAD, head.raw)
    pinned = PinnedState(log, record.receipt_count, state)
    at = start.leaf_count if genesis.predecessor is None else 0  # the others stand in the genesis file
    while at < log.count:
        leaves = pinned.leaves(at, log.count)
        writer.write(Frame.CHUNK, encode_chunk(leaves).SerializeToString(deterministic=True))
        at += len(leaves.leaves)
    at = 0
    while at < record.receipt_count:
        receipts = pinned.receipts(at, record.receipt_count)
        writer.write(Frame.CHUNK, encode_chunk(receipts).SerializeToString(deterministic=True))
        at += len(receipts.receipts)
    for height in range(base + 1, last.subject.height + 1):
        writer.write(Frame.BLOCK, wire.encode_block(block_at(height)).SerializeToString(deterministic=True))


def missing_blobs(home: Home, sealed: list[Sealed]) -> Iterator[Sealed]:
    """Those whose blobs do not lie in the home's sealed store, or not as they were committed to."""
    if not sealed:
        return
    with tempfile.TemporaryDirectory(prefix="lossbook-sealed-") as room:
        copy = Path(room) / "sealed"
        copy_for_reading(home.sealed, copy)
        with closing(SealedStore(copy, home.chain_id)) as store:
            for each in sealed:
                try:
                    held = store.get(each.commitment) is not None
                except StoreError:
                    held = False
                if not held:
                    yield each
