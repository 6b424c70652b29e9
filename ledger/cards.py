"""Cards: what each organisation hands over for the genesis, signed by itself.

A card file is a JSON object:

    {"card": "<JSON text of CardBody>", "signature": "<hex>", "possession": "<hex, validators only>"}

The body stands in it as text, so that the bytes that were signed travel as they are (no canonical
JSON, no re-encoding):

    signature   Ed25519 by the card's ledger key over     TAG_CARD | 0x00 | UTF-8 of the text
    possession  Ed25519 by the card's consensus key over  TAG_CARD | 0x01 | UTF-8 of the text

The second proves that the organisation holds the consensus key it names: nobody can put another
validator's key on its own card.

Names that the format does not know, and names that stand twice in one object, are refused: a card means the same to
whoever reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from crypto.hashing import TAG_CARD
from crypto.keys import SigningKey, verify
from crypto.tls import TlsIdentityError, check_authority
from ledger.organisations import (
    ADMIN_KEYS_MAX,
    KEYS_PER_ORGANISATION_MAX,
    ORGANISATION_ID,
    CardRecord,
    KeyRecord,
    Kind,
    OrganisationRecord,
    Role,
)
from ledger.plain_json import plain
from ledger.printable import is_printable
from ledger.unusable import Unusable

CARD_BYTES_MAX: Final = 1 << 16  #: some hundred keys; a genesis of 100 organisations stays below 10 MiB
NAME_CHARACTERS_MAX: Final = 100
ADDRESS_CHARACTERS_MAX: Final = 260  #: the longest DNS name and a port

_SIGNATURE: Final = b"\x00"
_POSSESSION: Final = b"\x01"


class GenesisError(Unusable):
    """A card or a genesis file that cannot be used."""


class CardError(GenesisError):
    """A card that cannot be used.

    Attributes:
        organisation: the id on the card, as far as it could be read.
    """

    def __init__(self, organisation: str, problem: str, advice: str) -> None:
        super().__init__(f"card of {organisation or 'an unknown organisation'}: {problem}", advice)
        self.organisation = organisation


class UnreadableCard(CardError):
    """It is no card, or was damaged."""


class BadCardSignature(CardError):
    """The card was altered after it was signed, or was signed by another key."""


class RoleKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the organisation's signing keys, as its card states it."""

    public: str
    """Ed25519 public key, 64 hex digits."""
    roles: tuple[str, ...]
    """Slugs of ``Role``, at least one."""
    label: str = ""
    """For people: which desk or machine holds it. No personal data."""

    def role_bits(self) -> int:
        """Sum of the ``Role`` bits."""
        return sum(role for role in Role if role.slug in self.roles)


class CardBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an organisation states about itself."""

    id: str
    """Slug, ``ORGANISATION_ID``."""
    kind: str
    """Slug of ``Kind``."""
    name: str
    """Name of the company."""
    ledger_key: str
    """Ed25519 public key, 64 hex digits: own certificate authority, signs this card."""
    ca_certificate: str
    """PEM of the self-signed certificate of ``ledger_key``."""
    consensus_key: str = ""
    """Ed25519 public key, 64 hex digits; empty where the organisation runs no validator."""
    peer_address: str = ""
    """host:port at which other validators reach this one; empty where it runs none."""
    public_address: str = ""
    """host:port of its Gateway, Query and Blocks services; empty where it offers none."""
    keys: tuple[RoleKey, ...] = ()
    """Signing keys of the people and systems that submit for it."""


class CardFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A card as it stands in its own file and in the genesis; names in the order in which they are written."""

    card: str
    """JSON text of ``CardBody``: what is signed."""
    possession: str = ""
    """Hex of 64 bytes; absent where the organisation runs no validator."""
    signature: str
    """Hex of 64 bytes."""


class Card(msgspec.Struct, frozen=True):
    """A card whose form and signatures were checked."""

    body: CardBody
    text: str
    """The signed text, exactly."""
    signature: bytes
    """64 bytes by the ledger key."""
    possession: bytes
    """64 bytes by the consensus key; empty where there is none."""

    @property
    def id(self) -> str:
        """Organisation id."""
        return self.body.id

    @property
    def kind(self) -> Kind:
        """What the organisation is."""
        kind = Kind.from_slug(self.body.kind)
        return kind if kind is not None else Kind(0)  # checked when the card was read

    @property
    def ledger_key(self) -> bytes:
        """32 bytes."""
        return bytes.fromhex(self.body.ledger_key)

    @property
    def consensus_key(self) -> bytes:
        """32 bytes, or empty: no validator."""
        return bytes.fromhex(self.body.consensus_key)

    @property
    def is_validator(self) -> bool:
        """Whether the organisation votes."""
        return bool(self.body.consensus_key)

    def all_keys(self) -> Iterable[bytes]:
        """Every public key on the card."""
        yield self.ledger_key
        if self.is_validator:
            yield self.consensus_key
        for key in self.body.keys:
            yield bytes.fromhex(key.public)

    def file(self) -> CardFile:
        """The card file as a value; ``encode_card`` makes the bytes."""
        return CardFile(card=self.text, possession=self.possession.hex(), signature=self.signature.hex())


