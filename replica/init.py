"""``replica init``: a supervisor's home from the genesis and the organisation's ledger key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from contracts.dispatch import CONTRACTS
from ledger.cards import GenesisError
from replica.config import ReplicaSettings, sources_of
from services.books import Books
from services.members import Members
from services.own_home import LEDGER_KEY, Ceremony
from services.settings import render
from store.home import Home, HomeKind


def init_home(
    path: Path,
    *,
    genesis: Path,
    keys: Path,
    passphrase: str | None,
    settings: Mapping[str, str] | None = None,
    now: datetime | None = None,
    books: Books | None = None,
) -> Home:
    """Make a replica's home.

    Args:
        path: must not exist, or be empty.
        genesis: the network's genesis.json.
        keys: directory holding the organisation's ``ledger.key``; copied as it is.
        passphrase: of the key file; None where it is stored without.
        settings: ``section.key`` -> value that go into lossbook.toml, e.g. ``follow.sources``.
        now: for the certificate's validity; default: the clock.
        books: of the network before, where the genesis carries them on.

    Raises:
        GenesisError: the file is no genesis, or names no such organisation, or does not let it follow the blocks, or
            the books are not those it names.
        ReplicaConfigError: ``follow.sources`` cannot be followed.
        KeyFileError, HomeExists, StoreFailed: as their modules say.
    """
    found = Ceremony.read(genesis, keys, passphrase)
    network, card = found.genesis, found.card
    if not network.may_subscribe(card.id):
        raise GenesisError(
            f"the genesis does not let {card.id} follow the blocks",
            "Ask the members for the permission, or follow a replica of your own organisation.",
        )
    values: dict[str, object] = dict(settings or {})
    if card.body.public_address and not card.is_validator:
        values.setdefault("listen.public", card.body.public_address)
    sources_of(str(values.get("follow.sources", "")), Members.from_genesis(network), card.id)
    text = render(ReplicaSettings, values)
    return found.make_home(path, HomeKind.REPLICA, (LEDGER_KEY,), text, now, books, CONTRACTS)
