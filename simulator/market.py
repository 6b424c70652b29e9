"""A market of n insurers with deterministic keys, and the envelopes their clients sign."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from typing import Final

from crypto.hashing import TAG_ENVELOPE_SIGNATURE
from crypto.keys import SigningKey
from crypto.tls import make_authority
from ledger import operations as ops
from ledger.cards import Card, CardBody, RoleKey, sign_card
from ledger.genesis import Genesis, assemble, load_genesis
from ledger.organisations import key_possession_message
from ledger.parameters import Parameters
from ledger.registrations import possession_message
from ledger.types import Envelope
from ledger.wellformed import SignatureJob
from ledger.wire import decode_envelope, encode_envelope, encode_envelope_body
from node.epoch import HeldKeys, Keyring
from simulator.signatures import FakeKey, Notary, SecretKey

GENESIS_TIME_MS: Final = 1_750_000_000_000  # 2025-06-15
TODAY_DAYS: Final = GENESIS_TIME_MS // 86_400_000
PERIOD_DAYS: Final = 364
SALT_BYTES: Final = 16
DESKS: Final = ("underwriter", "claims-handler")
ADMIN: Final = "admin"
SUPERVISOR: Final = "supervisor"
CONTESTED_K: Final = 3
EPOCHS_MAX: Final = 8
"""Every node of a governed market has a key of its own for each epoch up to this one."""


@dataclass(frozen=True)
class Market:
    """Who takes part, and how their signatures are made and checked."""

    genesis: Genesis
    keys: tuple[SecretKey, ...]
    """Consensus keys, by signer index."""
    verify: Callable[[bytes, bytes, bytes], bool]
    """(public key, message, signature)."""
    verify_many: Callable[[Sequence[SignatureJob]], Sequence[bool]]

    @property
    def n(self) -> int:
        """Number of validators at genesis."""
        return len(self.keys)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """Organisation ids of all who run a node, by number: the genesis' validators first, in signer order."""
        return tuple(card.id for card in self.genesis.validators)

    def keyring(self, index: int, made: int = 1) -> Keyring:
        """The consensus keys of a node; ``made``: how often it has had to make them."""
        return HeldKeys({self.keys[index].public: self.keys[index].sign})

    def first_key(self, index: int) -> SecretKey:
        """The consensus key on a node's first card."""
        return self.keys[index]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {member: number for number, member in enumerate(self.members)}

    def member(self, index: int) -> str:
        """Organisation id of a node."""
        return self.members[index]

    def index(self, member: str) -> int:
        """Which node has this id: the reverse of ``member``."""
        return self._numbers[member]


@dataclass(frozen=True)
class Desk:
    """An insurer's clients: two keys, so that a stripped co-signature is possible."""

    organisation: str
    keys: tuple[FakeKey, ...]
    admin: FakeKey | None = None
    """Proposes and votes, where the market decides on its set."""


