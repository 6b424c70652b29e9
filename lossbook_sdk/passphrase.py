"""Where the passphrase of a key file comes from; never from the command line, where others would see it.

Asked in this order: a file descriptor given by the caller, the file LOSSBOOK_PASSPHRASE_FILE names, a prompt.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from lossbook_sdk.errors import PassphraseError

VARIABLE: Final = "LOSSBOOK_PASSPHRASE_FILE"
PASSPHRASE_BYTES_MAX: Final = 4096
"""More is a wrong file."""

Prompt = Callable[[Path], str]
"""Asks a person for the passphrase of a key file."""


class Passphrases:
    """One passphrase for all keys of a command; read once, when the first encrypted key needs it.

    Args:
        descriptor: open file descriptor to read from; closed afterwards.
        environment: as ``os.environ``.
        prompt: asked where neither descriptor nor variable is set; None: nobody is there to answer.
    """

    def __init__(
        self,
        *,
        descriptor: int | None = None,
        environment: Mapping[str, str] | None = None,
        prompt: Prompt | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._environment = os.environ if environment is None else environment
        self._prompt = prompt
        self._known: str | None = None

    def get(self, key_file: Path) -> str:
        """The passphrase.

        Raises:
            PassphraseError: there is no source, or it cannot be read or is empty.
        """
        if self._known is not None:
            return self._known
        named = self._environment.get(VARIABLE)
        if self._descriptor is not None:
            self._known = _from_descriptor(self._descriptor)
        elif named:
            self._known = _from_file(Path(named))
        elif self._prompt is not None:
            return self._prompt(key_file)  # two keys may have two passphrases: a person can tell
        else:
            raise PassphraseError(
                f"key file {key_file} is encrypted and there is no way to ask for its passphrase",
                advice=f"Set {VARIABLE} to a file of mode 0600 that holds it, or give --passphrase-fd",
            )
        return self._known


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(PASSPHRASE_BYTES_MAX + 1)
    except OSError as error:
        raise PassphraseError(
            f"the passphrase file {path} cannot be read: {error.strerror}", advice=f"Correct {VARIABLE}"
        ) from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise PassphraseError(
            f"the passphrase file {path} is open to others (mode {mode & 0o777:o})", advice=f"Run `chmod 600 {path}`"
        )
    return _text(raw, str(path))


def _from_descriptor(descriptor: int) -> str:
    try:
        with os.fdopen(descriptor, "rb") as file:
            raw = file.read(PASSPHRASE_BYTES_MAX + 1)
    except OSError as error:
        raise PassphraseError(
            f"file descriptor {descriptor} cannot be read: {error.strerror}",
            advice="Open it for the command, for example: --passphrase-fd 3 3<passphrase.txt",
        ) from error
    return _text(raw, f"file descriptor {descriptor}")


def _text(raw: bytes, source: str) -> str:
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise PassphraseError(f"what {source} holds is not text", advice="Put the passphrase there in UTF-8") from error
    if not text or len(raw) > PASSPHRASE_BYTES_MAX:
        raise PassphraseError(
            f"{source} holds no passphrase (it is empty or longer than {PASSPHRASE_BYTES_MAX} bytes)",
            advice="Put the passphrase there, on one line",
        )
    return text
