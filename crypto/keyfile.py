"""Private keys on disk: JSON files of mode 0600, encrypted under a passphrase.

    {"version": 1, "kind": "consensus", "public_key": hex,
     "encryption": {"kdf": "argon2id", "operations": 3, "memory_bytes": 67108864, "salt": hex,
                    "cipher": "xchacha20-poly1305-ietf", "nonce": hex},
     "secret": hex, "checksum": hex}

The key encryption key is Argon2id (RFC 9106; libsodium, one lane) of the passphrase in UTF-8. The cipher's associated
data are all fields above ``secret`` as compact JSON with sorted keys, so that none can be exchanged. ``checksum`` is
the first 8 bytes of SHA-256 over all other fields in the same form: it tells a damaged file from a wrong passphrase.
In the unsafe variant ``encryption`` is ``{"cipher": "none"}`` and ``secret`` is the seed itself. ADR 0009.
"""

import json
import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_pwhash_alg,
    crypto_pwhash_ALG_ARGON2ID13,
    randombytes,
)
from nacl.exceptions import CryptoError

from crypto.keys import SEED_BYTES, SigningKey

VERSION: Final = 1
CIPHER: Final = "xchacha20-poly1305-ietf"
PLAINTEXT: Final = "none"
KDF: Final = "argon2id"

SALT_BYTES: Final = 16
NONCE_BYTES: Final = 24
SECRET_BYTES: Final = SEED_BYTES + 16

CONDEMNED: Final = ".gone-"
"""Before the name of a key file that is being destroyed: no reader of keys looks at such a name."""

FILE_BYTES_MAX: Final = 16 << 10
"""A key file has below 1 KiB; more is something else, and is not read."""
OPERATIONS_MAX: Final = 64
MEMORY_BYTES_MIN: Final = 8 << 10
MEMORY_BYTES_MAX: Final = 1 << 30
"""Bounds on the work a file may ask for: a planted file must not take the machine's memory."""


class KdfCost(msgspec.Struct, frozen=True):
    """What one guess of the passphrase costs."""

    operations: int = 3
    """Passes over the memory."""
    memory_bytes: int = 64 << 20
    """RFC 9106's second recommendation, for machines short of memory: about 0.1 s."""


