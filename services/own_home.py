"""A daemon's own home: what ``node init`` and ``replica init`` make alike, and the certificate that both keep fresh."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from crypto import keyfile, tls
from crypto.keys import SigningKey
from ledger.cards import Card, GenesisError, card_of_record, decode_card, encode_card
from ledger.contract import Contracts
from ledger.genesis import Genesis, load_genesis, require_no_predecessor
from ledger.organisations import CARDS, find_organisation
from ledger.registrations import NODE_KEYS
from ledger.state import StateView
from services.books import Books, move_stores
from services.logs import get_logger
from services.settings import FILE_NAME
from store.home import Home, HomeKind, copy_durably, create_home, write_durably

LEAF_VALIDITY: Final = timedelta(days=90)
"""A leaf is renewed at the start of a daemon in its last third, where the ledger key can be read."""

LEDGER_KEY: Final = "ledger.key"

_log = get_logger("certificate")


class NoCertificate(Exception):
    """There is no usable TLS certificate, and none can be issued."""


@dataclass(frozen=True, slots=True)
class Ceremony:
    """What the ceremony left to one organisation: the network's genesis and a directory of its own keys."""

    genesis: Genesis
    keys: Path
    ledger_key: SigningKey
    card: Card
    voted: bool = False  #: the card is not the genesis', a vote admitted it

    @classmethod
    def read(cls, genesis: Path, keys: Path, passphrase: str | None, card: Path | None = None) -> Ceremony:
        """Read both.

        Args:
            genesis: the network's genesis.json.
            keys: directory holding the organisation's ``ledger.key``.
            passphrase: of the key files; None where they are stored without.
            card: the organisation's card file, where the members admitted it by vote; None: it is in the genesis.

        Raises:
            GenesisError: the file is no genesis, or has no card of this key; the card file is no card, or another's.
            KeyFileError, OSError: a file cannot be read.
        """
        network = load_genesis(genesis.read_bytes())
        ledger_key = keyfile.load(keys / LEDGER_KEY, passphrase, "ledger")
        if card is not None:
            return cls(network, keys, ledger_key, _own_card(card, ledger_key.public), voted=True)
        found = next((card for card in network.organisations if card.ledger_key == ledger_key.public), None)
        if found is None:
            raise GenesisError(
                "the ledger key stands on no card of this genesis",
                "Use the key that made the card, or the genesis.json that contains it; where the members admitted the "
                "card by vote, name its file: --card card.json.",
            )
        return cls(network, keys, ledger_key, found)

    def make_home(
        self,
        path: Path,
        kind: HomeKind,
        key_files: Sequence[str],
        settings: str,
        now: datetime | None,
        books: Books | None,
        contracts: Contracts,
    ) -> Home:
        """Make the home and put keys, certificate and settings into it.

        Args:
            path: must not exist, or be empty.
            key_files: names in ``keys``; copied as they are, encrypted or not.
            settings: contents of lossbook.toml.
            now: for the certificate's validity; None: the clock.
            books: of the network before, where the genesis carries them on.
            contracts: that execute what is final in them.

        Raises:
            GenesisError: books are missing, or not those of this genesis; nothing was made.
            HomeExists, StoreFailed, OSError: as ``store.home``.
        """
        if books is None:
            require_no_predecessor(self.genesis)
        room = path.with_name(f".{path.name}.books-{os.getpid()}")
        try:
            if books is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(room, ignore_errors=True)
                books.make_stores(self.genesis, room, contracts)
            home = create_home(path, kind, self.genesis.raw, self.genesis.chain_id, self.card.id)
            if books is not None:
                books.keep(home)
                move_stores(room, home)
        finally:
            shutil.rmtree(room, ignore_errors=True)
        for name in key_files:
            copy_durably(self.keys / name, home.keys / name)
        if self.voted:
            write_durably(home.card, encode_card(self.card))
        write_leaf(home, self.ledger_key, now or datetime.now(UTC))
        write_durably(home.path / FILE_NAME, settings.encode())
        return home


def _own_card(path: Path, ledger_public: bytes) -> Card:
    card = decode_card(path.read_bytes())
    if card.ledger_key != ledger_public:
        raise GenesisError(
            f"{path} is the card of another ledger key", "Use the card and the keys of one organisation's office."
        )
    return card


def known_cards(home: Home, view: StateView) -> list[Card]:
    """The cards of the home's organisation: the one in executed state, and the one in the home.

    Raises:
        CardError: ``card.json`` is there and is no card.
    """
    executed = view.get(CARDS, home.organisation.encode())
    cards = [card_of_record(executed)] if executed is not None else []
    return [*cards, decode_card(home.card.read_bytes())] if home.card.exists() else cards


def ledger_key_in_use(home: Home, view: StateView) -> bytes:
    """The ledger key under which this daemon's certificate has to stand, 32 bytes.

    That of executed state or, where this has not come yet to the vote that admitted the card in the home, that card's.

    Raises:
        NoCertificate: the key in the home is neither, or no card is known.
        CardError, KeyFileError: a file cannot be used.
    """
    record = find_organisation(view, home.organisation)
    coming = [card.ledger_key for card in known_cards(home, view) if view.get(NODE_KEYS, card.ledger_key) is None]
    good = [*([record.ledger_key] if record is not None else []), *coming]
    file = home.keys / LEDGER_KEY
    chosen = good[:1] if not file.exists() else [key for key in good if key == keyfile.public_key(file)]
    if not chosen:
        raise NoCertificate(
            f"{file} is not the ledger key on the card of {home.organisation}: put the right one there. Where a vote "
            f"has just replaced it, put the new card there, too, as {home.card}"
        )
    return chosen[0]


def write_leaf(home: Home, ledger_key: SigningKey, now: datetime) -> None:
    """Issue a new TLS leaf into ``tls/``.

    Raises:
        OSError: as the file system.
    """
    certificate, private = tls.issue_leaf(ledger_key, home.organisation, home.kind.value, now, LEAF_VALIDITY)
    write_durably(home.tls / "leaf.key", private)
    write_durably(home.tls / "leaf.pem", certificate)


def _load_ledger_key(path: Path, passphrase: str | None, public: bytes) -> SigningKey:
    key = keyfile.load(path, passphrase, "ledger")
    if key.public != public:
        raise keyfile.KeyFileError(path, "is not the key on the organisation's card: put the right one there")
    return key


def ensure_leaf(home: Home, ledger_public: bytes, passphrase: str | None, now: datetime) -> datetime:
    """A certificate that is good for a while, renewed in the last third of its time; when the one in use ends.

    Raises:
        NoCertificate: there is no usable one, and none can be issued.
    """
    problem = ""
    ends = now
    try:
        ends = tls.check_leaf((home.tls / "leaf.pem").read_bytes(), ledger_public, now).not_after
        if ends - now > LEAF_VALIDITY / 3:
            return ends
    except (OSError, tls.TlsIdentityError) as error:
        problem = str(error)
    try:
        write_leaf(home, _load_ledger_key(home.keys / LEDGER_KEY, passphrase, ledger_public), now)
    except (keyfile.KeyFileError, OSError) as error:
        if problem:
            raise NoCertificate(f"no usable TLS certificate ({problem}), and none can be issued: {error}") from error
        _log.warning("the TLS certificate ends soon and cannot be renewed", problem=str(error))
        return ends
    _log.info("issued a new TLS certificate", valid_days=LEAF_VALIDITY.days)
    return now + LEAF_VALIDITY
