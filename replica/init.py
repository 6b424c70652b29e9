"""``replica init``: a supervisor's home from the genesis and the organisation's ledger key."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from crypto import keyfile, tls
from crypto.keys import SigningKey
from ledger.cards import GenesisError
from ledger.genesis import load_genesis
from replica.config import ReplicaSettings, sources_of
from services.settings import render
from store.home import Home, HomeKind, create_home, write_durably

LEAF_VALIDITY: Final = timedelta(days=90)
"""A leaf is renewed by `replica start` in its last third, where the ledger key can be read."""

LEDGER_KEY: Final = "ledger.key"


def init_home(
    path: Path,
    *,
    genesis: Path,
    keys: Path,
    passphrase: str | None,
    settings: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> Home:
    """Make a replica's home.

    Args:
        path: must not exist, or be empty.
        genesis: the network's genesis.json.
        keys: directory holding the organisation's ``ledger.key``; copied as it is.
        passphrase: of the key file; None where it is stored without.
        settings: ``section.key`` -> value that go into lossbook.toml, e.g. ``follow.sources``.
        now: for the certificate's validity; default: the clock.

    Raises:
        GenesisError: the file is no genesis, or names no such organisation, or does not let it follow the blocks.
        ReplicaConfigError: ``follow.sources`` cannot be followed.
        KeyFileError, HomeExists, StoreFailed: as their modules say.
    """
    raw = genesis.read_bytes()
    network = load_genesis(raw)
    ledger_key = keyfile.load(keys / LEDGER_KEY, passphrase, "ledger")
    card = next((card for card in network.organisations if card.ledger_key == ledger_key.public), None)
    if card is None:
        raise GenesisError(
            "the ledger key stands on no card of this genesis",
            "Use the key that made the card, or the genesis.json that contains it.",
        )
    if not network.may_subscribe(card.id):
        raise GenesisError(
            f"the genesis does not let {card.id} follow the blocks",
            "Ask the members for the permission, or follow a replica of your own organisation.",
        )
    values: dict[str, object] = dict(settings or {})
    if card.body.public_address and not card.is_validator:
        values.setdefault("listen.public", card.body.public_address)
    sources_of(str(values.get("follow.sources", "")), network, card.id)
    home = create_home(path, HomeKind.REPLICA, raw, network.chain_id, card.id)
    shutil.copyfile(keys / LEDGER_KEY, home.keys / LEDGER_KEY)
    (home.keys / LEDGER_KEY).chmod(0o600)
    write_leaf(home, ledger_key, now or datetime.now(UTC))
    write_durably(home.config, render(ReplicaSettings, values).encode())
    return home


def write_leaf(home: Home, ledger_key: SigningKey, now: datetime) -> None:
    """Issue a new TLS leaf for a replica into ``tls/``.

    Raises:
        OSError: as the file system.
    """
    certificate, private = tls.issue_leaf(ledger_key, home.organisation, home.kind.value, now, LEAF_VALIDITY)
    write_durably(home.tls / "leaf.key", private)
    write_durably(home.tls / "leaf.pem", certificate)


def renew_leaf(home: Home, ledger_public: bytes, passphrase: str | None, now: datetime) -> datetime:
    """Renew the leaf in the last third of its time, if the ledger key can be read; when the leaf in use ends.

    Raises:
        TlsIdentityError: the leaf in the home is none of this organisation.
        OSError: as the file system.
    """
    ends = tls.check_leaf((home.tls / "leaf.pem").read_bytes(), ledger_public).not_after
    key_file = home.keys / LEDGER_KEY
    if ends - now > LEAF_VALIDITY / 3 or not key_file.exists():
        return ends
    if keyfile.is_encrypted(key_file) and not passphrase:
        return ends
    write_leaf(home, keyfile.load(key_file, passphrase, "ledger"), now)
    return now + LEAF_VALIDITY
