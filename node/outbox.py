"""Where a turn's effects go in a running node: peers, workers, fetcher, followers, gateway, metrics, log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consensus.evidence import EvidenceKind
from ledger.evidence import EvidenceRecord
from ledger.types import Batch
from node.checking import BatchChecker
from node.fetcher import Fetcher
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.peers import Peers, PeerServicer
from node.receipt_index import ReceiptIndex
from node.tracking import Tracker
from node.turn import (
    AcceptedNotice,
    AlarmNotice,
    CertifiedRootNotice,
    EpochNotice,
    ExecutedNotice,
    Fetch,
    FinalizedNotice,
    Notice,
    PeerMessage,
    Penalty,
)
from services.logs import get_logger
from services.tasks import Tasks

_log = get_logger("node")


class NodeOutbox:
    """The ``Outbox`` of ``node.loop``.

    Args:
        on_finalized: told that blocks became final (and are stored).
        on_members: told that who is on the network, or has a seat, may have changed.
        tasks: where checks run.
    """

    def __init__(
        self,
        *,
        peers: Peers,
        servicer: PeerServicer,
        fetcher: Fetcher,
        checker: BatchChecker,
        tracker: Tracker,
        index: ReceiptIndex,
        mailbox: Mailbox,
        metrics: Metrics,
        on_finalized: Callable[[], None],
        on_members: Callable[[], None],
        tasks: Tasks,
    ) -> None:
        self._peers = peers
        self._servicer = servicer
        self._fetcher = fetcher
        self._checker = checker
        self._tracker = tracker
        self._index = index
        self._mailbox = mailbox
        self._metrics = metrics
        self._on_finalized = on_finalized
        self._on_members = on_members
        self._tasks = tasks

    def send(self, sends: Sequence[tuple[str | None, PeerMessage]]) -> None:
        """See Outbox."""
        self._peers.send(sends)

    def fetch(self, fetch: Fetch) -> None:
        """See Outbox."""
        self._fetcher.fetch(fetch)

    def check(self, batch: Batch) -> None:
        """See Outbox. Not bounded here: the validator holds a bounded amount of unchecked batches."""
        self._tasks.start(self._check(batch))

    async def _check(self, batch: Batch) -> None:
        self._mailbox.put_now(await self._checker.check(batch))

    def penalise(self, penalty: Penalty) -> None:
        """See Outbox."""
        self._servicer.penalise(penalty.peer, penalty.reason)

    def notify(self, notices: Sequence[Notice]) -> None:
        """See Outbox."""
        metrics, tracker = self._metrics, self._tracker
        for notice in notices:
            match notice:
                case ExecutedNotice():
                    self._index.add(notice.receipts)
                    tracker.executed(notice)
                    metrics.executed_height.set(notice.height)
                    metrics.block_time.set(notice.block_time_ms / 1000)
                    metrics.envelopes.inc(len(notice.receipts))
                    metrics.operations.inc(notice.operations)
                    for breach in notice.breaches:
                        self._tell(breach)
                    if notice.members_moved:
                        self._on_members()
                case AcceptedNotice():
                    tracker.accepted(notice)
                case CertifiedRootNotice():
                    tracker.certified(notice)
                    metrics.certified_height.set(notice.state_height)
                case FinalizedNotice():
                    metrics.finalized_height.set(notice.height)
                    self._on_finalized()
                case EpochNotice():
                    _log.info(
                        "epoch begins", epoch=notice.epoch, height=notice.first_height, validators=notice.validators
                    )
                case AlarmNotice():
                    metrics.alarms.labels(notice.kind).inc()
                    _log.error("alarm", kind=notice.kind, text=notice.text)
        metrics.waiting_bytes.set(tracker.waiting_bytes)

    def _tell(self, breach: EvidenceRecord) -> None:
        self._metrics.breaches.labels(breach.organisation).inc()
        _log.error(
            "a validator's breach of consensus is recorded",
            organisation=breach.organisation,
            kind=EvidenceKind(breach.kind).name,
            view=breach.view,
            height=breach.height,
        )
