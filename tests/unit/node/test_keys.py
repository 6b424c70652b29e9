"""Consensus keys on disk: made once for each epoch, kept apart, destroyed when their epoch is over."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crypto import keyfile
from crypto.keyfile import KdfCost, KeyFileError, MissingPassphrase, WrongPassphrase
from crypto.keys import SigningKey, verify
from node.keys import KeyFiles, protected_file
from store.files import OsFiles

CHEAP = KdfCost(operations=1, memory_bytes=8 << 10)
CARD = SigningKey.from_seed(bytes(range(32)))
WORDS = "quill and ink"


STEPS = ("rename", "sync directory", "overwrite", "sync file", "unlink", "sync directory")
"""Of a destruction, in order."""


class Crash(BaseException):
    """The machine goes down."""


class Disk:
    """Notes what is done to it, and goes down before the step of this number."""

    def __init__(self, patched: pytest.MonkeyPatch, goes_down_at: int = len(STEPS)) -> None:
        self.steps: list[str] = []
        self._goes_down_at = goes_down_at
        for name, step in (("rename", "rename"), ("pwrite", "overwrite"), ("unlink", "unlink"), ("fsync", "sync")):
            patched.setattr(os, name, self._noted(getattr(os, name), step))

    def _noted(self, real: Callable[..., Any], step: str) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if len(self.steps) == self._goes_down_at:
                raise Crash
            self.steps.append(f"{step} {_kind(given[0])}" if step == "sync" else step)
            return real(*given, **more)

        return call


def _kind(descriptor: int) -> str:
    return "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    keyfile.save(tmp_path / "consensus.key", CARD, "consensus", WORDS, cost=CHEAP)
    return tmp_path


def opened(home: Path, passphrase: str | None = WORDS) -> KeyFiles:
    return KeyFiles(home, passphrase, CHEAP)


def test_a_seat_is_signed_for_by_the_key_it_names(home: Path) -> None:
    keys = opened(home)
    made = keys.key_for(1)
    for public in (CARD.public, made.public):
        sign = keys.sign_for(7, public)
        assert sign is not None
        assert verify(public, b"message", sign(b"message"))
    assert keys.sign_for(1, bytes(32)) is None
    assert keys.sign_for(1, b"") is None, "a seat without a key"


def test_the_key_of_an_epoch_is_made_once_and_survives_a_restart(home: Path) -> None:
    keys = opened(home)
    made = keys.key_for(3)
    assert keys.key_for(3) is made
    assert opened(home).key_for(3).public == made.public
    assert keys.key_for(4).public != made.public
    assert sorted(path.name for path in home.iterdir()) == ["consensus-3.key", "consensus-4.key", "consensus.key"]


def test_a_new_key_is_protected_as_the_one_before(home: Path, tmp_path: Path) -> None:
    opened(home).key_for(1)
    assert keyfile.is_encrypted(home / "consensus-1.key")
    with pytest.raises(WrongPassphrase):
        keyfile.load(home / "consensus-1.key", "another")
    plain = tmp_path / "plain"
    plain.mkdir()
    keyfile.save(plain / "consensus.key", CARD, "consensus", None, unsafe_plaintext=True)
    opened(plain, None).key_for(1)
    assert not keyfile.is_encrypted(plain / "consensus-1.key")


def test_no_key_is_written_in_clear_where_none_was_found_so(tmp_path: Path) -> None:
    with pytest.raises(MissingPassphrase):
        opened(tmp_path, None).key_for(1)


def test_where_no_consensus_key_is_left_a_new_one_is_protected_as_the_ledger_key(tmp_path: Path) -> None:
    for name, words in (("open", None), ("closed", WORDS)):
        home = tmp_path / name
        home.mkdir()
        keyfile.save(home / "ledger.key", CARD, "ledger", words, unsafe_plaintext=words is None, cost=CHEAP)
        assert protected_file(home) == (None if words is None else home / "ledger.key")
        opened(home, words).key_for(1)
        assert keyfile.is_encrypted(home / "consensus-1.key") is (words is not None)


def test_the_passphrase_asked_for_is_that_of_a_key_that_is_there(home: Path) -> None:
    assert protected_file(home) == home / "consensus.key"
    keys = opened(home)
    keys.key_for(1)
    keys.destroy_before(1, {CARD.public})
    assert protected_file(home) == home / "consensus-1.key"
    assert opened(home).made_for(1) is not None, "the home opens without the card's key"


def test_invalid_home_without_a_folder_of_keys(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"consensus\.key"):
        opened(tmp_path / "keys")


def test_a_key_whose_making_failed_at_its_last_sync_is_the_one_that_counts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = opened(home)

    def fails(_: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(keyfile, "_sync_directory", fails)
        with pytest.raises(OSError, match="Input/output"):
            keys.key_for(1)
    assert keys.made_for(1) is None, "nobody hears of a key that may be gone after a crash"
    synced: list[Path] = []
    monkeypatch.setattr(OsFiles, "sync_directory", lambda _, path: synced.append(path))
    assert keys.key_for(1).public == keyfile.public_key(home / "consensus-1.key")
    assert synced == [home], "its name is durable before it is told"


def test_reading_while_a_key_is_made_or_destroyed_sees_the_one_or_the_other(home: Path) -> None:
    """Files are made and destroyed on another thread than the one that signs."""
    keys = opened(home)
    reading = iter(keys._keys.values())
    assert next(reading).public == CARD.public
    keys.key_for(1)
    assert list(reading) == []
    reading = iter(keys._keys.values())
    next(reading)
    keys.destroy_before(1, {CARD.public})
    assert [key.public for key in reading] == [keys.made_for(1)]


def test_keys_of_epochs_that_are_over_are_destroyed(home: Path) -> None:
    keys = opened(home)
    for epoch in (1, 2, 3):
        keys.key_for(epoch)
    secret = keyfile.load(home / "consensus-1.key", WORDS).seed()
    gone = keys.destroy_before(2, {CARD.public})
    assert [path.name for path in gone] == ["consensus.key", "consensus-1.key"]
    assert sorted(path.name for path in home.iterdir()) == ["consensus-2.key", "consensus-3.key"]
    assert keys.sign_for(0, CARD.public) is None
    assert keys.sign_for(1, SigningKey.from_seed(secret).public) is None
    assert keys.destroy_before(2, {CARD.public}) == []


def test_the_cards_key_stays_until_the_epoch_it_was_made_for_is_over(home: Path) -> None:
    """A newcomer's card names the key of its first epoch, whichever number that has."""
    keys = opened(home)
    assert keys.destroy_before(5, set()) == []
    assert keys.has(CARD.public)


