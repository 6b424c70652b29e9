"""The ceremony's steps as functions: `genesis card|assemble`, `testnet init` and the demo all use these and no others.

An organisation's *office* is the folder with its private keys and its card; nobody else ever sees it:

    OFFICE/keys/ledger.key      certificate authority, signs the card
    OFFICE/keys/consensus.key   validators: votes
    OFFICE/keys/<label>.key     people and systems that submit
    OFFICE/card.json            public: this is handed over
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from crypto import keyfile, tls
from crypto.keys import SigningKey
from ledger.cards import Card, CardBody, RoleKey, encode_card, sign_card
from lossbook_sdk import profile as profiles
from lossbook_sdk.profile import Node
from store.home import write_durably

CLIENT_LEAF_VALIDITY: Final = timedelta(days=90)
"""A client's certificate; `lossbook profile create` issues the next one."""

INSURER_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "underwriter": ("underwriter",),
    "handler-1": ("claims-handler",),
    "handler-2": ("claims-handler",),
    "adjuster": ("adjuster",),
    "finance-1": ("finance",),
    "finance-2": ("finance",),
    "admin": ("admin",),
}
"""Desks of an insurer, with two people wherever four eyes may be asked for."""

OTHER_KEYS: Final[Mapping[str, tuple[str, ...]]] = {"admin": ("admin",), "auditor": ("auditor",)}


def default_keys(kind: str) -> Mapping[str, tuple[str, ...]]:
    """Label -> roles of the signing keys an organisation of a kind starts with."""
    return INSURER_KEYS if kind in ("insurer", "reinsurer") else OTHER_KEYS


def make_card(
    office: Path,
    *,
    organisation: str,
    kind: str,
    name: str,
    validator: bool,
    peer_address: str,
    public_address: str,
    role_keys: Mapping[str, Sequence[str]],
    passphrase: str | None,
) -> Card:
    """Make the keys that are not there yet, sign the card, and write it into the office.

    Args:
        passphrase: for new and existing key files; None: they lie open.

    Raises:
        CardError: a value breaks a rule of cards.
        KeyFileError: a key cannot be written or read.
    """
    keys = office / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    ledger_key = _key(keys / "ledger.key", "ledger", passphrase)
    consensus_key = _key(keys / "consensus.key", "consensus", passphrase) if validator else None
    signing = [
        RoleKey(_key(keys / f"{label}.key", "role", passphrase).public.hex(), tuple(roles), label)
        for label, roles in role_keys.items()
    ]
    body = CardBody(
        id=organisation,
        kind=kind,
        name=name,
        ledger_key=ledger_key.public.hex(),
        ca_certificate=tls.make_authority(ledger_key, organisation, _authority_start()).decode(),
        consensus_key=consensus_key.public.hex() if consensus_key else "",
        peer_address=peer_address,
        public_address=public_address,
        keys=tuple(signing),
    )
    card = sign_card(body, ledger_key, consensus_key)
    write_durably(office / "card.json", encode_card(card))
    return card


def issue_client(
    office: Path,
    *,
    genesis: Path,
    chain_id: bytes,
    organisation: str,
    labels: Sequence[str],
    passphrase: str | None,
    target: Path,
    nodes: Sequence[Node] = (),
) -> Path:
    """A client's certificate from the ledger key of the office, and the profile that uses it, at ``target``.

    The certificate lies beside the profile, in ``<name>-tls/``; keys stay in the office.

    Raises:
        KeyFileError: the ledger key cannot be read.
    """
    ledger_key = keyfile.load(office / "keys" / "ledger.key", passphrase, "ledger")
    certificate, private = tls.issue_leaf(ledger_key, organisation, "client", datetime.now(UTC), CLIENT_LEAF_VALIDITY)
    folder = target.parent / f"{target.stem}-tls"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(folder / "client.key", private)
    write_durably(folder / "client.pem", certificate)
    text = profiles.render(
        organisation=organisation,
        genesis=str(genesis.absolute()),
        chain_id=chain_id,
        certificate=f"{folder.name}/client.pem",
        key=f"{folder.name}/client.key",
        keys={label: str((office / "keys" / f"{label}.key").absolute()) for label in labels},
        nodes=nodes,
    )
    write_durably(target, text.encode())
    return target


def _key(path: Path, kind: str, passphrase: str | None) -> SigningKey:
    if path.exists():
        return keyfile.load(path, passphrase, kind)
    key = SigningKey.generate()
    keyfile.save(path, key, kind, passphrase, unsafe_plaintext=passphrase is None)
    return key


def _authority_start() -> datetime:
    """Start of the authority's certificate: this midnight, so that a card made again the same day is the same."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