class KeyFileError(Exception):
    """A key file cannot be used; the text says what to do."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(f"key file {path}: {text}")
        self.path = path


class MissingKeyFile(KeyFileError):
    """There is no such file."""


class KeyFileExists(KeyFileError):
    """A key file is never overwritten."""


class ExposedKeyFile(KeyFileError):
    """Others than the owner may read the file."""


class MissingPassphrase(KeyFileError):
    """The file is encrypted and no passphrase was given, or it would have been written without one."""


class WrongPassphrase(KeyFileError):
    """The file is whole and the passphrase is not its."""


class DamagedKeyFile(KeyFileError):
    """The file is not what was written."""


def save(
    path: Path,
    key: SigningKey,
    kind: str,
    passphrase: str | None,
    *,
    unsafe_plaintext: bool = False,
    cost: KdfCost | None = None,
) -> None:
    """Write a new key file: complete or not at all, mode 0600 from its first moment.

    ``kind`` names the key's use ("ledger", "consensus", "role"). KeyFileExists; MissingPassphrase unless
    ``unsafe_plaintext`` says that the seed may lie open on the disk.
    """
    if passphrase and not unsafe_plaintext:
        document = _encrypted(key, kind, passphrase, cost or KdfCost())
    elif unsafe_plaintext:
        document = {**_header(key, kind, {"cipher": PLAINTEXT}), "secret": key.seed().hex()}
    else:
        raise MissingPassphrase(path, "needs a passphrase to be encrypted under: set one, and keep it elsewhere")
    document["checksum"] = _checksum(document)
    _write_new(path, json.dumps(document, indent=2).encode() + b"\n")


def load(path: Path, passphrase: str | None, kind: str | None = None) -> SigningKey:
    """The key in the file; a passphrase is ignored by the unsafe variant.

    With ``kind``, a file of another kind is refused. MissingKeyFile, ExposedKeyFile, DamagedKeyFile,
    MissingPassphrase, WrongPassphrase.
    """
    document = _read(path)
    if kind is not None and document["kind"] != kind:
        raise KeyFileError(path, f"holds a {document['kind']} key, not a {kind} key: name the right file")
    if document["encryption"]["cipher"] == PLAINTEXT:
        seed = _hex(path, document, "secret", SEED_BYTES)
    elif not passphrase:
        raise MissingPassphrase(path, "is encrypted, and no passphrase was given: set one, or name a passphrase file")
    else:
        seed = _decrypted(path, document, passphrase)
    key = SigningKey(seed)
    if key.public.hex() != document["public_key"]:
        raise DamagedKeyFile(path, "its secret is not that of its public key: restore it from a backup")
    return key


def public_key(path: Path) -> bytes:
    """The 32-byte public key, which needs no passphrase; the file is checked as by ``load``."""
    return _hex(path, _read(path), "public_key", 32)


def kind_of(path: Path) -> str:
    """What the key is for, as ``save`` was told: ``role``, ``ledger`` or ``consensus``; needs no passphrase."""
    return str(_read(path)["kind"])


def is_encrypted(path: Path) -> bool:
    """Whether ``load`` needs a passphrase."""
    return bool(_read(path)["encryption"]["cipher"] != PLAINTEXT)


def destroy(path: Path) -> None:
    """Overwrite the file with zeros and remove it, both durably; nothing to do where it is gone.

    It loses its name first, durably: after a crash there is the whole key, or a file that nobody takes for a key and
    that ``finish_destroying`` finds; never zeros under a key's name. A second call goes on where the first failed.

    A best effort: flash memory and copying file systems may keep old blocks, so the disk itself should be encrypted.

    Raises:
        OSError: as the file system.
    """
    condemned = path.with_name(CONDEMNED + path.name)
    _erase(condemned)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        path.rename(condemned)
    except FileNotFoundError:
        return
    _sync_directory(path.parent)
    _erase(condemned)


def finish_destroying(directory: Path) -> None:
    """Destroy what ``destroy`` left half done in this directory when the process or the machine went down.

    Raises:
        KeyFileError: the file system refuses.
    """
    for path in sorted(directory.glob(f"{CONDEMNED}*")):
        try:
            _erase(path)
        except OSError as error:
            raise KeyFileError(
                path, f"its destruction cannot be finished ({error.strerror}): remove what stands in the way"
            ) from error


# ---------------------------------------------------------------- document


def _header(key: SigningKey, kind: str, encryption: dict[str, Any]) -> dict[str, Any]:
    return {"version": VERSION, "kind": kind, "public_key": key.public.hex(), "encryption": encryption}


def _encrypted(key: SigningKey, kind: str, passphrase: str, cost: KdfCost) -> dict[str, Any]:
    salt, nonce = randombytes(SALT_BYTES), randombytes(NONCE_BYTES)
    encryption = {
        "kdf": KDF,
        "operations": cost.operations,
        "memory_bytes": cost.memory_bytes,
        "salt": salt.hex(),
        "cipher": CIPHER,
        "nonce": nonce.hex(),
    }
    header = _header(key, kind, encryption)
    wrapping = _derive(passphrase, salt, cost.operations, cost.memory_bytes)
    secret = crypto_aead_xchacha20poly1305_ietf_encrypt(key.seed(), _compact(header), nonce, wrapping)
    return {**header, "secret": secret.hex()}


def _decrypted(path: Path, document: dict[str, Any], passphrase: str) -> bytes:
    encryption = document["encryption"]
    operations, memory = encryption.get("operations"), encryption.get("memory_bytes")
    if encryption.get("kdf") != KDF or encryption["cipher"] != CIPHER:
        raise DamagedKeyFile(path, "is encrypted in a way this version does not know: use the version that wrote it")
    if not (type(operations) is int and type(memory) is int):
        raise DamagedKeyFile(path, "its key derivation is unreadable: restore it from a backup")
    if not (1 <= operations <= OPERATIONS_MAX and MEMORY_BYTES_MIN <= memory <= MEMORY_BYTES_MAX):
        raise DamagedKeyFile(path, "its key derivation asks for more work than is allowed: restore it from a backup")
    salt, nonce = _hex(path, encryption, "salt", SALT_BYTES), _hex(path, encryption, "nonce", NONCE_BYTES)
    secret = _hex(path, document, "secret", SECRET_BYTES)
    header = {name: document[name] for name in ("version", "kind", "public_key", "encryption")}
    wrapping = _derive(passphrase, salt, operations, memory)
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(secret, _compact(header), nonce, wrapping)
    except CryptoError:
        raise WrongPassphrase(
            path,
            "the passphrase is wrong (the file itself is undamaged): run it again with the one it was made with, taken "
            "from --passphrase-fd, else from the file that LOSSBOOK_PASSPHRASE_FILE names, else from a prompt",
        ) from None


def _derive(passphrase: str, salt: bytes, operations: int, memory_bytes: int) -> bytes:
    return crypto_pwhash_alg(32, passphrase.encode(), salt, operations, memory_bytes, crypto_pwhash_ALG_ARGON2ID13)


def _compact(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _checksum(document: dict[str, Any]) -> str:
    rest = {name: value for name, value in document.items() if name != "checksum"}
    return sha256(_compact(rest)).hexdigest()[:16]


def _hex(path: Path, fields: dict[str, Any], name: str, length: int) -> bytes:
    try:
        found = bytes.fromhex(fields[name])
    except (KeyError, TypeError, ValueError):
        found = b""
    if len(found) != length:
        raise DamagedKeyFile(path, f"its field {name} is unreadable: restore it from a backup")
    return found


# ---------------------------------------------------------------- disk


def _read(path: Path) -> dict[str, Any]:
    """The document, with its checksum checked and the fields every variant has present."""
    raw = _read_private(path)
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("checksum") != _checksum(document):
        raise DamagedKeyFile(path, "is not as it was written: restore it from a backup")
    if document.get("version") != VERSION:
        raise DamagedKeyFile(path, f"is not of version {VERSION}: use the version that wrote it")
    encryption = document.get("encryption")
    texts = [document.get(name) for name in ("kind", "public_key", "secret")]
    if not isinstance(encryption, dict) or "cipher" not in encryption or not all(isinstance(t, str) for t in texts):
        raise DamagedKeyFile(path, "lacks fields: restore it from a backup")
    return document


def _erase(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _read_private(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise MissingKeyFile(path, "does not exist: name the right home, or make the key first") from None
    except OSError as error:
        raise KeyFileError(path, f"cannot be read: {error.strerror}") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileError(path, "is no regular file: name the right one")
        if mode & 0o077:
            raise ExposedKeyFile(
                path,
                f"is open to others (mode {mode & 0o777:o}): run `chmod 600` on it; renew the key if it was seen",
            )
        raw = os.read(descriptor, FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(raw) > FILE_BYTES_MAX:
        raise DamagedKeyFile(path, "is too large to be a key file: name the right one")
    return raw


def _write_new(path: Path, raw: bytes) -> None:
    """Write beside, sync, then link under the name: the name appears with all its bytes, and never replaces another."""
    draft = path.with_name(f".{path.name}.{randombytes(6).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyFileError(path, f"cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(raw)
            file.flush()
            os.fsync(descriptor)
        os.link(draft, path)
    except FileExistsError:
        raise KeyFileExists(path, "exists already, and a key is never overwritten: move it away first") from None
    except OSError as error:
        raise KeyFileError(path, f"cannot be written: {error.strerror}") from error
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