def test_a_destroyed_file_holds_nothing_where_a_second_name_kept_it(home: Path) -> None:
    link = home / "copy"
    link.hardlink_to(home / "consensus.key")
    opened(home).destroy_before(1, {CARD.public})
    assert set(link.read_bytes()) == {0}


def test_a_file_loses_its_name_durably_before_it_loses_its_contents(home: Path) -> None:
    keys = opened(home)
    with pytest.MonkeyPatch.context() as patched:
        disk = Disk(patched)
        keys.destroy_before(1, {CARD.public})
    assert tuple(disk.steps) == STEPS


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_node_that_went_down_while_it_destroyed_a_key_starts_and_finishes_it(home: Path, step: int) -> None:
    keys = opened(home)
    keys.key_for(1)
    link = home.parent / f"{home.name}-link"
    link.hardlink_to(home / "consensus.key")
    with pytest.MonkeyPatch.context() as patched:
        Disk(patched, step)
        with pytest.raises(Crash):
            keys.destroy_before(1, {CARD.public})
    again = opened(home)
    assert again.has(CARD.public) is (step == 0), "whole under its name, or no key at all"
    assert again.made_for(1) is not None
    again.destroy_before(1, {CARD.public})
    assert [path.name for path in home.iterdir()] == ["consensus-1.key"]
    assert set(link.read_bytes()) == {0}, "no block of it was left out"


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_destruction_that_the_disk_refused_is_finished_at_the_next_call(home: Path, step: int) -> None:
    keys = opened(home)
    with pytest.MonkeyPatch.context() as patched:
        Disk(patched, step)
        with pytest.raises(Crash):
            keys.destroy_before(1, {CARD.public})
    assert keys.destroy_before(1, {CARD.public}) == [home / "consensus.key"]
    assert list(home.iterdir()) == []


def test_invalid_remnant_that_cannot_be_destroyed_is_named(home: Path) -> None:
    (home / ".gone-consensus-1.key").mkdir()
    with pytest.raises(KeyFileError, match=r"\.gone-consensus-1\.key: its destruction cannot be finished"):
        opened(home)


def test_destroying_what_is_gone_is_nothing(tmp_path: Path) -> None:
    keyfile.destroy(tmp_path / "never")


def test_files_of_other_names_are_left_alone(home: Path) -> None:
    for name in ("consensus-1.key.old", "consensus-x.key", "consensus-01.key", "ledger.key"):
        (home / name).write_bytes(b"not a key file")
    keys = opened(home)
    keys.destroy_before(9, set())
    assert (home / "consensus-01.key").exists()


def test_invalid_key_of_an_epoch_is_named(home: Path) -> None:
    opened(home).key_for(1)
    (home / "consensus-1.key").write_bytes(b"garbled")
    with pytest.raises(KeyFileError, match=r"consensus-1\.key"):
        opened(home)
