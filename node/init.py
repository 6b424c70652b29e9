"""``node init``: a validator's home from the genesis and the organisation's own keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from contracts.dispatch import CONTRACTS
from crypto import keyfile
from ledger.cards import Card, GenesisError
from node.config import NodeSettings
from services.books import Books
from services.own_home import LEDGER_KEY, Ceremony
from services.settings import load, render
from store.home import Home, HomeKind

CONSENSUS_KEY: Final = "consensus.key"


def init_home(
    path: Path,
    *,
    genesis: Path,
    keys: Path,
    passphrase: str | None,
    settings: Mapping[str, str] | None = None,
    card: Path | None = None,
    consensus_key: bool = True,
    now: datetime | None = None,
    books: Books | None = None,
) -> Home:
    """Make a node's home.

    Args:
        path: must not exist, or be empty.
        genesis: the network's genesis.json.
        keys: directory holding the organisation's ``ledger.key`` and ``consensus.key``; copied as they are.
        passphrase: of the key files; None where they are stored without.
        card: the organisation's card file, where the members admitted it by vote; None: its card is in the genesis.
        consensus_key: False: it is lost for good, and none is looked for. The node observes until its organisation has
            registered a key for the next epoch, and that has begun.
        settings: ``section.key`` -> value that go into lossbook.toml beside the addresses of the card.
        now: for the certificate's validity; default: the clock.
        books: of the network before, where the genesis carries them on.

    Raises:
        GenesisError: the file is no genesis, the keys are no validator's of it, or not those of the card; the books are
            not those it names.
        MissingKeyFile: there is no consensus key.
        SettingError: one of ``settings`` cannot be used.
        KeyFileError, HomeExists, StoreFailed: as their modules say.
    """
    found = Ceremony.read(genesis, keys, passphrase, card)
    body = found.card.body
    if consensus_key:
        _require_consensus_key(keys / CONSENSUS_KEY, passphrase, found.card)
    elif not body.peer_address:
        raise GenesisError(
            f"the card of {body.id} names no address for other validators: it is no validator's",
            "A supervisor's home is made by `lossbook replica init`.",
        )
    chosen = {
        "listen.peer": body.peer_address,
        "listen.public": body.public_address or body.peer_address,
        **(settings or {}),
    }
    checked = load(NodeSettings, file=None, environment={}, overrides=chosen)
    values = {name: getattr(getattr(checked, name.partition(".")[0]), name.partition(".")[2]) for name in chosen}
    text = render(NodeSettings, values)
    return found.make_home(path, HomeKind.NODE, _files(consensus_key), text, now, books, CONTRACTS)


def _require_consensus_key(path: Path, passphrase: str | None, card: Card) -> None:
    if not path.exists():
        raise keyfile.MissingKeyFile(
            path,
            "does not exist: use the folder whose keys made the card. If it is lost, or destroyed because its epoch is "
            "over: `lossbook node init --without-consensus-key`; the node observes until a new key is registered",
        )
    if card.consensus_key != keyfile.load(path, passphrase, "consensus").public:
        raise GenesisError(
            f"the consensus key is not the one on the card of {card.body.id}", "Use the keys that made the card."
        )


def _files(consensus_key: bool) -> tuple[str, ...]:
    return (LEDGER_KEY, CONSENSUS_KEY) if consensus_key else (LEDGER_KEY,)
