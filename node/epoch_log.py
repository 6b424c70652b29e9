"""The vote log's records by epoch: what a rewritten log has to hold beside the records of the present core.

Nothing is ever signed again in an epoch that is over here. But a state can be lost (an older one restored, or built
anew), and the node is then back in an epoch it has left; its votes of the last epoch it signed in are kept for that.
Records of epochs above the present one were written before a crash that took the state back; they wait until it is
there again.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.records import Record, epoch_of


class EpochLog:
    """Records as the log had them at the start, and those of epochs that ended since."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_epoch: dict[int, list[Record]] = {}
        for record in records:
            self._by_epoch.setdefault(epoch_of(record), []).append(record)

    def of(self, epoch: int) -> list[Record]:
        """The records of an epoch, oldest first."""
        return self._by_epoch.get(epoch, [])

    def replace(self, epoch: int, records: list[Record]) -> None:
        """These are all that is needed of this epoch."""
        self._by_epoch[epoch] = records

    def live(self, present: int) -> list[Record]:
        """All epochs from the last one before the present that has records, ascending."""
        earlier = [epoch for epoch, records in self._by_epoch.items() if records and epoch < present]
        first = max(earlier, default=present)
        return [record for epoch in sorted(self._by_epoch) if epoch >= first for record in self._by_epoch[epoch]]
