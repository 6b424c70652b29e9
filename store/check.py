"""The deep check of a home, for ``lossbook doctor``: everything that is stored is read, and hashed where it has a hash.

It changes nothing but the LOCK file, which it holds meanwhile: stores are opened as copies (``store.copy``).
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from ledger import wire
from ledger.cards import GenesisError
from ledger.genesis import Genesis, load_genesis
from ledger.genesis_header import genesis_header_of
from ledger.ports import StoreError
from store.backup import has_backup_marker
from store.blocks import LevelBlockStore
from store.check_blocks import BlockCheck
from store.check_state import check_leaves, check_receipts
from store.copy import copy_for_reading
from store.errors import CorruptBlocks, CorruptStore, SealedDamaged, StoreFailed, VoteLogDamaged
from store.findings import Finding, Problems, Verdict
from store.home import Home, HomeKind, any_home
from store.level import Level, require_current
from store.sealed import SealedStore
from store.state import LevelStateStore
from store.votelog import VoteLog

__all__ = ["Finding", "Verdict", "check_home"]

CACHE_BYTES: Final = 8 << 20


def check_home(path: Path) -> list[Finding]:
    """Check a node's or a replica's home. Takes as long as reading all of it, and memory as the daemon.

    Raises:
        HomeInUse: its daemon runs; stop it first.
    """
    try:
        home = any_home(path)
    except (StoreError, GenesisError) as error:
        return [Finding("home", Verdict.FAILURE, str(error))]  # it says what to do
    findings = [Finding("home", Verdict.SUCCESS, f"{path}: a {home.kind.value} of {home.organisation}")]
    with home.lock(), tempfile.TemporaryDirectory(prefix="lossbook-check-") as room:
        findings += _Check(home, Path(room)).run()
    return findings


class _Check:
    """All checks of one home, which is locked.

    Args:
        home: what is checked.
        room: an empty directory for copies.
    """

    def __init__(self, home: Home, room: Path) -> None:
        self._home = home
        self._room = room
        self._resync = f"Run `lossbook {home.kind.value} resync --home {home.path}`: nothing is deleted."

    def run(self) -> Iterator[Finding]:
        yield self._permissions()
        if has_backup_marker(self._home.path):
            text = "this home was restored, or its votes were set aside: it may have forgotten votes"
            advice = "Nothing to do: once started, it asks the others what it signed, before it signs anything."
            yield Finding("marker", Verdict.WARNING, text, advice)
        genesis, finding = self._genesis()
        yield finding
        if self._home.kind is HomeKind.NODE:
            yield from self._guarded("votes", self._votes)
        state: LevelStateStore | None = None
        try:
            try:
                state = LevelStateStore(self._copy("state"))
            except (StoreError, OSError) as error:
                yield self._failure("state", error)
            if state is not None:
                yield from self._state(state, genesis)
            yield from self._guarded("blocks", lambda: self._blocks(state))
        finally:
            if state is not None:
                state.close()
        for name, check in (("sealed", self._sealed), ("index", self._index)):
            if any((self._home.path / name).glob("*")):
                yield from self._guarded(name, check)

    # ------------------------------------------------------------ one check each

    def _permissions(self) -> Finding:
        home, problems = self._home, Problems()
        looked_at = [home.path, *sorted(path for path in home.path.iterdir() if path.is_dir())]
        looked_at += sorted(home.keys.glob("*")) + sorted(home.tls.glob("*.key"))
        for path in looked_at:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                problems.add(f"{path} is open to others (mode {mode:o})")
            if not os.access(path, os.R_OK | os.W_OK):
                problems.add(f"{path} is not this user's to read and write")
        advice = f"Run `chmod -R go= {home.path}`, as the user the daemon runs as."
        return problems.finding("permissions", "for the owner's eyes only", advice)

    def _genesis(self) -> tuple[Genesis | None, Finding]:
        try:
            genesis = load_genesis(self._home.genesis.read_bytes(), self._home.chain_id)
        except (GenesisError, OSError) as error:
            advice = "Put back the genesis.json that this home was made with."
            return None, Finding("genesis", Verdict.FAILURE, str(error), advice)
        return genesis, Finding("genesis", Verdict.SUCCESS, f"{genesis.name}, chain id {genesis.chain_id.hex()[:16]}")

    def _votes(self) -> Finding:
        home, problems, count = self._home, Problems(), 0
        if home.votes.is_dir():
            shutil.copytree(home.votes, self._room / "votes", copy_function=shutil.copyfile)
        with closing(VoteLog.open(self._room / "votes", home.chain_id, home.organisation)) as log:
            for count, raw in enumerate(log.records(), start=1):
                try:
                    wire.decode_record(raw)
                except wire.WireError as error:
                    problems.add(f"record {count}: {error}")
        return problems.finding("votes", f"{count:,} records, all whole", self._resync)

    def _state(self, state: LevelStateStore, genesis: Genesis | None) -> Iterator[Finding]:
        if genesis is not None:
            yield from self._guarded("origin", lambda: self._origin(state, genesis))
        yield from self._guarded("state", lambda: check_leaves(state, self._resync))
        yield from self._guarded("receipts", lambda: check_receipts(state, self._resync))

    def _origin(self, state: LevelStateStore, genesis: Genesis) -> Finding:
        """Did the state begin with this genesis?"""
        problems = Problems()
        record, header = state.height_record(genesis.height), genesis_header_of(genesis)
        roots = (header.state_root, header.receipts_root)
        if state.executed_height() is not None and (
            record is None or (record.state_root, record.receipts_root) != roots
        ):
            problems.add(f"the state of height {genesis.height} is not that of the genesis")
        return problems.finding("origin", "the state begins with the genesis", self._resync)

    def _blocks(self, state: LevelStateStore | None) -> Finding:
        with closing(LevelBlockStore(self._copy("blocks"), self._home.chain_id)) as blocks:
            return BlockCheck(blocks, self._home.chain_id, state).run(self._resync)

    def _sealed(self) -> Finding:
        """Read every blob and compare it with its commitment."""
        problems, count = Problems(), 0
        try:
            with closing(SealedStore(self._copy("sealed"), self._home.chain_id)) as sealed:
                for commitment in sealed.commitments():
                    count += 1
                    try:
                        sealed.get(commitment)
                    except SealedDamaged as error:
                        problems.add(error.what)
        except (SealedDamaged, CorruptBlocks) as error:
            problems.add(error.what)
        advice = "Put the directory back from a backup; without one move it away. No vote rests on it."
        return problems.finding("sealed", f"{count:,} blobs, all as committed", advice)

    def _index(self) -> Finding:
        """Read every row: LevelDB's checksums are all there is."""
        with closing(Level(self._copy("index"), CACHE_BYTES, CACHE_BYTES)) as level:
            rows = sum(1 for _ in level.rows(b"", b"\xff" * 8))
        return Finding("index", Verdict.SUCCESS, f"{rows:,} rows, all readable")

    # ------------------------------------------------------------ inside

    def _copy(self, name: str) -> Path:
        source, target = self._home.path / name, self._room / name
        if not source.is_dir():
            raise CorruptBlocks(source, "the directory is missing")
        require_current(source)
        copy_for_reading(source, target)
        return target

    def _guarded(self, what: str, check: Callable[[], Finding]) -> Iterator[Finding]:
        """A check that breaks is a finding, not the end."""
        try:
            yield check()
        except (StoreError, GenesisError, OSError) as error:
            yield self._failure(what, error)

    def _failure(self, what: str, error: Exception) -> Finding:
        """Its own advice would send whoever reads this back to ``doctor``."""
        text = str(error)
        if isinstance(error, CorruptStore):
            text = error.what
        elif isinstance(error, VoteLogDamaged):
            text = f"{error.path}: {error.detail}"
        advice = "" if isinstance(error, StoreFailed | OSError) else self._resync
        return Finding(what, Verdict.FAILURE, text.replace(str(self._room), str(self._home.path)), advice)
