"""What can go wrong with a node's disk, each with a text that says what to do next.

All are ``StoreError``; that one, ``CorruptStore`` and ``WrongSchema`` belong to the port, ``ledger.ports``.
"""

from __future__ import annotations

import enum
import errno
from pathlib import Path
from typing import NoReturn

from ledger.ports import CorruptStore, StoreError, StoreInUse, WrongSchema

__all__ = [
    "ContradictoryWrite",
    "CorruptBlocks",
    "CorruptStore",
    "FailureKind",
    "HomeExists",
    "HomeInUse",
    "HomeMissing",
    "HomeUnnamed",
    "StoreError",
    "StoreFailed",
    "StoreInUse",
    "VoteLogDamaged",
    "VoteLogMissing",
    "WrongOwner",
    "WrongSchema",
    "fail",
]

RESYNC_HINT = "Run `lossbook node resync`: it sets the damaged log aside and votes again only where it is safe."


class FailureKind(enum.Enum):
    """Why the operating system refused."""

    DISK_FULL = "disk full"
    INPUT_OUTPUT = "input/output error"
    POISONED = "an earlier write failed"
    OTHER = "operating system error"

    @classmethod
    def from_errno(cls, number: int | None) -> FailureKind:
        """Quota and file size limits count as a full disk: the cure is the same."""
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return cls.DISK_FULL
        if number == errno.EIO:
            return cls.INPUT_OUTPUT
        return cls.OTHER


class StoreFailed(StoreError):
    """A write or sync failed. Nothing that waited for it may be sent; the store stays closed until it is reopened.

    Attributes: kind; operation (``write``, ``sync``, ...); path; detail (the system's words); what (all of these in
    words, without advice).
    """

    def __init__(self, kind: FailureKind, operation: str, path: Path, detail: str = "") -> None:
        self.kind = kind
        self.operation = operation
        self.path = path
        self.detail = detail
        advice = {
            FailureKind.DISK_FULL: "Free space on this file system, then restart the node.",
            FailureKind.INPUT_OUTPUT: "Check the disk (kernel log, SMART), then restart the node.",
            FailureKind.POISONED: "Restart the node once the cause is removed.",
            FailureKind.OTHER: "Check the file's owner and permissions, then restart the node.",
        }[kind]
        text = f": {detail}" if detail else ""
        self.what = f"{path}: {operation} failed, {kind.value}{text}."
        super().__init__(f"{self.what} The node stops voting. {advice}")

    @classmethod
    def from_os_error(cls, error: OSError, operation: str, path: Path) -> StoreFailed:
        """Keep the system's words; the kind decides what the operator reads."""
        return cls(FailureKind.from_errno(error.errno), operation, path, error.strerror or str(error))


class VoteLogDamaged(StoreError):
    """Votes that were synced cannot be read. This node must not vote: a forgotten vote may be cast twice.

    Attributes: path; offset (byte in that file, or None); detail.
    """

    def __init__(self, path: Path, detail: str, offset: int | None = None) -> None:
        self.path = path
        self.offset = offset
        self.detail = detail
        where = f"{path} at byte {offset}" if offset is not None else str(path)
        super().__init__(f"The vote log is damaged ({where}: {detail}). This node refuses to vote. {RESYNC_HINT}")


class VoteLogMissing(StoreError):
    """There is no vote log where one must be: it was deleted, or the directory is not a validator's.

    Attribute: path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"There is no vote log in {path}. This node refuses to vote. {RESYNC_HINT}")


class WrongOwner(StoreError):
    """The directory belongs to another organisation of the same network.

    Attributes: path; expected, found (organisation ids).
    """

    def __init__(self, path: Path, expected: str, found: str) -> None:
        self.path = path
        self.expected = expected
        self.found = found
        super().__init__(f"{path} belongs to {found!r}, not to {expected!r}. Never vote from another's directory.")


class CorruptBlocks(CorruptStore):
    """A LevelDB's files fail their checks. What is lost can be made again from other nodes' blocks.

    Attributes: path; what.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(what, str(path))
        text = (
            f"The store {path} is corrupt ({what}). Run `lossbook doctor` to see how far the damage goes; "
            "`lossbook node resync` makes it again from other nodes' blocks."
        )
        self.args = (text,)


class SealedDamaged(StoreError):
    """A sealed store cannot be read, or a blob in it is not the one that was stored. No state and no vote rests on it.

    Attributes: path; what.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what
        super().__init__(
            f"the sealed store {path} is damaged: {what}. Stop the daemon and put the directory back from a backup; "
            "without one move it away: the daemon begins an empty one"
        )


class ContradictoryWrite(StoreError):
    """A second, different value for something that is decided only once (the block of a height).

    Attributes: what; stored, offered (digests).
    """

    def __init__(self, what: str, stored: bytes, offered: bytes) -> None:
        self.what = what
        self.stored = stored
        self.offered = offered
        super().__init__(f"{what} is already {stored.hex()} and can never become {offered.hex()}. The node stops.")


class HomeInUse(StoreInUse):
    """Another process works in this home directory.

    Attributes: path; pid (None if it is not known).
    """

    def __init__(self, path: Path, pid: int | None) -> None:
        super().__init__(str(path))
        self.pid = pid
        who = f"process {pid}" if pid is not None else "another process"
        self.args = (f"{path} is in use by {who}. Stop it first, or choose another home directory.",)


class HomeMissing(StoreError):
    """The path holds no lossbook home of the kind asked for.

    Attributes: path; detail.
    """

    def __init__(self, path: Path, detail: str) -> None:
        self.path = path
        self.detail = detail
        super().__init__(
            f"{path} is not a usable home directory: {detail}. "
            "Give the right path, or make a new one with `lossbook node init` or `lossbook replica init`."
        )


class HomeUnnamed(HomeMissing):
    """A home whose file SCHEMA is gone or damaged; the rest is there, and the file can be written by hand.

    Attributes: those of ``HomeMissing``.
    """

    def __init__(self, path: Path, detail: str, kind: str, chain_id: bytes | None) -> None:
        StoreError.__init__(
            self,
            f"{path} says no more whose home it is: {detail}. Nothing else is wrong with it for that: write the file "
            f"anew, with your organisation's id, as one line: "
            f'{{"schema": 1, "kind": "{kind}", "chain_id": "{chain_id.hex() if chain_id else "64 HEX DIGITS"}", '
            '"organisation": "ID"}'
            + ("" if chain_id else " (`lossbook genesis show genesis.json --json` prints the chain id)"),
        )
        self.path = path
        self.detail = detail


class HomeExists(StoreError):
    """A home would be made where something is already.

    Attribute: path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} exists and is not empty; nothing was changed. Choose another directory.")


def fail(error: OSError, operation: str, path: Path) -> NoReturn:
    """Turn the system's error into ours.

    Raises:
        StoreFailed: always.
    """
    raise StoreFailed.from_os_error(error, operation, path) from error
