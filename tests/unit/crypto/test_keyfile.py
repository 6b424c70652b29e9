import json
import os
import re
from pathlib import Path

import pytest

from crypto import keyfile
from crypto.keyfile import (
    DamagedKeyFile,
    ExposedKeyFile,
    KdfCost,
    KeyFileError,
    KeyFileExists,
    MissingKeyFile,
    MissingPassphrase,
    WrongPassphrase,
)
from crypto.keys import SigningKey

CHEAP = KdfCost(operations=1, memory_bytes=8 << 10)
KEY = SigningKey.from_seed(bytes(range(32)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "consensus.key"
    keyfile.save(path, KEY, "consensus", "quill and ink", cost=CHEAP)
    return path


def test_a_saved_key_loads_with_its_passphrase(path: Path) -> None:
    assert keyfile.load(path, "quill and ink", "consensus").seed() == KEY.seed()
    assert keyfile.public_key(path) == KEY.public
    assert keyfile.is_encrypted(path)


def test_the_file_is_private_and_alone_and_holds_no_secret_in_clear(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert KEY.seed().hex() not in path.read_text()


def test_a_wide_umask_does_not_widen_the_mode(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keyfile.save(tmp_path / "k", KEY, "role", "p", cost=CHEAP)
    finally:
        os.umask(before)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
def test_invalid_file_open_to_others(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(ExposedKeyFile, match="chmod 600"):
        keyfile.load(path, "quill and ink")


def test_a_key_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(KeyFileExists, match="never overwritten"):
        keyfile.save(path, SigningKey.generate(), "consensus", "quill and ink", cost=CHEAP)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_wrong_missing_and_damaged_are_told_apart(path: Path) -> None:
    with pytest.raises(WrongPassphrase, match=r"undamaged.: run it again with the one .* LOSSBOOK_PASSPHRASE_FILE"):
        keyfile.load(path, "quill and inc")
    for none in (None, ""):
        with pytest.raises(MissingPassphrase, match="no passphrase was given"):
            keyfile.load(path, none)
    with pytest.raises(MissingKeyFile):
        keyfile.load(path.with_name("other.key"), "quill and ink")
    with pytest.raises(KeyFileError, match="holds a consensus key, not a ledger key"):
        keyfile.load(path, "quill and ink", "ledger")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DamagedKeyFile, match="restore it from a backup"):
        keyfile.load(path, "quill and ink")


def test_every_changed_character_is_noticed(path: Path) -> None:
    text = path.read_text()
    for place in [match.start() for match in re.finditer(r"[0-9a-z]", text)]:
        path.write_text(text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :])
        with pytest.raises(DamagedKeyFile):
            keyfile.load(path, "quill and ink")


def test_an_exchanged_header_is_noticed_even_with_a_fitting_checksum(path: Path) -> None:
    document = json.loads(path.read_text())
    document["kind"] = "ledger"
    _rewrite(path, document)
    with pytest.raises(WrongPassphrase):
        keyfile.load(path, "quill and ink", "ledger")


@pytest.mark.parametrize("memory", [1 << 40, 0, "much", None, True])
def test_invalid_work_asked_for_by_a_planted_file(path: Path, memory: object) -> None:
    document = json.loads(path.read_text())
    document["encryption"]["memory_bytes"] = memory
    _rewrite(path, document)
    with pytest.raises(DamagedKeyFile, match="key derivation"):
        keyfile.load(path, "quill and ink")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 9000, b"{}" * 9000])
def test_invalid_contents(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DamagedKeyFile):
        keyfile.load(path, "quill and ink")


@pytest.mark.parametrize("missing", ["kind", "public_key", "secret", "encryption"])
def test_invalid_lack_of_a_field(path: Path, missing: str) -> None:
    document = json.loads(path.read_text())
    del document[missing]
    _rewrite(path, document)
    with pytest.raises(DamagedKeyFile):
        keyfile.load(path, "quill and ink")


def test_a_directory_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        keyfile.load(tmp_path, "quill and ink")


def test_plaintext_only_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "role.key"
    with pytest.raises(MissingPassphrase):
        keyfile.save(path, KEY, "role", None)
    assert not list(tmp_path.iterdir())
    keyfile.save(path, KEY, "role", None, unsafe_plaintext=True)
    assert keyfile.load(path, None).seed() == KEY.seed()
    assert not keyfile.is_encrypted(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_invalid_plaintext_secret_of_another_key(tmp_path: Path) -> None:
    path = tmp_path / "role.key"
    keyfile.save(path, KEY, "role", None, unsafe_plaintext=True)
    document = json.loads(path.read_text())
    document["secret"] = bytes(32).hex()
    _rewrite(path, document)
    with pytest.raises(DamagedKeyFile, match="not that of its public key"):
        keyfile.load(path, None)


def test_no_error_text_holds_the_secret_or_the_passphrase(path: Path) -> None:
    with pytest.raises(KeyFileError) as caught:
        keyfile.load(path, "hunter2-wrong")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def _rewrite(path: Path, document: dict[str, object]) -> None:
    document["checksum"] = keyfile._checksum(document)
    path.write_text(json.dumps(document))
