"""``node init``: a validator's home from the genesis and the organisation's own keys."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from crypto import keyfile, tls
from crypto.keys import SigningKey
from ledger.genesis import load_genesis
from node.config import NodeSettings
from services.settings import FILE_NAME, load, render
from store.home import Home, HomeKind, create_home, write_durably

LEAF_VALIDITY: Final = timedelta(days=90)
"""A leaf is renewed by `node start` in its last third, where the ledger key is at hand."""


class InitError(Exception):
    """A home that cannot be made; nothing was left behind.

    Attributes:
        problem: what is wrong.
    """

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}. {advice}")
        self.problem = problem


def init_home(
    path: Path,
    *,
    genesis: Path,
    keys: Path,
    passphrase: str | None,
    settings: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> Home:
    """Make a node's home.

    Args:
        path: must not exist, or be empty.
        genesis: the network's genesis.json.
        keys: directory holding the organisation's ``ledger.key`` and ``consensus.key``; copied as they are.
        passphrase: of the key files; None where they are stored without.
        settings: ``section.key`` -> value that go into lossbook.toml beside the addresses of the card.
        now: for the certificate's validity; default: the clock.

    Raises:
        InitError: the keys are no validator's of this genesis.
        SettingError: one of ``settings`` cannot be used.
        GenesisError, KeyFileError, HomeExists, StoreFailed: as their modules say.
    """
    raw = genesis.read_bytes()
    network = load_genesis(raw)
    ledger_key = keyfile.load(keys / "ledger.key", passphrase, "ledger")
    consensus_key = keyfile.load(keys / "consensus.key", passphrase, "consensus")
    card = next((card for card in network.organisations if card.ledger_key == ledger_key.public), None)
    if card is None:
        raise InitError(
            "the ledger key stands on no card of this genesis",
            "Use the keys that made the card, or the genesis.json that contains it",
        )
    if card.consensus_key != consensus_key.public:
        raise InitError(f"the consensus key is not the one on the card of {card.id}", "Use the keys that made the card")
    chosen = {
        "listen.peer": card.body.peer_address,
        "listen.public": card.body.public_address or card.body.peer_address,
        **(settings or {}),
    }
    checked = load(NodeSettings, file=None, environment={}, overrides=chosen)
    values = {name: getattr(getattr(checked, name.partition(".")[0]), name.partition(".")[2]) for name in chosen}
    home = create_home(path, HomeKind.NODE, raw, network.chain_id, card.id)
    for name in ("ledger.key", "consensus.key"):
        shutil.copyfile(keys / name, home.keys / name)
        (home.keys / name).chmod(0o600)
    write_leaf(home, ledger_key, now or datetime.now(UTC))
    write_durably(home.path / FILE_NAME, render(NodeSettings, values).encode())
    return home


def write_leaf(home: Home, ledger_key: SigningKey, now: datetime) -> None:
    """Issue a new TLS leaf into ``tls/``.

    Raises:
        OSError: as the file system.
    """
    certificate, private = tls.issue_leaf(ledger_key, home.organisation, home.kind.value, now, LEAF_VALIDITY)
    write_durably(home.tls / "leaf.key", private)
    write_durably(home.tls / "leaf.pem", certificate)