@dataclass(frozen=True)
class FakeMarket(Market):
    """A market whose signatures are the notary's."""

    desks: tuple[Desk, ...]
    """By node number."""
    notary: Notary
    newcomers: tuple[Card, ...] = ()
    """Organisations that run a node and are unknown to the genesis."""
    governed: bool = False
    """Admins vote on the set, and every node makes a key for each epoch."""

    @cached_property
    def members(self) -> tuple[str, ...]:
        """See ``Market``."""
        return tuple(card.id for card in (*self.genesis.validators, *self.newcomers))

    def card(self, index: int) -> Card:
        """The first card of who runs a node."""
        return (*self.genesis.validators, *self.newcomers)[index]

    def first_key(self, index: int) -> FakeKey:
        """See ``Market``."""
        return self.notary.key(self.card(index).consensus_key)

    def epoch_key(self, index: int, epoch: int, made: int = 1) -> FakeKey:
        """The consensus key that a node makes for an epoch; ``made``: how often it has had to make them anew."""
        return self.notary.key(_epoch_key(index, epoch, made).public)

    def possession(self, index: int, epoch: int, made: int = 1) -> bytes:
        """By this key, for an admin's registration of it: a contract judges that signature, so it is a real one."""
        key = _epoch_key(index, epoch, made)
        return key.sign(possession_message(self.genesis.chain_id, epoch, self.member(index), key.public))

    def keyring(self, index: int, made: int = 1) -> Keyring:
        """See ``Market``; with a key for each epoch where the set may change."""
        if not self.governed:
            return super().keyring(index, made)
        epochs = {epoch: self.epoch_key(index, epoch, made) for epoch in range(1, EPOCHS_MAX + 1)}
        keys = [*([self.first_key(index)] if made == 1 else ()), *epochs.values()]
        return HeldKeys({key.public: key.sign for key in keys}, {epoch: key.public for epoch, key in epochs.items()})

    def next_desk_key(self, index: int, made: int) -> tuple[FakeKey, bytes]:
        """A signing key in place of the first of an organisation's desk, and its possession, by a real signature."""
        key, member = _seeded(self.member(index), DESKS[0], str(made)), self.member(index)
        return self.notary.key(key.public), key.sign(key_possession_message(self.genesis.chain_id, member))

    def next_card(self, index: int, made: int, desk: Sequence[FakeKey]) -> Card:
        """A card with another ledger key and another authority for the same organisation.

        Args:
            desk: the signing keys that its clients have now.
        """
        admin = self.desks[index].admin
        keys = (*desk, admin) if admin is not None else tuple(desk)
        return _card(self.member(index), validator=False, keys=tuple(key.public for key in keys), made=made)

    def genuine(self, raw: bytes) -> bool:
        """Whether an envelope carries a signature of each of its signers, in order; judged by the notary alone."""
        envelope = decode_envelope(raw)
        message = TAG_ENVELOPE_SIGNATURE + envelope.body
        return len(envelope.signatures) == len(envelope.signer_keys) and all(
            self.verify(key, message, signature)
            for key, signature in zip(envelope.signer_keys, envelope.signatures, strict=True)
        )

    def decision(self, by: int, salt: int, not_after_ms: int, operation: ops.Operation) -> Envelope:
        """A proposal or a vote of one organisation's admin."""
        admin = self.desks[by].admin
        return self._signed(by, salt, not_after_ms, [operation], (admin,) if admin is not None else ())

    def envelope(
        self,
        by: int,
        salt: int,
        not_after_ms: int,
        operations: Sequence[ops.Operation],
        keys: Sequence[FakeKey] | None = None,
    ) -> Envelope:
        """A signed envelope of one insurer's clients; ``keys``: theirs now, if not the first ones."""
        return self._signed(by, salt, not_after_ms, operations, keys or self.desks[by].keys)

    def _signed(
        self, by: int, salt: int, not_after_ms: int, operations: Sequence[ops.Operation], keys: Sequence[FakeKey]
    ) -> Envelope:
        body = encode_envelope_body(
            chain_id=self.genesis.chain_id,
            organisation=self.desks[by].organisation,
            signer_keys=[key.public for key in keys],
            not_after_ms=not_after_ms,
            salt=salt.to_bytes(SALT_BYTES, "big"),
            operations=operations,
            atomic=False,
        )
        return decode_envelope(encode_envelope(body, [key.sign(TAG_ENVELOPE_SIGNATURE + body) for key in keys]))


@cache
def _epoch_key(index: int, epoch: int, made: int) -> SigningKey:
    again = () if made == 1 else (str(made),)
    return _seeded("consensus", str(index), str(epoch), *again)


def _seeded(*names: str) -> SigningKey:
    return SigningKey.from_seed(sha256("/".join(("simulator", *names)).encode()).digest())


