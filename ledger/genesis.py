"""The genesis: who takes part, by which rules, from when on; one JSON file that names the network.

    {"format": "lossbook-genesis-1", "name": ..., "time_ms": ..., "parameters": {...},
     "permissions": {"read": [ids], "subscribe": [ids]}, "cards": [card files, ascending by id]}

A network that was rebuilt from one surviving copy of another says so under "predecessor" (``ledger.predecessor``): its
heights and epochs go on where those ended. Every other genesis has no such name in it, and begins at height 0.

chain_id = SHA-256(TAG_GENESIS | the exact bytes of the file). Everybody who is given the file checks
every card in it and compares the chain id with the others, aloud; nobody has to trust who assembled it.
Every parameter stands in it: one that is missing, a name this version does not know, and a name that stands twice in
one object are refused, so that one chain id never means other rules to another reader or a later version.

The validator set of the first epoch is the cards with a consensus key, ascending by id (as bytes); a
validator's signer index is its place in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from consensus.types import ValidatorSet
from crypto.hashing import TAG_GENESIS, tagged
from ledger.cards import (
    Card,
    CardFile,
    GenesisError,
    card_from_file,
    card_record,
    key_records,
    organisation_record,
)
from ledger.epochs import (
    EPOCHS,
    FIRST_EPOCH,
    MEMBERSHIP,
    VALIDATORS_MAX,
    EpochRecord,
    MembershipRecord,
    Seat,
    epoch_seed,
)
from ledger.invariant import invariant
from ledger.organisations import CARDS, KEYS, ORGANISATIONS, ORGANISATIONS_MAX
from ledger.parameters import PARAMETERS, ParameterError, Parameters, ParametersRecord, activation_key
from ledger.plain_json import plain
from ledger.predecessor import Predecessor, PredecessorFile, read_predecessor
from ledger.printable import is_printable
from ledger.registrations import NODE_KEYS, NodeKeyRecord
from ledger.state import StateView, Table

FORMAT: Final = "lossbook-genesis-1"
GENESIS_BYTES_MAX: Final = 32 << 20  #: ORGANISATIONS_MAX cards of ordinary size
NETWORK_NAME_CHARACTERS_MAX: Final = 64
TIME_MS_MAX: Final = 253_402_300_799_999  #: end of the year 9999


class UnreadableGenesis(GenesisError):
    """It is no genesis file, or was damaged."""


class DuplicateInGenesis(GenesisError):
    """Two cards claim the same id or the same key.

    Attributes:
        organisations: ids of the cards concerned.
    """

    def __init__(self, what: str, organisations: Sequence[str]) -> None:
        super().__init__(
            f"{what} stands on the cards of {' and '.join(organisations)}",
            "Each organisation makes its own keys and hands in one card; ask them for new cards.",
        )
        self.organisations = tuple(organisations)


class WrongNetwork(GenesisError):
    """A genesis, or data, of another network.

    Attributes:
        expected: chain id that was wanted.
        found: chain id of the file or the data.
        where: path of the data; empty for a genesis file.
    """

    def __init__(self, expected: bytes, found: bytes, where: str = "") -> None:
        networks = f"of network {found.hex()[:16]}, not of {expected.hex()[:16]}"
        if where:
            problem = f"{where} is {networks}"
            advice = "Use a home directory and a genesis.json of one and the same network."
        else:
            problem = f"this genesis file is {networks}"
            advice = "Get the genesis file of your network and compare its chain id aloud: `lossbook genesis check`."
        super().__init__(problem, advice)
        self.expected = expected
        self.found = found
        self.where = where


class Permissions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which organisations may see what, beside what every validator holds anyway."""

    read: tuple[str, ...]
    """Ids of those who may query records, receipts and blocks."""
    subscribe: tuple[str, ...]
    """Ids of those who may follow the blocks."""


class _GenesisFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    name: str
    time_ms: int
    parameters: Parameters
    permissions: Permissions
    cards: tuple[CardFile, ...]
    predecessor: PredecessorFile | msgspec.UnsetType = msgspec.UNSET


