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
from ledger.parameters import Parameters
from ledger.types import Envelope
from ledger.wellformed import SignatureJob
from ledger.wire import decode_envelope, encode_envelope, encode_envelope_body
from simulator.signatures import FakeKey, Notary, SecretKey

GENESIS_TIME_MS: Final = 1_750_000_000_000  # 2025-06-15
TODAY_DAYS: Final = GENESIS_TIME_MS // 86_400_000
PERIOD_DAYS: Final = 364
SALT_BYTES: Final = 16


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
        """Number of validators."""
        return len(self.keys)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """Organisation ids of the validators, by number."""
        return tuple(card.id for card in self.genesis.validators)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {member: number for number, member in enumerate(self.members)}

    def member(self, index: int) -> str:
        """Organisation id of a validator."""
        return self.members[index]

    def index(self, member: str) -> int:
        """Which validator has this id: the reverse of ``member``."""
        return self._numbers[member]


@dataclass(frozen=True)
class Desk:
    """An insurer's clients: two keys, so that a stripped co-signature is possible."""

    organisation: str
    keys: tuple[FakeKey, ...]


@dataclass(frozen=True)
class FakeMarket(Market):
    """A market whose signatures are the notary's."""

    desks: tuple[Desk, ...]
    """By signer index."""

    def genuine(self, raw: bytes) -> bool:
        """Whether an envelope carries a signature of each of its signers, in order; judged by the notary alone."""
        envelope = decode_envelope(raw)
        message = TAG_ENVELOPE_SIGNATURE + envelope.body
        return len(envelope.signatures) == len(envelope.signer_keys) and all(
            self.verify(key, message, signature)
            for key, signature in zip(envelope.signer_keys, envelope.signatures, strict=True)
        )

    def envelope(self, by: int, salt: int, not_after_ms: int, operations: Sequence[ops.Operation]) -> Envelope:
        """A signed envelope of one insurer's clients."""
        desk = self.desks[by]
        body = encode_envelope_body(
            chain_id=self.genesis.chain_id,
            organisation=desk.organisation,
            signer_keys=[key.public for key in desk.keys],
            not_after_ms=not_after_ms,
            salt=salt.to_bytes(SALT_BYTES, "big"),
            operations=operations,
            atomic=False,
        )
        return decode_envelope(encode_envelope(body, [key.sign(TAG_ENVELOPE_SIGNATURE + body) for key in desk.keys]))


def _seeded(*names: str) -> SigningKey:
    return SigningKey.from_seed(sha256("/".join(("simulator", *names)).encode()).digest())


def _card(identifier: str, *, validator: bool) -> Card:
    """Cards carry real signatures: the ceremony's code makes and checks them."""
    ledger_key = _seeded(identifier, "ledger")
    consensus_key = _seeded(identifier, "consensus") if validator else None
    not_before = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    body = CardBody(
        id=identifier,
        kind="insurer" if validator else "supervisor",
        name=f"{identifier} of the simulator",
        ledger_key=ledger_key.public.hex(),
        ca_certificate=make_authority(ledger_key, identifier, not_before).decode(),
        consensus_key=consensus_key.public.hex() if consensus_key else "",
        peer_address="127.0.0.1:4000" if validator else "",
        public_address="127.0.0.1:4001",
        keys=tuple(
            RoleKey(_seeded(identifier, desk).public.hex(), (desk,), desk) for desk in ("underwriter", "claims-handler")
        ),
    )
    return sign_card(body, ledger_key, consensus_key)


@cache
def market_of(n: int) -> FakeMarket:
    """The market of n insurers and a supervisor; made once a process, as certificates take milliseconds each."""
    cards = [_card(f"insurer-{number:03d}", validator=True) for number in range(1, n + 1)]
    cards.append(_card("supervisor", validator=False))
    raw = assemble(cards, name="simulated-market", time_ms=GENESIS_TIME_MS, parameters=Parameters())
    genesis = load_genesis(raw)
    notary = Notary()
    desks = tuple(
        Desk(card.id, tuple(notary.key(bytes.fromhex(key.public)) for key in card.body.keys))
        for card in genesis.validators
    )
    keys = tuple(notary.key(card.consensus_key) for card in genesis.validators)
    return FakeMarket(genesis, keys, notary.verify, notary.verify_many, desks)


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
