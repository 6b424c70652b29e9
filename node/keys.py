"""The consensus keys in a node's home: one for each epoch, made early, destroyed when the next epoch has begun.

::

    keys/consensus.key            the one on the organisation's card: of the epoch the card was made for
    keys/consensus-<epoch>.key    made by the node itself, protected as the one it finds there

Why one for each epoch, and destroyed: a quorum of leaked keys of an epoch that is over could sign another history of
it, years later (consensus.md §9). Why never in a backup: a restored vote log lacks votes; without the key it can sign
nothing twice (``store.backup``).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from crypto import keyfile
from crypto.keyfile import KdfCost
from crypto.keys import SigningKey
from node.epoch import Sign
from store.files import OsFiles

KIND: Final = "consensus"
CARD_KEY: Final = "consensus.key"
LEDGER_KEY: Final = "ledger.key"
_OF_EPOCH: Final = re.compile(r"consensus-(0|[1-9][0-9]{0,18})\.key")


class KeyFiles:
    """``node.epoch.Keyring`` of a home.

    One thread at a time makes and destroys (``node.key_keeper``); others may read meanwhile: what they read is replaced
    as a whole, never changed.

    Args:
        directory: the home's ``keys``.
        passphrase: of the files; None where they are stored without.
        cost: of guessing the passphrase of files made here.
    """

    def __init__(self, directory: Path, passphrase: str | None, cost: KdfCost | None = None) -> None:
        """Read the files that are there, once the destruction of others that a crash interrupted is finished.

        Raises:
            KeyFileError: one of them cannot be used; the text says what to do.
        """
        self._directory = directory
        self._passphrase = passphrase
        self._cost = cost
        keyfile.finish_destroying(directory)
        self._keys = {path: keyfile.load(path, passphrase, KIND) for path in _paths(directory)}
        self._plaintext = any(not keyfile.is_encrypted(path) for path in _examples(directory))

    @property
    def card_key(self) -> bytes | None:
        """Public key in the file that came with the home; None where it is gone, or never was."""
        key = self._keys.get(self._directory / CARD_KEY)
        return key.public if key is not None else None

    @property
    def public_keys(self) -> list[bytes]:
        """Of all files."""
        return [key.public for key in self._keys.values()]

    def sign_for(self, _: int, public_key: bytes) -> Sign | None:
        """See ``Keyring``: no two epochs have one key, so the public key says enough."""
        return next((key.sign for key in self._keys.values() if public_key and key.public == public_key), None)

    def has(self, public_key: bytes) -> bool:
        """Whether this key is here."""
        return self.sign_for(0, public_key) is not None

    def made_for(self, epoch: int) -> bytes | None:
        """See ``Keyring``."""
        key = self._keys.get(self._path(epoch))
        return key.public if key is not None else None

    def _path(self, epoch: int) -> Path:
        return self._directory / f"consensus-{epoch}.key"

    def key_for(self, epoch: int) -> SigningKey:
        """The key this node made for an epoch; made now, if it was not. It is durable before anybody hears of it.

        Raises:
            KeyFileError, OSError: it cannot be written; nothing is known of it then.
        """
        path = self._path(epoch)
        key = self._keys.get(path)
        if key is None:
            key = self._made(path)
            self._keys = {**self._keys, path: key}
        return key

    def _made(self, path: Path) -> SigningKey:
        key = SigningKey.generate()
        try:
            keyfile.save(path, key, KIND, self._passphrase, unsafe_plaintext=self._plaintext, cost=self._cost)
        except keyfile.KeyFileExists:  # an attempt before failed after the file had its name: its last sync
            key = keyfile.load(path, self._passphrase, KIND)
            OsFiles().sync_directory(path.parent)
        return key

    def over(self, epoch: int, used: Collection[bytes]) -> list[Path]:
        """Files of epochs that are over: made for one before ``epoch``, or holding one of ``used``, the public keys
        that this organisation registered for them."""
        return [path for path, key in self._keys.items() if key.public in used or _is_before(path, epoch)]

    def destroy_before(self, epoch: int, used: Collection[bytes]) -> list[Path]:
        """Destroy what ``over`` names. Returns the files that are gone.

        Raises:
            OSError: as the file system; what was not destroyed is tried again at the next call.
        """
        over = self.over(epoch, used)
        for path in over:
            keyfile.destroy(path)
            self._keys = {other: key for other, key in self._keys.items() if other != path}
        return over


def protected_file(directory: Path) -> Path | None:
    """A file among a home's keys that needs the passphrase; all that do have the same. None where none does.

    Raises:
        KeyFileError: one of them cannot be used.
    """
    return next((path for path in _examples(directory) if keyfile.is_encrypted(path)), None)


def _examples(directory: Path) -> list[Path]:
    """Files by which new ones are protected: the consensus keys or, where none is left, the ledger key."""
    beside = directory / LEDGER_KEY
    return _paths(directory) or [path for path in [beside] if path.exists()]


def _paths(directory: Path) -> list[Path]:
    """The card's key, then those of epochs, ascending."""
    card = directory / CARD_KEY
    if not directory.is_dir():
        raise keyfile.MissingKeyFile(card, "does not exist, nor does its folder: put the keys into the home")
    found = [path for path in directory.iterdir() if _OF_EPOCH.fullmatch(path.name)]
    return [*([card] if card.exists() else []), *sorted(found, key=lambda path: _epoch_of(path) or 0)]


def _is_before(path: Path, epoch: int) -> bool:
    of = _epoch_of(path)
    return of is not None and of < epoch


def _epoch_of(path: Path) -> int | None:
    """The epoch in the file's name; None for the card's key."""
    named = _OF_EPOCH.fullmatch(path.name)
    return int(named[1]) if named else None
