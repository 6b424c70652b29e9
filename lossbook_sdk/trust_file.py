"""The file beside a profile in which a client keeps what was proved to it.

    {"format": "lossbook-known-1", "chain_id": hex,
     "epochs": [{"boundary": hex of the header that began it, "members": [[organisation id, hex of its key], ...]}],
     "seen_ms": block time of the newest header that was proved,
     "cards": {organisation id: {"height": state height, "text": ..., "signature": hex, "possession": hex}},
     "checksum": hex of SHA-256 over the rest as compact JSON with sorted keys}

It is trusted as the genesis file is: whoever can write there can exchange the genesis as well. So signatures under the
epochs are not checked again; that each epoch follows the one before, and that a header names its members, is.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from consensus.types import Validator
from ledger.cards import Card, GenesisError, card_of_record, check_statement
from ledger.epochs import Seat
from ledger.header_chain import EpochStart
from ledger.known_epochs import KnownEpochs
from ledger.organisations import CardRecord
from ledger.proof_errors import ProofError
from ledger.wire import WireError, decode_header
from lossbook_sdk.errors import ProfileError

FORMAT: Final = "lossbook-known-1"
FILE_BYTES_MAX: Final = 64 << 20
"""As many cards as a network has organisations, and thousands of epochs."""


class Kept(msgspec.Struct, frozen=True):
    """What is kept."""

    known: KnownEpochs
    cards: Mapping[str, tuple[int, Card]]
    """Organisation id -> state height at which it was proved, card as it stood there: its certificate may be none."""
    seen_ms: int = 0
    """Block time of the newest header that was proved, about."""


class _Epoch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    boundary: str
    members: list[tuple[str, str]]


class _Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    height: int
    text: str
    signature: str
    possession: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    chain_id: str
    epochs: list[_Epoch]
    cards: dict[str, _Card]
    seen_ms: int = 0
    checksum: str = ""


def read(path: Path, genesis: KnownEpochs) -> Kept:
    """What the file holds, upon epoch 0 of the network it must be of.

    Raises:
        ProfileError: it is damaged, or of another network.
    """
    try:
        raw = path.read_bytes()[:FILE_BYTES_MAX]
        file = msgspec.json.decode(raw, type=_File)
        _check_whole(file, msgspec.json.decode(raw), genesis.chain_id)
        cards = {name: _card(name, kept) for name, kept in file.cards.items()}
        return Kept(_epochs(genesis, file.epochs), cards, file.seen_ms)
    except (OSError, msgspec.DecodeError, ValueError, WireError, ProofError, GenesisError) as error:
        raise ProfileError(
            f"what was learned of the network, {path}, cannot be read: {error}",
            advice=f"Remove it, and all of it is proved again from the genesis: `rm {path}`",
        ) from error


def write(path: Path, kept: Kept) -> None:
    """Put it there, whole or not at all.

    Raises:
        OSError: as the file system.
    """
    numbers = sorted(kept.known.starts)
    whole = numbers[0] == kept.known.first_epoch  # else a checkpoint stands for the earlier ones, and is kept itself
    starts = [kept.known.starts[epoch] for epoch in numbers[1:]] if whole else []
    file = _File(
        FORMAT,
        kept.known.chain_id.hex(),
        [_Epoch(start.genesis.raw.hex(), [_member(one) for one in start.validators.members]) for start in starts],
        {
            name: _Card(height, card.text, card.signature.hex(), card.possession.hex())
            for name, (height, card) in kept.cards.items()
        },
        kept.seen_ms,
    )
    file = msgspec.structs.replace(file, checksum=checksum_of(msgspec.to_builtins(file)))
    raw = msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(raw)
        Path(temporary).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def checksum_of(document: Mapping[str, Any]) -> str:
    """Tells a damaged file from one of another history, which would be an alarm."""
    rest = {name: value for name, value in document.items() if name != "checksum"}
    return sha256(msgspec.json.encode(rest, order="sorted")).hexdigest()


def _check_whole(file: _File, document: Mapping[str, Any], chain_id: bytes) -> None:
    if file.checksum != checksum_of(document):
        raise ValueError("it is not as it was written")
    if (file.format, file.chain_id) != (FORMAT, chain_id.hex()):
        raise ValueError("it is of another format or network")


def _epochs(known: KnownEpochs, kept: Sequence[_Epoch]) -> KnownEpochs:
    starts = dict(known.starts)
    for epoch, each in enumerate(kept, start=known.first_epoch + 1):
        boundary = decode_header(bytes.fromhex(each.boundary))
        if (boundary.chain_id, boundary.epoch) != (known.chain_id, epoch - 1):
            raise ValueError(f"what begins epoch {epoch} is of another network or epoch")
        starts[epoch] = EpochStart.after(boundary, [Seat(name, bytes.fromhex(key)) for name, key in each.members])
    return msgspec.structs.replace(known, starts=starts)


def _card(name: str, kept: _Card) -> tuple[int, Card]:
    card = card_of_record(CardRecord(kept.text, bytes.fromhex(kept.signature), bytes.fromhex(kept.possession)))
    check_statement(card)
    if card.id != name:
        raise ValueError(f"the card of {name} is another one's")
    return kept.height, card


def _member(member: Validator) -> tuple[str, str]:
    return (member.id, member.public_key.hex())
