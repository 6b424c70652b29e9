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
from replica.errors import ReplicaConfigError
from services.logs import get_logger
from services.settings import render
from store.home import Home, HomeKind, create_home, write_durably

LEAF_VALIDITY: Final = timedelta(days=90)
"""A leaf is renewed by `replica start` in its last third, where the ledger key can be read."""

LEDGER_KEY: Final = "ledger.key"

_log = get_logger("replica")


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


def ensure_leaf(home: Home, ledger_public: bytes, passphrase: str | None, now: datetime) -> datetime:
    """A certificate that is good for a while, renewed in the last third of its time; when the one in use ends.

    Raises:
        ReplicaConfigError: there is no usable certificate, and none can be issued.
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
        write_leaf(home, keyfile.load(home.keys / LEDGER_KEY, passphrase, "ledger"), now)
    except (keyfile.KeyFileError, OSError) as error:
        if problem:
            raise ReplicaConfigError(
                f"no usable TLS certificate ({problem}), and none can be issued: {error}"
            ) from error
        _log.warning("the TLS certificate ends soon and cannot be renewed", problem=str(error))
        return ends
    _log.info("issued a new TLS certificate", valid_days=LEAF_VALIDITY.days)
    return now + LEAF_VALIDITY
