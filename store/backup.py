"""Backup, restore and resync: every way in which a node may have forgotten a vote leaves a marker behind.

A restored backup looks like a crash, and the node would sign twice. So the marker travels in every backup, and a node
that finds it signs nothing up to the bound of the start-up query (consensus.md §5); once that bound is in the vote log
the marker is removed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from store.errors import HomeExists, HomeMissing, fail
from store.files import FILE_MODE, OsFiles
from store.home import LOCK_NAME, Home, HomeKind, write_durably
from store.votelog import VoteLog

MARKER_NAME = "RESTORED"
REASON_NAME = "REASON"

NOT_IN_A_BACKUP = ("keys", "tls", LOCK_NAME)
"""Private keys are copied on purpose and elsewhere, or (consensus keys) never; the lock is a process's own."""


def write_backup_marker(path: Path, reason: str) -> None:
    """Say durably that the home at ``path`` may have forgotten votes.

    Raises:
        StoreFailed: the file system refused.
    """
    try:
        write_durably(path / MARKER_NAME, reason.encode() + b"\n")
    except OSError as error:
        fail(error, "mark", path)


def has_backup_marker(path: Path) -> bool:
    """Whether this home may have forgotten votes."""
    return (path / MARKER_NAME).exists()


def clear_backup_marker(path: Path) -> None:
    """Remove the marker, durably. Only after the start-up bound is synced in the vote log.

    Raises:
        StoreFailed: the file system refused; the marker may still be there, which is safe.
    """
    try:
        (path / MARKER_NAME).unlink(missing_ok=True)
        OsFiles().sync_directory(path)
    except OSError as error:
        fail(error, "unmark", path)


def backup(home: Home, target: Path) -> None:
    """Copy the home of a stopped daemon to ``target``, complete or not at all, with the marker in it.

    A running daemon cannot be copied consistently from outside, and its lock says so. Private keys are left out; the
    copy becomes a home again by putting ``keys`` and ``tls`` beside it.

    Raises:
        HomeInUse: the daemon runs.
        HomeExists: there is something at ``target``.
        StoreFailed: the file system refused; nothing is left at ``target``.
    """
    under_way = target.with_name(f".{target.name}.new-{os.getpid()}")
    with home.lock():
        try:
            if target.exists():
                raise HomeExists(target)
            shutil.rmtree(under_way, ignore_errors=True)  # of a crash; in a container the process id is often the same
            shutil.copytree(home.path, under_way, copy_function=_copy, ignore=lambda at, _: _left_out(home, at))
            write_backup_marker(under_way, "This is a backup.")
            _sync_tree(under_way)
            under_way.rename(target)
            OsFiles().sync_directory(target.parent)
        except OSError as error:
            fail(error, "back up", target)
        finally:
            shutil.rmtree(under_way, ignore_errors=True)


def set_aside(home: Home, reason: str) -> Path | None:
    """Begin a new vote log, keeping the damaged one for inquiry: the operator's explicit act (``node resync``).

    The marker is durable before anything moves, so that no crash leaves an empty log without it; after one, running
    this again finishes the work.

    Returns:
        Where the old log lies now; None if there was none.

    Raises:
        HomeMissing: a replica has no votes.
        HomeInUse: the daemon runs.
        StoreFailed: the file system refused.
    """
    if home.kind is not HomeKind.NODE:
        raise HomeMissing(home.path, "it is a replica's, which never votes")
    with home.lock():
        write_backup_marker(home.path, f"The vote log was set aside: {reason}")
        try:
            kept = _free_name(home) if home.votes.exists() else None
            if kept is not None:
                home.votes.rename(kept)
                OsFiles().sync_directory(home.path)
                write_durably(kept / REASON_NAME, reason.encode() + b"\n")
        except OSError as error:
            fail(error, "set aside", home.votes)
        VoteLog.create(home.votes, home.chain_id, home.organisation).close()
    return kept


def _free_name(home: Home) -> Path:
    number = 1
    while (name := home.path / f"votes.damaged-{number}").exists():
        number += 1
    return name


def _left_out(home: Home, directory: str) -> tuple[str, ...]:
    return NOT_IN_A_BACKUP if Path(directory) == home.path else ()


def _sync_tree(root: Path) -> None:
    for directory, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(Path(directory) / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        OsFiles().sync_directory(Path(directory))


def _copy(source: str, target: str) -> str:
    """Contents and mode; an error stops the copy at once, with its own number (a full disk must be named)."""
    try:
        shutil.copyfile(source, target)
        Path(target).chmod(FILE_MODE)
    except OSError as error:
        fail(error, "back up", Path(target))
    return target
