"""The signing keys of a client, loaded from their encrypted files when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from crypto import keyfile
from crypto.keys import SigningKey
from ledger.cards import Card
from ledger.organisations import Role
from lossbook_sdk.errors import BadInput
from lossbook_sdk.passphrase import Passphrases


class Wallet:
    """Key files by label.

    Args:
        files: label -> key file.
        passphrases: where the passphrase comes from.
    """

    def __init__(self, files: Mapping[str, Path], passphrases: Passphrases | None = None) -> None:
        self._files = dict(files)
        self._passphrases = passphrases or Passphrases()
        self._loaded: dict[Path, SigningKey] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the keys, in the order they were given."""
        return tuple(self._files)

    def path(self, name: str) -> Path:
        """The file of a label, or the path itself; BadInput where there is neither."""
        path = self._files.get(name) or Path(name)
        if name not in self._files and not path.exists():
            known = ", ".join(self._files) or "none"
            raise BadInput(
                f"{name!r} is neither a key of the profile nor a key file",
                advice=f"Keys of this profile: {known}. `lossbook key create` makes another",
            )
        return path

    def key(self, name: str) -> SigningKey:
        """The key of a label, or of the file at a path.

        Raises:
            BadInput: neither.
            KeyFileError, PassphraseError: the file cannot be used.
        """
        path = self.path(name)
        if path not in self._loaded:
            passphrase = self._passphrases.get(path) if keyfile.is_encrypted(path) else None
            self._loaded[path] = keyfile.load(path, passphrase)
        return self._loaded[path]

    def keys(self, names: Iterable[str]) -> tuple[SigningKey, ...]:
        """Several keys, in order; BadInput where one is named twice."""
        found = tuple(self.key(name) for name in names)
        if len({key.public for key in found}) != len(found):
            raise BadInput(
                "one key is named twice", advice="Four eyes need two different keys: name another with --key"
            )
        return found

    def with_role(self, role: Role, card: Card | None) -> str | None:
        """Label of the first key that the organisation's card gives the role; needs no passphrase."""
        if card is None:
            return None
        holders = {bytes.fromhex(key.public) for key in card.body.keys if key.role_bits() & role}
        return next((label for label, public in self.public_keys() if public in holders), None)

    def public_keys(self) -> Iterator[tuple[str, bytes]]:
        """(label, public key) of the key files that are there; needs no passphrase."""
        for label, path in self._files.items():
            if path.exists():
                yield label, keyfile.public_key(path)


def public_keys(keys: Sequence[SigningKey]) -> tuple[bytes, ...]:
    """32 bytes each, in order."""
    return tuple(key.public for key in keys)