class Genesis(msgspec.Struct, frozen=True):
    """A genesis whose every card and rule was checked; make it with ``load_genesis``."""

    chain_id: bytes
    """32 bytes, SHA-256(TAG_GENESIS | raw)."""
    raw: bytes
    """The file, exactly."""
    name: str
    """What people call the network."""
    time_ms: int
    """Block time of its block, milliseconds since 1970-01-01 UTC."""
    parameters: Parameters
    permissions: Permissions
    organisations: tuple[Card, ...]
    """All cards, ascending by id."""
    predecessor: Predecessor | None = None
    """The network whose books this one carries on; None for one that begins with empty books."""

    @property
    def height(self) -> int:
        """Of its block: 0, or one above the last block of the network before."""
        return 0 if self.predecessor is None else self.predecessor.height + 1

    @property
    def first_epoch(self) -> int:
        """0, or the one after the last epoch of the network before, so that no epoch and view ever means two."""
        return FIRST_EPOCH if self.predecessor is None else self.predecessor.epoch + 1

    @property
    def validators(self) -> tuple[Card, ...]:
        """Cards of the validators, in signer order."""
        return tuple(card for card in self.organisations if card.is_validator)

    def organisation(self, organisation: str) -> Card | None:
        """The card of an id; None for a stranger."""
        return next((card for card in self.organisations if card.id == organisation), None)

    def may_read(self, organisation: str) -> bool:
        """Whether its clients may query."""
        return organisation in self.permissions.read

    def may_subscribe(self, organisation: str) -> bool:
        """Whether it may follow the blocks."""
        return organisation in self.permissions.subscribe

    def validator_set(self) -> ValidatorSet:
        """The validators of the first epoch."""
        return self.epoch_record().validator_set(self.first_epoch)

    def epoch_record(self) -> EpochRecord:
        """The first epoch as the state holds it; the genesis block is the one below its first height.

        The leaders' round robin starts where the first eight bytes of the chain id say. Of a rebuilt network, those of
        the last block's digest of the network before: the chain id covers the state, which holds this record.
        """
        members = tuple(Seat(card.id, card.consensus_key) for card in self.validators)
        origin = self.chain_id if self.predecessor is None else self.predecessor.header_digest
        return EpochRecord(members, epoch_seed(origin), self.height + 1, self.time_ms)


def assemble(
    cards: Iterable[Card],
    *,
    name: str,
    time_ms: int,
    parameters: Parameters | None = None,
    permissions: Permissions | None = None,
    predecessor: Predecessor | None = None,
) -> bytes:
    """The genesis file of these cards; the same bytes whoever assembles it, in whatever order the cards come.

    Without ``permissions`` every organisation may read and subscribe. Parameters are written out, defaults too.

    Raises:
        GenesisError: the file would not load; see ``load_genesis``.
    """
    ordered = sorted(cards, key=lambda card: card.id.encode())
    everybody = tuple(card.id for card in ordered)
    file = _GenesisFile(
        FORMAT,
        name,
        time_ms,
        parameters or Parameters(),
        permissions or Permissions(everybody, everybody),
        tuple(card.file() for card in ordered),
        predecessor.file() if predecessor is not None else msgspec.UNSET,
    )
    raw = msgspec.json.format(msgspec.json.encode(file, order="deterministic"), indent=2) + b"\n"
    load_genesis(raw)
    return raw


def load_genesis(raw: bytes, expected_chain_id: bytes | None = None) -> Genesis:
    """Read a genesis file and check all of it.

    Raises:
        WrongNetwork: its chain id is not the expected one.
        BadCardSignature, CardError: a card in it is bad.
        DuplicateInGenesis: an id or a key is used twice.
        GenesisError: anything else; the text says what to do.
    """
    chain_id = tagged(TAG_GENESIS, raw)
    if expected_chain_id is not None and chain_id != expected_chain_id:
        raise WrongNetwork(expected_chain_id, chain_id)
    file = _parse(raw)
    _check_head(file)
    cards = tuple(card_from_file(card) for card in file.cards)
    _check_cards(cards)
    _check_permissions(file.permissions, {card.id for card in cards})
    before = file.predecessor
    predecessor = None if before is msgspec.UNSET else read_predecessor(before, file.time_ms)
    if predecessor is not None and predecessor.chain_id == chain_id:
        raise GenesisError("the network names itself as the one before", "Assemble it again.")
    return Genesis(chain_id, raw, file.name, file.time_ms, file.parameters, file.permissions, cards, predecessor)


def genesis_records(genesis: Genesis) -> Iterator[tuple[Table[Any], bytes, msgspec.Struct]]:
    """(table, key, record) of its block: parameters, the first epoch, organisations with their cards and keys."""
    height, epoch = genesis.height, genesis.first_epoch
    yield PARAMETERS, activation_key(height), ParametersRecord.from_parameters(genesis.parameters, height)
    yield EPOCHS, epoch.to_bytes(8, "big"), genesis.epoch_record()
    yield MEMBERSHIP, b"", MembershipRecord(epoch)
    for card in genesis.organisations:
        may_read, may_subscribe = genesis.may_read(card.id), genesis.may_subscribe(card.id)
        record = organisation_record(card, may_read=may_read, may_subscribe=may_subscribe)
        yield ORGANISATIONS, card.id.encode(), record
        yield CARDS, card.id.encode(), card_record(card)
        for public, key in key_records(card):
            yield KEYS, public, key
        yield NODE_KEYS, card.ledger_key, NodeKeyRecord(card.id, None)
        if card.is_validator:
            yield NODE_KEYS, card.consensus_key, NodeKeyRecord(card.id, epoch)


