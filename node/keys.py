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

KIND: Final = "consensus"
CARD_KEY: Final = "consensus.key"
_OF_EPOCH: Final = re.compile(r"consensus-(0|[1-9][0-9]{0,18})\.key")


class KeyFiles:
    """``node.epoch.Keyring`` of a home.

    Args:
        directory: the home's ``keys``.
        passphrase: of the files; None where they are stored without.
        cost: of guessing the passphrase of files made here.
    """

    def __init__(self, directory: Path, passphrase: str | None, cost: KdfCost | None = None) -> None:
        """Read the files that are there.

        Raises:
            KeyFileError: one of them cannot be used; the text says what to do.
        """
        self._directory = directory
        self._passphrase = passphrase
        self._cost = cost
        self._keys: dict[Path, SigningKey] = {}
        self._plaintext = False
        for path in self._paths():
            self._keys[path] = keyfile.load(path, passphrase, KIND)
            self._plaintext = self._plaintext or not keyfile.is_encrypted(path)

    def _paths(self) -> list[Path]:
        found = [path for path in self._directory.iterdir() if _OF_EPOCH.fullmatch(path.name)]
        card = self._directory / CARD_KEY
        return [*([card] if card.exists() else []), *sorted(found, key=lambda path: _epoch_of(path) or 0)]

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
        """The key this node made for an epoch; made now, if it was not.

        Raises:
            KeyFileError: it cannot be written.
        """
        path = self._path(epoch)
        key = self._keys.get(path)
        if key is None:
            key = SigningKey.generate()
            keyfile.save(path, key, KIND, self._passphrase, unsafe_plaintext=self._plaintext, cost=self._cost)
            self._keys[path] = key
        return key

    def destroy_before(self, epoch: int, used: Collection[bytes]) -> list[Path]:
        """Destroy the keys of epochs that are over: those made for one before ``epoch``, and the card's if it is among
        ``used``, the public keys that this organisation's seats had in them. Returns the files that are gone.

        Raises:
            OSError: as the file system; what was not destroyed is tried again at the next call.
        """
        over = [path for path, key in self._keys.items() if _is_over(path, key, epoch, used)]
        for path in over:
            keyfile.destroy(path)
            del self._keys[path]
        return over


def _is_over(path: Path, key: SigningKey, epoch: int, used: Collection[bytes]) -> bool:
    of = _epoch_of(path)
    return key.public in used if of is None else of < epoch


def _epoch_of(path: Path) -> int | None:
    """The epoch in the file's name; None for the card's key."""
    named = _OF_EPOCH.fullmatch(path.name)
    return int(named[1]) if named else None
