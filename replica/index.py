"""The replica's ``index`` store: what it derives for its readers, and whom it distrusts.

    "r" height u64      Report after this height, where the totals changed (msgpack)
    "l"                 the latest Report, of the last executed height
    "e" envelope id     position of the receipt that says what became of it, u64
    "d" organisation    Distrust (msgpack)
    "m" name            "schema", "chain"

Written, and synced, before the state's own atomic write: after a crash in between, the block is executed again and
writes the same rows again, so the index is never behind the state. Rows above the executed height are removed at start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ledger.codes import Code
from ledger.execution import Outcome
from ledger.genesis import WrongNetwork
from ledger.types import Receipt
from replica.errors import ReplicaStateError
from replica.projection import NO_REPORT, Report
from replica.sources import Distrust
from store.errors import StoreError, WrongSchema
from store.level import Level

SCHEMA: Final = 1
WRITE_BUFFER_BYTES: Final = 4 << 20  #: rows of forty bytes
CACHE_BYTES: Final = 4 << 20  #: recent receipts' positions
ROWS_AT_ONCE: Final = 4096  #: written together where many are
DISTRUSTED_MAX: Final = 1024  #: read at start; there are no more organisations than that

_UNTIMELY: Final = frozenset({Code.EXPIRED, Code.NOT_AFTER_TOO_FAR})
"""An id so refused is not remembered: the envelope may have been executed before, or be later."""

_encode = msgspec.msgpack.Encoder().encode
_report = msgspec.msgpack.Decoder(Report).decode
_distrust = msgspec.msgpack.Decoder(Distrust).decode


class Index:
    """Rows in LevelDB. One process at a time; not thread-safe."""

    def __init__(self, path: Path, chain_id: bytes) -> None:
        """Open or create.

        Raises:
            WrongNetwork, WrongSchema, StoreInUse, CorruptBlocks, StoreFailed: see ``store.errors``.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._level = Level(path, WRITE_BUFFER_BYTES, CACHE_BYTES)
        try:
            self._check(chain_id)
        except (StoreError, WrongNetwork):
            self._level.close()
            raise

    def close(self) -> None:
        """Release the directory."""
        self._level.close()

    # ------------------------------------------------------------ reports and receipts

    def latest(self) -> Report:
        """Totals after the last block that was indexed; all zero in a new store."""
        row = self._level.get(b"l")
        return NO_REPORT if row is None else self._read(row)

    def report(self, height: int) -> Report:
        """Totals after this height: the row of the greatest height at or below it."""
        for _, row in self._level.rows(b"r", b"r" + _u64(height + 1), reverse=True):
            return self._read(row)
        return NO_REPORT

    def position(self, envelope_id: bytes) -> int | None:
        """Position of the receipt that says what became of an envelope."""
        row = self._level.get(b"e" + envelope_id)
        return None if row is None else int.from_bytes(row, "big")

    def write(self, report: Report, outcomes: Iterable[Outcome]) -> None:
        """All rows of one block, synced."""
        outcomes = tuple(outcomes)
        encoded = _encode(report)
        rows: dict[bytes, bytes | None] = {b"l": encoded}
        if outcomes:
            rows[b"r" + _u64(report.height)] = encoded
        for outcome in outcomes:
            key = b"e" + outcome.envelope.id
            if self._stands(key, outcome.receipt.code, rows):
                continue  # listed again
            rows[key] = _u64(outcome.receipt.position)
        self._level.write(rows, sync=True)

    def begin(self, report: Report, receipts: Iterable[Receipt]) -> None:
        """Write what an empty index has to hold of books that were carried on: totals, and where each receipt lies."""
        encoded = _encode(report)
        rows: dict[bytes, bytes | None] = {}
        for receipt in receipts:
            if not self._stands(b"e" + receipt.envelope_id, receipt.code, rows):
                rows[b"e" + receipt.envelope_id] = _u64(receipt.position)
            if len(rows) >= ROWS_AT_ONCE:
                self._level.write(rows, sync=False)
                rows = {}
        self._level.write({**rows, b"r" + _u64(report.height): encoded, b"l": encoded}, sync=True)

    def _stands(self, key: bytes, code: int, rows: Mapping[bytes, bytes | None]) -> bool:
        """Whether an earlier receipt of this envelope is the one that tells what became of it."""
        return code == Code.REPLAYED or (code in _UNTIMELY and (key in rows or self._level.get(key) is not None))

    def rewind(self, height: int, block_time_ms: int) -> Report:
        """Drop reports above the executed height (a crash came between the two writes); returns what stands then.

        Raises:
            ReplicaStateError: the index is behind the state, which no crash can cause.
        """
        latest = self.latest()
        if latest.height < height:
            raise ReplicaStateError(
                f"{self._path} ends at height {latest.height}, the state at {height}: rows were lost. "
                "Run `lossbook replica resync` to build both anew"
            )
        if latest.height == height:
            return latest
        rows: dict[bytes, bytes | None] = {key: None for key, _ in self._level.rows(b"r" + _u64(height + 1), b"s")}
        kept = msgspec.structs.replace(self.report(height), height=height, block_time_ms=block_time_ms)
        rows[b"l"] = _encode(kept)
        self._level.write(rows, sync=True)
        return kept

    # ------------------------------------------------------------ distrust

    def distrusted(self) -> Sequence[Distrust]:
        """Sources that were caught, whether or not their time is over."""
        return [_distrust(row) for _, row in self._level.rows(b"d", b"e")][:DISTRUSTED_MAX]

    def distrust(self, record: Distrust) -> None:
        """Remember a source that was caught."""
        self._level.write({b"d" + record.organisation.encode(): _encode(record)}, sync=True)

    def trust_again(self, organisation: str) -> bool:
        """Forget it, on the operator's word; whether there was anything to forget."""
        key = b"d" + organisation.encode()
        known = self._level.get(key) is not None
        self._level.write({key: None}, sync=True)
        return known

    # ------------------------------------------------------------ inside

    def _read(self, row: bytes) -> Report:
        try:
            return _report(row)
        except msgspec.MsgspecError as error:
            raise ReplicaStateError(
                f"a report in {self._path} is unreadable ({error}). Run `lossbook replica resync` to build it anew"
            ) from error

    def _check(self, chain_id: bytes) -> None:
        schema, chain = self._level.get(b"mschema"), self._level.get(b"mchain")
        if schema is None and chain is None:
            self._level.write({b"mschema": b"%d" % SCHEMA, b"mchain": chain_id}, sync=True)
            return
        if schema != b"%d" % SCHEMA:
            raise WrongSchema(str(self._path), (schema or b"none").decode(errors="replace"), SCHEMA)
        if chain != chain_id:
            raise WrongNetwork(chain_id, chain or b"", str(self._path))


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "big")