def sign_card(body: CardBody, ledger_key: SigningKey, consensus_key: SigningKey | None = None) -> Card:
    """Make the card of one's own organisation.

    Raises:
        CardError: the body breaks a rule, or a key is not the one the body names.
    """
    text = msgspec.json.encode(body).decode()
    message = text.encode()
    signature = ledger_key.sign(TAG_CARD + _SIGNATURE + message)
    possession = consensus_key.sign(TAG_CARD + _POSSESSION + message) if consensus_key else b""
    card = Card(body, text, signature, possession)
    check_card(card)
    return card


def encode_card(card: Card) -> bytes:
    """The card file, ending with a newline."""
    return msgspec.json.format(msgspec.json.encode(card.file()), indent=2) + b"\n"


def decode_card(raw: bytes) -> Card:
    """Read a card file and check it.

    Raises:
        CardError: not a card, or it breaks a rule.
        BadCardSignature: it was altered or signed by another key.
    """
    card = read_card(raw)
    check_card(card)
    return card


def read_card(raw: bytes) -> Card:
    """Read a card file; nothing of it is checked but that it is one.

    Raises:
        UnreadableCard: not a card.
    """
    if len(raw) > 2 * CARD_BYTES_MAX:
        raise UnreadableCard("", f"{len(raw)} bytes", f"A card has at most {2 * CARD_BYTES_MAX} bytes.")
    try:
        file = msgspec.json.decode(raw, type=CardFile)
        plain(raw)
    except (msgspec.DecodeError, ValueError) as error:
        raise _unreadable(f"not a card file ({error})") from error
    return _card_of(file)


def card_from_file(file: CardFile) -> Card:
    """Read the parts of a card file and check them; errors as ``decode_card``."""
    card = _card_of(file)
    check_card(card)
    return card


def _card_of(file: CardFile) -> Card:
    try:
        body = msgspec.json.decode(file.card, type=CardBody)
        plain(file.card)
        return Card(body, file.card, _hex("signature", file.signature), _hex("possession", file.possession))
    except (msgspec.DecodeError, ValueError) as error:
        raise _unreadable(f"does not parse ({error})") from error


def _unreadable(problem: str) -> UnreadableCard:
    return UnreadableCard("", problem, "Ask for the file `lossbook genesis card` wrote.")


def organisation_record(card: Card, *, may_read: bool, may_subscribe: bool) -> OrganisationRecord:
    """The organisation as the state holds it."""
    return OrganisationRecord(
        kind=int(card.kind),
        name=card.body.name,
        ledger_key=card.ledger_key,
        admin_keys=tuple(public for public, key in key_records(card) if key.roles & Role.ADMIN),
        key_count=len(card.body.keys),
        may_read=may_read,
        may_subscribe=may_subscribe,
    )


def key_records(card: Card) -> Iterator[tuple[bytes, KeyRecord]]:
    """(public key, record) of the signing keys, in the card's order."""
    for key in card.body.keys:
        yield bytes.fromhex(key.public), KeyRecord(card.id, key.role_bits())


def card_record(card: Card) -> CardRecord:
    """The card as the state holds it."""
    return CardRecord(card.text, card.signature, card.possession)


def card_of_record(record: CardRecord) -> Card:
    """A card out of the state, which took it only after it was checked."""
    return Card(msgspec.json.decode(record.text, type=CardBody), record.text, record.signature, record.possession)


def check_card(card: Card) -> None:
    """Check form, signatures and certificate.

    Raises:
        CardError: a rule is broken; the first one found is named.
        BadCardSignature: see there.
    """
    check_statement(card)
    _check_authority(card)


