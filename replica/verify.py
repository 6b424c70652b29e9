"""Following the chain without trusting who serves it.

Pure: blocks in, finalized and fully checked blocks out. For each block, in height order:

    examine   everything that hashing and comparing can decide:
              1  header: version, chain, epoch, height + 1, parent digest and view, time, validator set, state height
              2  justification: the preimage the header commits to; the parent's certificate (absent only where the
                 parent is the epoch's genesis); one nullification for every skipped view, in order
              3  payload: the preimage the header commits to; exactly the listed batches, in the listed order; every
                 statement decodes and is true
              4  each batch: chain; epoch, the block's or the one before; origin; its place right after the origin's
                 last listed batch; envelope root
              5  each envelope: well-formed, one signature for each key
              6  tails, after the block that ends the epoch only: each repeats it, with 1 and 2 of its own
              7  Finalization, where one is served: of the block, or of its last tail
              and collects every signature that has to be checked
    (caller)  checks the signatures, in worker processes where they are many
    accept    refuses the block for the first bad signature; else keeps it, and hands out what is now final: a
              Finalization of this block, or one that serves as its parent's certificate, finalizes all below

A block without a Finalization of its own waits here until a descendant brings one (consensus.md §10). Nothing in the
waiting room is ever stored; ``forget_unfinal`` empties it when the source changes.

The block that ends an epoch has no descendant but its tails, so it brings its Finalization with it. Nothing after it
can be judged before the caller has executed it: only the state says who votes next (``enter``). What only the state
decides of a block, parameters and whether it has to end its epoch, is judged when it is executed (``replica.rules``).

Sources of the rules: consensus.md §1, §7, §9, §10; ledger.md, "Batch, block, proofs".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

import msgspec

from consensus.justification import HeaderRules, tail_problem
from consensus.types import Certificate, Header, Justification, VoteKind
from consensus.votes import VoteChecker
from crypto.hashing import TAG_BATCH_SIGNATURE
from crypto.merkle import EMPTY_ROOT
from crypto.merkle import root as merkle_root
from ledger import statements
from ledger.codes import Code
from ledger.invariant import invariant
from ledger.statement_types import Ed25519, Judge
from ledger.types import Batch, BatchHeader, Block, Envelope, JustifiedHeader, Statement
from ledger.wellformed import read_envelope, signature_jobs
from ledger.wire import WireError, decode_statement
from replica.errors import FeedError, ForgedBlock, ForgedCertificate, Gap, TruncatedStream

PROTOCOL_VERSION: Final = 1

Required = Callable[[int], bytes | None]
"""By height: digest of the one block that may stand there; None where any may."""

PENDING_BLOCKS_MAX: Final = 256  #: honest nodes finalize within K blocks while batches are listed; K is 20 by default
PENDING_BYTES_MAX: Final = 128 << 20  #: K blocks of default size, and what a machine of 2 GiB can spare


class Head(msgspec.Struct, frozen=True, gc=False):
    """The last listed batch of an origin."""

    incarnation: int
    sequence: int
    digest: bytes


NO_HEAD: Final = Head(0, 0, bytes(32))


class StartPoint(msgspec.Struct, frozen=True):
    """The finalized block to go on from: the genesis, or the last one executed before a restart."""

    header: Header
    heads: Mapping[str, Head]
    """Last listed batch of every origin, after this block."""


class Check(NamedTuple):
    """One signature to check, and what is wrong if it is bad."""

    public: bytes
    message: bytes
    signature: bytes
    error: type[FeedError]
    what: str


class VerifiedBlock(msgspec.Struct, frozen=True):
    """A finalized block of which everything but its execution was checked."""

    block: Block
    statements: tuple[Statement, ...]
    """Those it lists, in order."""
    envelopes: tuple[Envelope, ...]
    """All envelopes in the order of listing."""
    heads: Mapping[str, Head]
    """Last listed batch of every origin, after this block."""
    signatures: int
    """Signatures that were checked for it: certificates, batches, envelopes."""
    source: str
    """Organisation whose node served it."""

    @property
    def header(self) -> Header:
        """Header of the block."""
        return self.block.header


class Examined(msgspec.Struct, frozen=True):
    """A block on its way through ``examine``, the signature checks and ``accept``."""

    verified: VerifiedBlock
    checks: tuple[Check, ...]
    size_bytes: int


class ChainVerifier:
    """The chain from a start point on, as far as it was checked.

    Args:
        chain_id: genesis digest; the one thing that is trusted.
        epochs: rules of every epoch that has begun, by its number; the last is the present one.
        start: where to go on.
    """

    def __init__(self, *, chain_id: bytes, epochs: Mapping[int, HeaderRules], start: StartPoint) -> None:
        self._chain_id = chain_id
        self._epochs = dict(epochs)
        self._rules = self._epochs[max(self._epochs)]
        self._judge = Judge(self._epochs.get, Ed25519())
        self._required: Required = lambda _: None
        self._final = start
        self._pending: list[Examined] = []
        self._pending_bytes = 0

    # ------------------------------------------------------------ where it stands

    @property
    def final_height(self) -> int:
        """Height of the last block handed out."""
        return self._final.header.height

    @property
    def final_time_ms(self) -> int:
        """Block time of the last block handed out."""
        return self._final.header.timestamp_ms

    @property
    def next_height(self) -> int:
        """Height of the block that is expected."""
        return self._tip.height + 1

    @property
    def pending_blocks(self) -> int:
        """Blocks that wait for a descendant's Finalization."""
        return len(self._pending)

    @property
    def epoch_ended(self) -> bool:
        """Whether the block that ends the present epoch is final: nothing more is examined before ``enter``."""
        final = self._final.header
        return bool(final.next_valset_hash) and final.epoch == self._epoch

    @property
    def _epoch(self) -> int:
        return self._rules.validators.epoch

    @property
    def _tip(self) -> Header:
        return self._pending[-1].verified.header if self._pending else self._final.header

    @property
    def _heads(self) -> Mapping[str, Head]:
        return self._pending[-1].verified.heads if self._pending else self._final.heads

    def forget_unfinal(self) -> None:
        """Drop what is not final: the source changed, and the next one serves from ``final_height + 1``."""
        self._pending.clear()
        self._pending_bytes = 0

    def require(self, required: Required) -> None:
        """Take only these blocks from now on: an accepted checkpoint says so."""
        self._required = required

    def enter(self, rules: HeaderRules) -> None:
        """The block that ended the epoch was executed: these are the rules of the next one."""
        invariant(self.epoch_ended, f"an epoch was entered at height {self.final_height}, where none ended")
        invariant(rules.validators.epoch == self._epoch + 1, f"epoch {rules.validators.epoch} after {self._epoch}")
        invariant(rules.genesis.digest == self._final.header.digest, "the next epoch begins on another block")
        self._rules = self._epochs[rules.validators.epoch] = rules

    def stream_ended(self, source: str) -> TruncatedStream | None:
        """The fault of a source that ended the stream properly while blocks without a certificate wait; else None."""
        if not self._pending:
            return None
        return TruncatedStream(
            self.next_height, source, f"the stream ended and {len(self._pending)} blocks before it have no certificate"
        )

    # ------------------------------------------------------------ examine

    def examine(self, block: Block, source: str) -> Examined:
        """Check all that needs no signature; nothing is changed.

        Raises:
            Gap, ForgedBlock, ForgedCertificate: naming the height, the source and what is wrong.
            TruncatedStream: too much without a certificate waits already.
        """
        invariant(not self.epoch_ended, "a block was examined before the epoch it is of began")
        case = _Case(block, source)
        self._check_room(case)
        self._check_header(case)
        self._check_justification(case)
        self._check_payload(case)
        listed = self._check_statements(case)
        heads = self._check_batches(case)
        envelopes = self._check_envelopes(case)
        self._check_tails(case)
        self._check_finalization(case)
        verified = VerifiedBlock(block, listed, envelopes, heads, len(case.checks), source)
        return Examined(verified, tuple(case.checks), sum(len(batch.raw) for batch in block.batches))

    def _check_room(self, case: _Case) -> None:
        if len(self._pending) >= PENDING_BLOCKS_MAX or self._pending_bytes >= PENDING_BYTES_MAX:
            raise TruncatedStream(
                case.height, case.source, f"{len(self._pending)} blocks were served without any certificate among them"
            )

    def _check_header(self, case: _Case) -> None:
        header, parent = case.block.header, self._tip
        if header.height != parent.height + 1:
            raise Gap(parent.height + 1, case.source, f"height {header.height} was served instead")
        if self._required(header.height) not in (None, header.digest):
            case.forged("it is not the block from which the accepted checkpoint follows")
        problem = self._rules.header_problem(header)
        if problem:
            case.forged(problem)
        if header.parent_digest != parent.digest or header.parent_view != self._view(parent):
            raise Gap(header.height, case.source, "it does not build on the block served before it")
        if header.timestamp_ms <= parent.timestamp_ms:
            case.forged(f"block time {header.timestamp_ms} is not after its parent's, {parent.timestamp_ms}")
        if header.state_height < parent.state_height:
            case.forged(f"state height {header.state_height} is below its parent's, {parent.state_height}")

    def _view(self, parent: Header) -> int:
        """The parent's view in the present epoch: its genesis has view 0, whatever view ended the epoch before."""
        return 0 if parent.digest == self._rules.genesis.digest else parent.view

    def _check_justification(self, case: _Case) -> None:
        self._check_justified(case, case.block.header, case.block.justification, self._tip, "")

    def _check_justified(
        self, case: _Case, header: Header, justification: Justification, parent: Header, where: str
    ) -> None:
        if justification.digest != header.justification_digest:
            case.bad_certificate(f"{where}the justification is not the one its header commits to")
        skipped = header.view - header.parent_view - 1
        if len(justification.nullifications) != skipped:
            given = len(justification.nullifications)
            case.bad_certificate(f"{where}{given} nullifications for {skipped} skipped views")
        if justification.parent is not None and justification.parent.parent_view != parent.parent_view:
            case.bad_certificate(f"{where}the parent's certificate names another grandparent")
        problem = self._rules.justification_problem(header, justification, self._collecting(case))
        if problem:
            case.bad_certificate(f"{where}{problem}")

    def _check_tails(self, case: _Case) -> None:
        boundary, tails = case.block.header, case.block.tails
        if tails and not boundary.next_valset_hash:
            case.forged("tails come with it, and it does not end its epoch")
        parent = boundary
        for tail in tails:
            self._check_tail(case, tail, parent)
            parent = tail.header

    def _check_tail(self, case: _Case, tail: JustifiedHeader, parent: Header) -> None:
        header, where = tail.header, f"tail of view {tail.header.view}: "
        if header.parent_digest != parent.digest or header.parent_view != parent.view:
            case.forged(f"{where}it does not build on what was served before it")
        problem = self._rules.header_problem(header) or tail_problem(header, case.block.header)
        if problem:
            case.forged(f"{where}{problem}")
        self._check_justified(case, header, tail.justification, parent, where)

    def _check_finalization(self, case: _Case) -> None:
        finalization, tails = case.block.finalization, case.block.tails
        if finalization is None:
            if case.block.header.next_valset_hash:
                case.bad_certificate("it ends its epoch, and no finalization of it or of a tail comes with it")
            return
        header = tails[-1].header if tails else case.block.header
        if finalization.kind is not VoteKind.FINALIZE:
            case.bad_certificate("the certificate served as its finalization is of another kind")
        target = (finalization.view, finalization.parent_view, finalization.digest)
        if target != (header.view, header.parent_view, header.digest):
            case.bad_certificate("the finalization is for another block")
        problem = self._collecting(case)(finalization)
        if problem:
            case.bad_certificate(f"finalization: {problem}")

    def _collecting(self, case: _Case) -> Callable[[Certificate], str | None]:
        """Judges the form of a certificate by the validators' own rules, and puts its signatures on the list."""

        def problem(certificate: Certificate) -> str | None:
            collector = _Collector(
                case.checks, f"{certificate.kind.name.lower()} certificate of view {certificate.view}"
            )
            checker = VoteChecker(self._chain_id, self._rules.validators, collector)
            return checker.certificate_problem(certificate, lambda _: False)

        return problem

    def _check_payload(self, case: _Case) -> None:
        payload, batches = case.block.payload, case.block.batches
        if payload.root != case.block.header.payload_root:
            case.forged("the list of batches is not the one its header commits to")
        if tuple(batch.header.digest for batch in batches) != payload.batch_digests:
            case.forged("the batches are not those it lists, in that order")

    def _check_statements(self, case: _Case) -> tuple[Statement, ...]:
        """Here and now: what convicts may be that a signature is bad, so ``accept`` could not judge by good ones."""
        found: list[Statement] = []
        for raw in case.block.payload.statements:
            try:
                statement = decode_statement(raw)
            except WireError as error:
                case.forged(f"it lists a statement that does not decode: {error}")
            problem = statements.problem(statement, self._judge)
            if problem:
                case.forged(f"it lists a statement that is not true: {problem}")
            found.append(statement)
        return tuple(found)

    def _check_batches(self, case: _Case) -> Mapping[str, Head]:
        if not case.block.batches:
            return self._heads
        heads = dict(self._heads)
        for batch in case.block.batches:
            header = batch.header
            if header.chain_id != self._chain_id or not 0 <= self._epoch - header.epoch <= 1:
                case.forged(f"a batch of {header.origin!r} is for another network or epoch")
            public = self._origin_key(header)
            if public is None:
                case.forged(f"a batch of {header.origin!r}, who is no validator of epoch {header.epoch} with a key")
            if header.attachment_root != EMPTY_ROOT:
                case.forged(f"a batch of {header.origin} has attachments, which this version does not know")
            if not extends(heads.get(header.origin, NO_HEAD), batch):
                case.forged(f"a batch of {header.origin} does not follow its last listed batch")
            if merkle_root(batch.envelopes) != header.envelope_root:
                case.forged(f"a batch of {header.origin} holds other envelopes than it commits to")
            heads[header.origin] = Head(header.incarnation, header.sequence, header.digest)
            what = f"a batch of {header.origin} has a bad signature"
            case.checks.append(Check(public, TAG_BATCH_SIGNATURE + header.raw, batch.signature, ForgedBlock, what))
        return heads

    def _origin_key(self, header: BatchHeader) -> bytes | None:
        """The key that signs batches of this origin and epoch; None where there is none."""
        rules = self._epochs.get(header.epoch)
        members = rules.validators.members if rules is not None else ()
        return next((each.public_key for each in members if each.id == header.origin and each.public_key), None)

    def _check_envelopes(self, case: _Case) -> tuple[Envelope, ...]:
        envelopes: list[Envelope] = []
        for batch in case.block.batches:
            for raw in batch.envelopes:
                envelope = read_envelope(raw, self._chain_id)
                if isinstance(envelope, Code):
                    case.forged(f"an ill-formed envelope in a batch of {batch.header.origin}: {envelope.name}")
                what = f"envelope {envelope.id.hex()[:16]} of {envelope.organisation} has a bad signature"
                case.checks.extend(Check(*job, ForgedBlock, what) for job in signature_jobs(envelope))
                envelopes.append(envelope)
        return tuple(envelopes)

    # ------------------------------------------------------------ accept

    def accept(self, examined: Examined, verdicts: Sequence[bool]) -> list[VerifiedBlock]:
        """Take the outcome of the signature checks; returns the blocks that are final now, in height order.

        Raises:
            ForgedBlock, ForgedCertificate: for the first bad signature; nothing is changed.
        """
        verified = examined.verified
        invariant(verified.header.parent_digest == self._tip.digest, "blocks were examined and accepted out of order")
        invariant(len(verdicts) == len(examined.checks), "a signature was left unchecked")
        for check, good in zip(examined.checks, verdicts, strict=True):
            if not good:
                raise check.error(verified.header.height, verified.source, check.what)
        final = 0
        parent = verified.block.justification.parent
        if parent is not None and parent.kind is VoteKind.FINALIZE:
            final = len(self._pending)
            if self._pending and self._pending[-1].verified.block.finalization is None:
                self._pending[-1] = _certified(self._pending[-1], parent)
        self._pending.append(examined)
        self._pending_bytes += examined.size_bytes
        if verified.block.finalization is not None:
            final = len(self._pending)
        return self._release(final)

    def _release(self, count: int) -> list[VerifiedBlock]:
        released = self._pending[:count]
        if not released:
            return []
        del self._pending[:count]
        self._pending_bytes -= sum(examined.size_bytes for examined in released)
        last = released[-1].verified
        self._final = StartPoint(last.header, last.heads)
        return [examined.verified for examined in released]


