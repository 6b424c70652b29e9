"""Making a ``Validator`` from what is on disk: genesis, state, blocks, vote log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from consensus.config import Config
from consensus.events import Now
from consensus.records import Record
from consensus.types import Header, Proposal
from ledger import wire
from ledger.block_port import BlockStore
from ledger.contract import Contracts
from ledger.genesis import Genesis, require_no_predecessor, write_genesis_state
from ledger.genesis_header import genesis_header_of
from ledger.ports import CorruptStore, ImportStore, StateStore
from ledger.snapshot import verify_manifest
from ledger.state import State
from ledger.statement_types import Judge
from ledger.wellformed import SignatureJob
from lossbook.v1 import block_pb2
from node.batches import Head
from node.branches import Branches
from node.building import Builder
from node.catchup import Catchup
from node.dissemination import Dissemination
from node.duties import Duties
from node.epoch import Keyring, Signer, Verify, no_key
from node.epoch_log import EpochLog
from node.epochs import Epochs
from node.executor import BlockExecutor
from node.finality import Finality
from node.origin import CLOSE_BYTES
from node.snapshot_sync import Far, SnapshotSync
from node.statements import StatementPool
from node.validator import Validator


class Settings(msgspec.Struct, frozen=True):
    """Local settings of consensus; every node may have its own."""

    delay_ms: int = 500
    """D, the assumed bound on message delay, processing included."""
    retry_ms: int = 1_000
    """How often what was not answered is sent again."""
    skip_ms: int = 2_500
    """A leader silent for this much busy time is not waited for."""
    timeout_ms_max: int = 20_000
    """Cap of the back-off of view time-outs."""
    clock_delta_ms: int = 2_000
    """By how much honest clocks may differ."""
    heartbeat_ms: int = 10_000
    """H: a block at least this often, so that supervisors see life."""
    snapshot_blocks: int = 2_000
    """Further behind than this a node fetches the state, not the blocks: some minutes of full load."""
    snapshot_writes: int = 50_000
    """Likewise, in records written meanwhile."""
    close_bytes: int = CLOSE_BYTES
    """A busy origin closes a batch at this size."""


class StoredHeaders:
    """Blocks on disk as the core asks for them."""

    def __init__(self, blocks: BlockStore, genesis: Header) -> None:
        self._blocks = blocks
        self._genesis = genesis

    def header(self, digest: bytes) -> Header | None:
        """Header of a stored block, or of the genesis."""
        if digest == self._genesis.digest:
            return self._genesis
        raw = self._blocks.proposal(digest)
        return wire.decode_header(wire.parse(block_pb2.Proposal, raw).header) if raw is not None else None

    def proposal(self, digest: bytes) -> Proposal | None:
        """A stored block as it was proposed."""
        raw = self._blocks.proposal(digest)
        return wire.decode_stored_proposal(raw) if raw is not None else None


def commit_genesis(genesis: Genesis, state: State, store: StateStore) -> None:
    """Write height 0 into an empty store; a store that has it already is left alone.

    Raises:
        GenesisError: the genesis carries on the books of a network before, and they are not here.
    """
    if state.head is None:
        require_no_predecessor(genesis)
        write_genesis_state(genesis, state)
        store.commit(state.commit(0, genesis.time_ms, ()), sync=True)


def assemble(
    *,
    genesis: Genesis,
    organisation: str,
    voting: bool,
    keys: Keyring,
    verify: Verify,
    state: State,
    state_store: ImportStore,
    blocks: BlockStore,
    contracts: Contracts,
    log_records: Iterable[bytes],
    settings: Settings,
    origin_nonce: bytes,
    now: Now,
) -> Validator:
    """The node of an organisation, as its stores left it: a validator in epochs in which it has a seat and its key.

    Without a vote log (``voting`` False) it only observes. The state is that of ``node.opening.open_state``;
    ``Validator.start`` comes next.

    Raises:
        CorruptStore: state and blocks do not belong together.
    """
    start = genesis_header_of(genesis)
    first = state.height_record(genesis.height)
    if first is not None and (first.state_root, first.receipts_root) != (start.state_root, start.receipts_root):
        raise CorruptStore("the state began with another genesis")
    headers = StoredHeaders(blocks, start)
    core_records, acked, incarnation = _sort_records(log_records)
    executor = BlockExecutor(state, state_store, contracts)
    heads = executor.heads()
    if state.height == start.height and organisation in heads:
        # On the books of a network before: what was not listed there is void here, and there is nothing to remember.
        incarnation = max(incarnation, heads[organisation].incarnation)
    epochs = Epochs(
        config=Config(
            chain_id=genesis.chain_id,
            delay_ms=settings.delay_ms,
            retry_ms=settings.retry_ms,
            skip_ms=settings.skip_ms,
            timeout_ms_max=settings.timeout_ms_max,
            clock_delta_ms=settings.clock_delta_ms,
        ),
        genesis=start,
        organisation=organisation,
        voting=voting,
        source=executor,
        blocks=blocks,
        headers=headers,
        keys=keys,
        verify=verify,
        log=EpochLog(core_records),
    )
    epoch = epochs.present()
    root = _executed_header(state, headers, start)
    statements = StatementPool(Judge(epochs.header_rules, Signer(no_key, verify)), executor, root)
    batches = Dissemination(
        chain_id=genesis.chain_id,
        epoch=epoch,
        organisation=organisation,
        verify=verify,
        stored=blocks,
        heads=heads,
        acked=acked,
        incarnation=incarnation,
        nonce=origin_nonce,
        delay_ms=settings.delay_ms,
        close_bytes=min(settings.close_bytes, executor.parameters(state.height + 1, state.height).batch_bytes_max),
    )
    branches = Branches(
        chain_id=genesis.chain_id,
        epoch=epoch,
        root=root,
        heads=heads,
        executed=executor,
        dissemination=batches,
        statements=statements,
        stored=blocks,
    )
    builder = Builder(
        chain_id=genesis.chain_id,
        epoch=epoch,
        heartbeat_ms=settings.heartbeat_ms,
        executed=executor,
        dissemination=batches,
        statements=statements,
        branches=branches,
    )
    finality = Finality(epoch=epoch, executor=executor, dissemination=batches, statements=statements, branches=branches)
    finality.resume(_final_not_executed(state, blocks, headers))
    members = [member.id for member in epoch.validators.members]

    def verify_each(jobs: Sequence[SignatureJob]) -> list[bool]:
        return [verify(*job) for job in jobs]

    return Validator(
        present=epochs.instance(epoch, now),
        epochs=epochs,
        branches=branches,
        builder=builder,
        finality=finality,
        dissemination=batches,
        statements=statements,
        duties=Duties(
            chain_id=genesis.chain_id,
            organisation=organisation,
            keys=keys,
            state=executor,
            statements=statements,
        ),
        catchup=Catchup(organisation, members, settings.delay_ms),
        snapshots=SnapshotSync(
            peers=[member for member in members if member != organisation],
            store=state_store,
            seen=epochs.known(),
            verify=lambda manifest, known, seen: verify_manifest(manifest, known, verify_each, seen),
            delay_ms=settings.delay_ms,
            far=Far(settings.snapshot_blocks, settings.snapshot_writes),
        ),
        retry_ms=settings.retry_ms,
    )


def _sort_records(raws: Iterable[bytes]) -> tuple[list[Record], dict[str, Head], int]:
    core: list[Record] = []
    acked: dict[str, Head] = {}
    incarnation = 0
    for raw in raws:
        match wire.decode_record(raw):
            case wire.AckedRecord() as record:
                acked[record.origin] = Head(record.incarnation, record.sequence, record.digest)
            case wire.IncarnationRecord() as record:
                incarnation = max(incarnation, record.incarnation)
            case record:
                core.append(record)
    return core, acked, incarnation


def _executed_header(state: State, headers: StoredHeaders, start: Header) -> Header:
    head = state.head
    if head is None or head.height == start.height:
        return start
    header = headers.header(head.block_digest)
    if header is None or header.height != head.height:
        raise CorruptStore(f"the executed block {head.height} is not among the stored blocks")
    return header


def _final_not_executed(state: State, blocks: BlockStore, headers: StoredHeaders) -> list[Proposal]:
    found: list[Proposal] = []
    for height, digest in blocks.finalized(state.height + 1, blocks.finalized_height() or 0):
        proposal = headers.proposal(digest)
        if proposal is None:
            raise CorruptStore(f"the final block {height} is not among the stored blocks")
        found.append(proposal)
    return found
