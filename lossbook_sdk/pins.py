"""Checkpoints a verifier has accepted, on disk: one file for each network, never replaced by a lower one.

    <folder>/<chain id>.json      for whoever verifies as this person, on this machine
    <replica's home>/checkpoint.json

The folder: LOSSBOOK_CHECKPOINTS_DIR, else ``$XDG_STATE_HOME/lossbook/checkpoints``, else under ``~/.local/state``.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ledger.checkpoints import (
    CHECKPOINT_BYTES_MAX,
    Anchor,
    Checkpoint,
    CheckpointConflict,
    UnreadableCheckpoint,
    decode_checkpoint,
    encode_checkpoint,
)
from ledger.vouching import confirm

DIRECTORY_VARIABLE: Final = "LOSSBOOK_CHECKPOINTS_DIR"


def pin_path(chain_id: bytes, environment: Mapping[str, str] | None = None) -> Path:
    """Where this person's checkpoint of a network lies."""
    environment = os.environ if environment is None else environment
    named = environment.get(DIRECTORY_VARIABLE)
    if named:
        return Path(named) / f"{chain_id.hex()}.json"
    base = environment.get("XDG_STATE_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".local/state")
    return Path(base) / "lossbook" / "checkpoints" / f"{chain_id.hex()}.json"


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint file.

    Raises:
        UnreadableCheckpoint: it is none.
        OSError: as the file system.
    """
    with path.open("rb") as file:
        raw = file.read(CHECKPOINT_BYTES_MAX + 1)
    try:
        return decode_checkpoint(raw)
    except UnreadableCheckpoint as error:
        raise UnreadableCheckpoint(f"{path}: {error.problem}", error.advice) from error


def read_pin(path: Path, chain_id: bytes) -> Checkpoint | None:
    """The checkpoint that was accepted here; None if none was.

    Raises:
        UnreadableCheckpoint: the file is damaged: what was accepted is not known, so nothing is believed.
        CheckpointConflict: it is another network's.
        OSError: as the file system.
    """
    if not path.exists():
        return None
    try:
        found = read_checkpoint(path)
    except UnreadableCheckpoint as error:
        raise UnreadableCheckpoint(
            error.problem, f"Remove the file, and accept a fresh checkpoint: `lossbook checkpoint accept` ({path})"
        ) from error
    if found.chain_id != chain_id:
        raise CheckpointConflict(
            f"{path} is a checkpoint of network {found.body.chain_id[:16]}, not of {chain_id.hex()[:16]}",
            "Put the file of this network there, or remove it",
        )
    return found


def accept(path: Path, checkpoint: Checkpoint, anchor: Anchor) -> list[str]:
    """Believe this checkpoint from now on, if the people of the anchor vouch for it; who does.

    Args:
        path: of the pin.
        checkpoint: the new one.
        anchor: what is believed now, the pin included. A higher one that another process has accepted since then
            stands in for it.

    Raises:
        CheckpointError: as ``confirm``.
        OSError: the file system refused; what was accepted before stands.
    """
    by = confirm(checkpoint, anchor)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path):
        pin = read_pin(path, anchor.chain_id)
        if pin is not None and pin.body.height >= anchor.height:
            by = confirm(checkpoint, Anchor.of_checkpoint(pin))
        _replace(path, encode_checkpoint(checkpoint))
    return by


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process, and one thread, at a time looks at a pin and replaces it."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    """Durably, readable by its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
