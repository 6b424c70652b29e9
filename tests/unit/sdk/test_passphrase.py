"""A passphrase comes from a descriptor, a file or a person, and never from a place others can read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lossbook_sdk.errors import PassphraseError
from lossbook_sdk.passphrase import VARIABLE, Passphrases

KEY = Path("some.key")


def _file(path: Path, text: str = "correct horse\n", mode: int = 0o600) -> dict[str, str]:
    path.write_text(text)
    path.chmod(mode)
    return {VARIABLE: str(path)}


def test_from_the_file_the_variable_names(tmp_path: Path) -> None:
    assert Passphrases(environment=_file(tmp_path / "p")).get(KEY) == "correct horse"


def test_from_a_descriptor_once_for_all_keys() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe")
    os.close(writer)
    source = Passphrases(descriptor=reader, environment={})
    assert source.get(KEY) == source.get(Path("other.key")) == "from a pipe"


def test_a_descriptor_goes_before_the_variable(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"descriptor")
    os.close(writer)
    assert Passphrases(descriptor=reader, environment=_file(tmp_path / "p")).get(KEY) == "descriptor"


def test_a_person_is_asked_for_each_key() -> None:
    asked: list[Path] = []

    def prompt(path: Path) -> str:
        asked.append(path)
        return "typed"

    source = Passphrases(environment={}, prompt=prompt)
    assert source.get(KEY) == source.get(Path("other.key")) == "typed"
    assert asked == [KEY, Path("other.key")]


def test_missing_source_says_what_to_set() -> None:
    with pytest.raises(PassphraseError) as caught:
        Passphrases(environment={}).get(KEY)
    assert VARIABLE in caught.value.advice


def test_file_open_to_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PassphraseError, match="open to others") as caught:
        Passphrases(environment=_file(tmp_path / "p", mode=0o644)).get(KEY)
    assert "chmod 600" in caught.value.advice


@pytest.mark.parametrize("text", ["", "\n", "x" * 5000])
def test_empty_or_huge_files_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PassphraseError, match="no passphrase"):
        Passphrases(environment=_file(tmp_path / "p", text)).get(KEY)


def test_missing_file_and_closed_descriptor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PassphraseError, match="cannot be read"):
        Passphrases(environment={VARIABLE: str(tmp_path / "none")}).get(KEY)
    with pytest.raises(PassphraseError, match="cannot be read"):
        Passphrases(descriptor=999, environment={}).get(KEY)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"\xff\xfe\xff")
    path.chmod(0o600)
    with pytest.raises(PassphraseError, match="not text"):
        Passphrases(environment={VARIABLE: str(path)}).get(KEY)