def require_no_predecessor(genesis: Genesis) -> None:
    """Where no state is yet: it begins with empty books, or has to be given those of the network before.

    Raises:
        GenesisError: the latter.
    """
    if genesis.predecessor is not None:
        raise GenesisError(
            f"{genesis.name} carries on the books of network {genesis.predecessor.chain_id.hex()[:16]}, "
            "and they are not here",
            "Make the home with the archive of those books: `--state ARCHIVE --old-genesis FILE` of `init`.",
        )


def write_genesis_state(genesis: Genesis, view: StateView) -> None:
    """Put the records of a genesis that begins with empty books. The caller commits them as block 0."""
    invariant(genesis.predecessor is None, "the books of a network before are carried on by ledger.succession")
    for table, key, record in genesis_records(genesis):
        view.put(table, key, record)


def _parse(raw: bytes) -> _GenesisFile:
    advice = "Get the file that `lossbook genesis assemble` wrote."
    if len(raw) > GENESIS_BYTES_MAX:
        raise UnreadableGenesis(f"the genesis file has {len(raw)} bytes, at most {GENESIS_BYTES_MAX} are read", advice)
    try:
        file = msgspec.json.decode(raw, type=_GenesisFile)
        written = plain(raw)["parameters"]
    except (msgspec.DecodeError, ValueError) as error:
        raise UnreadableGenesis(f"this is not a genesis file ({error})", advice) from error
    missing = [name for name in Parameters.__struct_fields__ if name not in written]
    if missing:
        raise GenesisError(
            f"parameter {', '.join(missing)} is missing",
            "Assemble it again: `lossbook genesis assemble` writes every parameter; none is left to the software.",
        )
    return file


def _check_head(file: _GenesisFile) -> None:
    if file.format != FORMAT:
        raise GenesisError(
            f"genesis format {file.format[:40]!r} is not {FORMAT}", "Use the version of lossbook that made it."
        )
    if not (0 < len(file.name) <= NETWORK_NAME_CHARACTERS_MAX and is_printable(file.name)):
        raise GenesisError(
            f"the network's name is not 1 to {NETWORK_NAME_CHARACTERS_MAX} printable characters", "Choose another."
        )
    if not 0 <= file.time_ms <= TIME_MS_MAX:
        raise GenesisError(f"genesis time {file.time_ms} is outside the years 1970 to 9999", "Give milliseconds.")
    try:
        file.parameters.check()
    except ParameterError as error:
        raise GenesisError(str(error), "Correct the parameter and assemble again.") from error


def _check_cards(cards: Sequence[Card]) -> None:
    again = "Assemble it again: `lossbook genesis assemble`."
    if len(cards) > ORGANISATIONS_MAX:
        raise GenesisError(f"{len(cards)} organisations, at most {ORGANISATIONS_MAX} are possible", again)
    seen: set[str] = set()
    for card in cards:
        if card.id in seen:
            raise DuplicateInGenesis(f"id {card.id}", (card.body.name, card.body.name))
        seen.add(card.id)
    owners: dict[bytes, str] = {}
    for card in cards:
        for key in card.all_keys():
            if key in owners:
                raise DuplicateInGenesis(f"key {key.hex()[:16]}", (owners[key], card.id))
            owners[key] = card.id
    ids = [card.id.encode() for card in cards]
    if ids != sorted(ids):
        raise GenesisError("the cards are not in ascending order of their ids", again)
    validators = sum(card.is_validator for card in cards)
    if not 1 <= validators <= VALIDATORS_MAX:
        raise GenesisError(f"{validators} validators; a network has 1 to {VALIDATORS_MAX}", again)


def _check_permissions(permissions: Permissions, ids: set[str]) -> None:
    for listed in (permissions.read, permissions.subscribe):
        strangers = sorted(set(listed) - ids)
        if strangers or len(set(listed)) != len(listed):
            raise GenesisError(
                f"the permissions name {strangers[0] if strangers else 'somebody twice'}",
                "List each organisation that has a card at most once.",
            )
