"""The home directory of a node or a replica: its layout, its lock, and the stores in it.

::

    SCHEMA           JSON: schema version, kind, chain id, organisation; written last, so that it marks a whole home
    LOCK             locked while a process works here; holds its process id
    lossbook.toml    settings
    genesis.json     the network, exactly the bytes whose digest is the chain id
    card.json        own card, where the genesis holds none or an older one (nodes of members that joined by vote)
    keys/ tls/       encrypted private keys; short-lived certificates
    blocks/ state/ sealed/ index/   LevelDB stores
    votes/           vote log (nodes only)
    predecessor/     of a rebuilt network: the archive whose books it carries on, and the genesis they began with
    checkpoint.json  the checkpoint a replica accepted last, where it has one
    RESTORED         marker: this home may have forgotten votes (``store.backup``)

Everything is readable by the owner only.
"""

from __future__ import annotations

import enum
import fcntl
import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ledger.cards import GenesisError
from ledger.genesis import WrongNetwork, load_genesis
from ledger.invariant import invariant
from store.blocks import LevelBlockStore
from store.errors import HomeExists, HomeInUse, HomeMissing, HomeUnnamed, WrongSchema, fail
from store.files import DIRECTORY_MODE, FILE_MODE, OsFiles
from store.state import LevelStateStore
from store.votelog import VoteLog

SCHEMA = 1
SCHEMA_NAME = "SCHEMA"
LOCK_NAME = "LOCK"
_DIRECTORIES = ("keys", "tls", "blocks", "state", "sealed", "index")


class HomeKind(enum.Enum):
    """Whose home it is; a replica's can never vote."""

    NODE = "node"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True)
class Home:
    """A home directory that exists, with the facts its SCHEMA file states."""

    path: Path
    kind: HomeKind
    chain_id: bytes  #: genesis digest, 32 bytes
    organisation: str

    @property
    def config(self) -> Path:
        """``lossbook.toml``."""
        return self.path / "lossbook.toml"

    @property
    def genesis(self) -> Path:
        """``genesis.json``."""
        return self.path / "genesis.json"

    @property
    def card(self) -> Path:
        """``card.json``; most homes have none."""
        return self.path / "card.json"

    @property
    def keys(self) -> Path:
        """Directory of the private keys."""
        return self.path / "keys"

    @property
    def tls(self) -> Path:
        """Directory of the TLS leaf and its key."""
        return self.path / "tls"

    @property
    def blocks(self) -> Path:
        """Block store."""
        return self.path / "blocks"

    @property
    def state(self) -> Path:
        """State store."""
        return self.path / "state"

    @property
    def sealed(self) -> Path:
        """Store of sealed attachments."""
        return self.path / "sealed"

    @property
    def index(self) -> Path:
        """Derived query indexes."""
        return self.path / "index"

    @property
    def predecessor(self) -> Path:
        """Archive and genesis of the network before; only of a rebuilt network."""
        return self.path / "predecessor"

    @property
    def votes(self) -> Path:
        """Vote log."""
        return self.path / "votes"

    def check_network(self, chain_id: bytes) -> None:
        """Compare with the digest of the genesis at hand.

        Raises:
            WrongNetwork: it is another network's.
        """
        if chain_id != self.chain_id:
            raise WrongNetwork(chain_id, self.chain_id, str(self.path))

    def lock(self) -> HomeLock:
        """Claim the home for this process.

        Raises:
            HomeInUse: another process, or another part of this one, has it.
        """
        return HomeLock(self.path)

    def holder(self) -> int | None:
        """Id of the process that works here, 0 if it has not said so yet; None if none does.

        Asking claims nothing: a daemon that starts at the same moment has its home.
        """
        return HomeLock.holder(self.path)