def _certified(examined: Examined, finalization: Certificate) -> Examined:
    """The block with the certificate its child brought: kept with it, so that this replica can prove its own tip."""
    block = msgspec.structs.replace(examined.verified.block, finalization=finalization)
    return msgspec.structs.replace(examined, verified=msgspec.structs.replace(examined.verified, block=block))


class _Collector:
    """Takes signatures instead of checking them: they are checked together, later."""

    def __init__(self, checks: list[Check], name: str) -> None:
        self._checks = checks
        self._name = name

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Always true for now; ``accept`` gets the verdict."""
        self._checks.append(
            Check(public_key, message, signature, ForgedCertificate, f"bad signature in the {self._name}")
        )
        return True


class _Case:
    """The block under examination, whose source is blamed for what is wrong with it."""

    __slots__ = ("block", "checks", "height", "source")

    def __init__(self, block: Block, source: str) -> None:
        self.block = block
        self.source = source
        self.height = block.header.height
        self.checks: list[Check] = []

    def forged(self, reason: str) -> NoReturn:
        raise ForgedBlock(self.height, self.source, reason)

    def bad_certificate(self, reason: str) -> NoReturn:
        raise ForgedCertificate(self.height, self.source, reason)


def extends(head: Head, batch: Batch) -> bool:
    """Whether a batch may be listed right after ``head``: next in its incarnation, or first of a later one."""
    header = batch.header
    if header.previous != head.digest:
        return False
    if header.incarnation == head.incarnation:
        return header.sequence == head.sequence + 1
    return header.incarnation > head.incarnation and header.sequence == 1