@cache
def _card(
    identifier: str,
    *,
    validator: bool,
    desks: tuple[str, ...] = DESKS,
    keys: tuple[bytes, ...] = (),
    made: int = 1,
) -> Card:
    """Cards carry real signatures: the ceremony's code makes and checks them.

    Args:
        desks: roles, each of one signing key.
        keys: these keys in their place, in the order of ``(*DESKS, ADMIN)``.
        made: how many cards of the organisation this makes.
    """
    again = () if made == 1 else (str(made),)
    ledger_key = _seeded(identifier, "ledger", *again)
    consensus_key = _seeded(identifier, "consensus") if validator else None
    not_before = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    publics = keys or tuple(_seeded(identifier, desk).public for desk in desks)
    roles = (*DESKS, ADMIN) if keys else desks
    body = CardBody(
        id=identifier,
        kind="supervisor" if identifier == SUPERVISOR else "insurer",
        name=f"{identifier} of the simulator",
        ledger_key=ledger_key.public.hex(),
        ca_certificate=make_authority(ledger_key, identifier, not_before).decode(),
        consensus_key=consensus_key.public.hex() if consensus_key else "",
        peer_address="127.0.0.1:4000" if identifier != SUPERVISOR else "",
        public_address="127.0.0.1:4001",
        keys=tuple(RoleKey(public.hex(), (role,), role) for public, role in zip(publics, roles, strict=True)),
    )
    return sign_card(body, ledger_key, consensus_key)


@cache
def market_of(n: int) -> FakeMarket:
    """The market of n insurers and a supervisor; made once a process, as certificates take milliseconds each."""
    return _market(n, 0, DESKS)


@cache
def governed_market(n: int, newcomers: int) -> FakeMarket:
    """One whose members vote on its set, and with nodes of so many organisations that the genesis does not know."""
    return _market(n, newcomers, (*DESKS, ADMIN))


@cache
def contested_market(n: int, newcomers: int) -> FakeMarket:
    """The same, and execution may lag behind by so few blocks that it does, and that decisions come into force soon."""
    return _market(n, newcomers, (*DESKS, ADMIN), Parameters(k_max=CONTESTED_K))


def _market(n: int, newcomers: int, desks: tuple[str, ...], parameters: Parameters | None = None) -> FakeMarket:
    cards = [_card(f"insurer-{number:03d}", validator=True, desks=desks) for number in range(1, n + 1)]
    cards.append(_card(SUPERVISOR, validator=False))
    joining = [_card(f"newcomer-{number:03d}", validator=True, desks=desks) for number in range(1, newcomers + 1)]
    raw = assemble(cards, name="simulated-market", time_ms=GENESIS_TIME_MS, parameters=parameters or Parameters())
    genesis = load_genesis(raw)
    notary = Notary()
    keys = tuple(notary.key(card.consensus_key) for card in genesis.validators)
    return FakeMarket(
        genesis,
        keys,
        notary.verify,
        notary.verify_many,
        tuple(_desk(card, notary) for card in (*genesis.validators, *joining)),
        notary,
        tuple(joining),
        ADMIN in desks,
    )


def _desk(card: Card, notary: Notary) -> Desk:
    keys = [(key.label, notary.key(bytes.fromhex(key.public))) for key in card.body.keys]
    admin = next((key for label, key in keys if label == ADMIN), None)
    return Desk(card.id, tuple(key for label, key in keys if label != ADMIN), admin)


def policy(number: int) -> ops.PolicyIssue:
    """An ordinary policy, told apart by its number."""
    identifier = number.to_bytes(16, "big")
    return ops.PolicyIssue(
        policy_id=identifier,
        subject_id=identifier,
        line=ops.Line.HOME,
        currency="USD",
        limit_minor=50_000_000,
        deductible_minor=50_000,
        period_start_days=TODAY_DAYS - PERIOD_DAYS,
        period_end_days=TODAY_DAYS,
        asserted_date_days=TODAY_DAYS - PERIOD_DAYS,
        premium_minor=90_000,
    )