def create_home(path: Path, kind: HomeKind, genesis: bytes, chain_id: bytes, organisation: str) -> Home:
    """Make a home, complete or not at all.

    Args:
        path: must not exist, or be an empty directory.
        kind: a node gets an empty vote log.
        genesis: the exact bytes of the genesis file.
        chain_id: their digest, which the caller has checked.
        organisation: whose home it is.

    Raises:
        HomeExists: there is something at ``path``.
        StoreFailed: the file system refused; nothing is left at ``path``.
    """
    invariant(len(chain_id) == 32, "a chain id is 32 bytes")
    home = Home(path, kind, chain_id, organisation)
    under_way = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise HomeExists(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(under_way, ignore_errors=True)  # of a crash; in a container the process id is often the same
        under_way.mkdir(mode=DIRECTORY_MODE)
        for name in _DIRECTORIES:
            (under_way / name).mkdir(mode=DIRECTORY_MODE)
        if kind is HomeKind.NODE:
            VoteLog.create(under_way / "votes", chain_id, organisation).close()
        write_durably(under_way / "genesis.json", genesis)
        facts = {"schema": SCHEMA, "kind": kind.value, "chain_id": chain_id.hex(), "organisation": organisation}
        write_durably(under_way / SCHEMA_NAME, json.dumps(facts, indent=2).encode() + b"\n")
        under_way.rename(path)
        OsFiles().sync_directory(path.parent)
    except OSError as error:
        fail(error, "create", path)
    finally:
        shutil.rmtree(under_way, ignore_errors=True)
    return home


def open_home(path: Path, kind: HomeKind) -> Home:
    """Read what a home says of itself; nothing is locked or opened yet.

    Raises:
        HomeMissing: there is none, or one of the other kind.
        HomeUnnamed: its file SCHEMA is damaged or gone, all else may be there.
        WrongSchema: another version's.
        StoreFailed: it cannot be read.
    """
    try:
        raw = (path / SCHEMA_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if (path / "genesis.json").exists() and (path / "blocks").is_dir():
            raise _unnamed(path, f"its file {SCHEMA_NAME} is gone") from error
        raise HomeMissing(path, f"it has no file {SCHEMA_NAME}") from error
    except OSError as error:
        fail(error, "open", path)
    try:
        facts = json.loads(raw)
        if facts["schema"] != SCHEMA:
            raise WrongSchema(str(path), str(facts["schema"]), SCHEMA)
        home = Home(path, HomeKind(facts["kind"]), bytes.fromhex(facts["chain_id"]), str(facts["organisation"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _unnamed(path, f"its file {SCHEMA_NAME} is damaged") from error
    if home.kind is not kind:
        raise HomeMissing(path, f"it is a {home.kind.value}'s, not a {kind.value}'s")
    return home


def _unnamed(path: Path, detail: str) -> HomeUnnamed:
    kind = HomeKind.NODE if (path / "votes").is_dir() else HomeKind.REPLICA
    try:
        chain_id = load_genesis((path / "genesis.json").read_bytes()).chain_id
    except (GenesisError, OSError):
        chain_id = None
    return HomeUnnamed(path, detail, kind.value, chain_id)


def any_home(path: Path) -> Home:
    """``open_home`` of a node or a replica, whichever it is."""
    try:
        return open_home(path, HomeKind.NODE)
    except HomeMissing:
        return open_home(path, HomeKind.REPLICA)


class HomeLock:
    """Exclusive use of a home by this process, until ``release`` or the process ends, however it ends.

    POSIX record locks: unlike ``flock`` they are not inherited, so verification workers that outlive a killed daemon do
    not keep its home locked. They do not exclude the same process, hence the set of paths.
    """

    _held: set[Path] = set()

    def __init__(self, path: Path) -> None:
        """Claim; HomeInUse if somebody has it, StoreFailed if the lock file cannot be made."""
        self._path = path.resolve()
        if self._path in self._held:
            raise HomeInUse(path, os.getpid())
        try:
            self._descriptor = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            fail(error, "lock", path)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            process = _process_in(self._descriptor)
            os.close(self._descriptor)
            raise HomeInUse(path, process) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d" % os.getpid(), 0)
        self._held.add(self._path)

    @classmethod
    def holder(cls, path: Path) -> int | None:
        """See ``Home.holder``."""
        if path.resolve() in cls._held:
            return os.getpid()  # to close the file once more would end the own lock
        try:
            descriptor = os.open(path / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None  # nobody ever worked here
        except OSError as error:
            fail(error, "read", path)
        try:
            os.lockf(descriptor, os.F_TEST, 0)
        except (BlockingIOError, PermissionError):  # systems differ
            return _process_in(descriptor) or 0
        finally:
            os.close(descriptor)
        return None

    def release(self) -> None:
        """Give the home back; twice is harmless."""
        if self._path in self._held:
            self._held.remove(self._path)
            os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _process_in(descriptor: int) -> int | None:
    """What the holder of a lock wrote into its file."""
    written = os.pread(descriptor, 20, 0)
    return int(written) if written.isdigit() else None


@dataclass(slots=True)
class OpenStores:
    """Everything a daemon keeps on disk, open and locked; ``close`` when done."""

    home: Home
    blocks: LevelBlockStore
    state: LevelStateStore
    votes: VoteLog | None  #: None in a replica, and in a node that only observes
    _closing: ExitStack

    def close(self) -> None:
        """Close in reverse order and release the home; twice is harmless.

        Raises:
            StoreFailed: the last sync of the vote log failed; the others are closed all the same.
        """
        self._closing.close()


def open_all(home: Home, *, vote: bool = True) -> OpenStores:
    """Lock the home and open its stores; on an error nothing stays open.

    Args:
        home: of ``open_home``.
        vote: open the vote log. A node whose log is damaged may start with False and observe.

    Raises:
        HomeInUse: another process works here.
        VoteLogDamaged, VoteLogMissing: this node must not vote.
        WrongNetwork: a store of another network lies in this home.
        CorruptStore, WrongSchema, StoreFailed: see ``store.errors``.
    """
    with ExitStack() as stack:
        stack.enter_context(home.lock())
        blocks = LevelBlockStore(home.blocks, home.chain_id)
        stack.callback(blocks.close)
        state = LevelStateStore(home.state)
        stack.callback(state.close)
        votes = None
        if vote and home.kind is HomeKind.NODE:
            votes = VoteLog.open(home.votes, home.chain_id, home.organisation)
            stack.callback(votes.close)
        closing = stack.pop_all()
    return OpenStores(home, blocks, state, votes, closing)


def copy_durably(source: Path, target: Path) -> None:
    """Copy a file of any size, readable by the owner only: whole and durable under its name, or not there.

    Raises:
        OSError: as the file system.
    """
    temporary = target.with_name(target.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file, source.open("rb") as original:
        shutil.copyfileobj(original, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(target)
    OsFiles().sync_directory(target.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small file: the old or the new contents survive a crash, never a part.

    Raises:
        OSError: as the file system.
    """
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    OsFiles().sync_directory(path.parent)