def check_statement(card: Card) -> None:
    """Check form and signatures, and leave the certificate to those who use it: all that may decide on the ledger.

    X.509 readers differ from one version to the next. A certificate that is none hurts its owner alone, who then
    reaches nobody.

    Raises:
        CardError, BadCardSignature: as ``check_card``.
    """
    _check_form(card)
    message = card.text.encode()
    if not verify(card.ledger_key, TAG_CARD + _SIGNATURE + message, card.signature):
        raise BadCardSignature(
            card.id,
            "its signature is not by its ledger key",
            "Ask the organisation for its card again over a trusted way and compare the key aloud.",
        )
    if card.is_validator != bool(card.possession):
        raise CardError(card.id, "a consensus key and its proof go together", "Make it anew: `lossbook genesis card`.")
    if card.is_validator and not verify(card.consensus_key, TAG_CARD + _POSSESSION + message, card.possession):
        raise BadCardSignature(
            card.id,
            "it does not prove that the organisation holds the consensus key it names",
            "Ask the organisation to make its card anew with its own consensus key.",
        )


def _check_form(card: Card) -> None:
    body = card.body
    problem = ""
    if len(card.text) > CARD_BYTES_MAX:
        problem = f"more than {CARD_BYTES_MAX} characters"
    elif not ORGANISATION_ID.fullmatch(body.id):
        problem = f"id {body.id[:40]!r} is not 2 to 32 of a-z, 0-9 and -, beginning with a letter or digit"
    elif Kind.from_slug(body.kind) is None:
        problem = f"kind {body.kind[:40]!r} is not one of {', '.join(kind.slug for kind in Kind)}"
    elif not (0 < len(body.name) <= NAME_CHARACTERS_MAX and is_printable(body.name)):
        problem = f"name must be 1 to {NAME_CHARACTERS_MAX} printable characters"
    elif not _is_key(body.ledger_key) or (body.consensus_key and not _is_key(body.consensus_key)):
        problem = "a public key is not 64 hex digits in lower case"
    elif body.consensus_key and not body.peer_address:
        problem = "a validator needs a peer_address"
    elif not _is_address(body.peer_address) or not _is_address(body.public_address):
        problem = "an address is not host:port"
    elif len(body.keys) > KEYS_PER_ORGANISATION_MAX:
        problem = f"more than {KEYS_PER_ORGANISATION_MAX} signing keys"
    elif sum(Role.ADMIN.slug in key.roles for key in body.keys) > ADMIN_KEYS_MAX:
        problem = f"more than {ADMIN_KEYS_MAX} keys with the role admin"
    else:
        problem = next((found for key in body.keys if (found := _key_problem(key))), "")
    keys = list(card.all_keys()) if not problem else []
    if len(set(keys)) != len(keys):
        problem = "one key stands on it twice"
    if problem:
        raise CardError(body.id, problem, "Correct it and sign it anew: `lossbook genesis card`.")


def _key_problem(key: RoleKey) -> str:
    if not _is_key(key.public):
        return "a signing key is not 64 hex digits in lower case"
    if not key.roles or len(set(key.roles)) != len(key.roles):
        return f"key {key.public[:8]} needs one or more different roles"
    unknown = next((role for role in key.roles if Role.from_slug(role) is None), None)
    if unknown is not None:
        return f"role {unknown[:40]!r} is not one of {', '.join(role.slug for role in Role)}"
    if len(key.label) > NAME_CHARACTERS_MAX or not is_printable(key.label):
        return f"the label of key {key.public[:8]} is not up to {NAME_CHARACTERS_MAX} printable characters"
    return ""


def _hex(name: str, text: str) -> bytes:
    """One form only, so that nobody can write the same card otherwise."""
    value = bytes.fromhex(text)
    if value.hex() != text:
        raise ValueError(f"{name} is not hexadecimal in lower case")
    return value


def _is_key(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _is_address(text: str) -> bool:
    if not text:
        return True
    host, _, port = text.rpartition(":")
    return (
        bool(host)
        and text.isascii()
        and text.isprintable()
        and " " not in text
        and len(text) <= ADDRESS_CHARACTERS_MAX
        and port.isdigit()
        and 0 < int(port) < 65_536
    )


def _check_authority(card: Card) -> None:
    """The certificate must be the ledger key's own, so that the chain, not an outside authority, vouches for TLS."""
    try:
        check_authority(card.body.ca_certificate.encode(), card.ledger_key)
    except TlsIdentityError as error:
        raise CardError(
            card.id,
            f"its CA certificate is not of its ledger key ({error.reason})",
            "Make the card anew: `lossbook genesis card` writes key and certificate together.",
        ) from error
