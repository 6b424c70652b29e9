"""A small market with deterministic keys, and a ledger of it in memory that executes what it is given."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from contracts.dispatch import CONTRACTS
from crypto.hashing import TAG_ENVELOPE_SIGNATURE
from crypto.keys import SigningKey
from crypto.merkle import EMPTY_ROOT
from crypto.tls import make_authority
from ledger import operations as ops
from ledger.cards import Card, CardBody, RoleKey, sign_card
from ledger.contract import Contracts
from ledger.execution import BlockResult, ExecutableBlock, Execution, ListedBatch
from ledger.genesis import Genesis, assemble, load_genesis, write_genesis_state
from ledger.parameters import Parameters
from ledger.state import State
from ledger.types import BatchHeader, Envelope, Receipt
from ledger.wire import decode_batch_header, decode_envelope, encode_batch_header, encode_envelope, encode_envelope_body
from store.memory import MemoryStateStore

GENESIS_TIME_MS = 1_750_000_000_000  # 2025-06-15
TODAY_DAYS = GENESIS_TIME_MS // 86_400_000

ROLE_KEYS: dict[str, tuple[str, ...]] = {
    "underwriter": ("underwriter",),
    "handler": ("claims-handler",),
    "handler-2": ("claims-handler",),
    "adjuster": ("adjuster",),
    "finance": ("finance",),
    "finance-2": ("finance",),
    "auditor": ("auditor",),
    "admin": ("admin",),
    "admin-2": ("admin",),
}
"""Desk -> roles of its key. Tests that name no desk sign with ``ALL_DESKS``."""
ALL_DESKS = ("underwriter", "handler", "handler-2", "adjuster", "finance", "finance-2")


def key_of(*names: str) -> SigningKey:
    """The same key for the same names in every run."""
    return SigningKey.from_seed(sha256("/".join(names).encode()).digest())


@dataclass
class Organisation:
    """An organisation with all its private keys."""

    id: str
    kind: str
    desks: dict[str, SigningKey] = field(init=False)
    ledger_key: SigningKey = field(init=False)
    consensus_key: SigningKey | None = field(init=False)

    def __post_init__(self) -> None:
        self.desks = {desk: key_of(self.id, desk) for desk in ROLE_KEYS}
        self.ledger_key = key_of(self.id, "ledger")
        self.consensus_key = key_of(self.id, "consensus") if self.kind == "insurer" else None

    def body(self, **changes: object) -> CardBody:
        """What its card says, with changes."""
        not_before = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
        fields: dict[str, object] = {
            "id": self.id,
            "kind": self.kind,
            "name": f"{self.id} Insurance",
            "ledger_key": self.ledger_key.public.hex(),
            "ca_certificate": make_authority(self.ledger_key, self.id, not_before).decode(),
            "consensus_key": self.consensus_key.public.hex() if self.consensus_key else "",
            "peer_address": "127.0.0.1:4000" if self.consensus_key else "",
            "public_address": "127.0.0.1:4001",
            "keys": tuple(RoleKey(self.desks[desk].public.hex(), roles, desk) for desk, roles in ROLE_KEYS.items()),
        }
        return CardBody(**(fields | changes))  # type: ignore[arg-type]

    def card(self, **changes: object) -> Card:
        """Its signed card."""
        return sign_card(self.body(**changes), self.ledger_key, self.consensus_key)


INSURERS = tuple(Organisation(f"insurer-{i}", "insurer") for i in range(1, 5))
SUPERVISOR = Organisation("supervisor", "supervisor")
MARKET = (*INSURERS, SUPERVISOR)
FIRST = INSURERS[0]


def make_genesis(organisations: Sequence[Organisation] = MARKET, parameters: Parameters | None = None) -> Genesis:
    """The genesis of these organisations."""
    cards = [organisation.card() for organisation in organisations]
    return load_genesis(assemble(cards, name="test-market", time_ms=GENESIS_TIME_MS, parameters=parameters))


_MARKET_GENESIS: list[Genesis] = []


def market_genesis() -> Genesis:
    """The genesis of ``MARKET``, made once: signing cards and certificates takes some milliseconds each."""
    if not _MARKET_GENESIS:
        _MARKET_GENESIS.append(make_genesis())
    return _MARKET_GENESIS[0]


class Ledger:
    """One node's ledger, without a network: envelopes go straight into the next block."""

    def __init__(self, genesis: Genesis | None = None, contracts: Contracts = CONTRACTS) -> None:
        self.genesis = genesis or market_genesis()
        self.store = MemoryStateStore()
        self.state = State.open(self.store)
        write_genesis_state(self.genesis, self.state)
        self.store.commit(self.state.commit(0, self.genesis.time_ms, []))
        self.execution = Execution(self.state, contracts, want_outcomes=True)
        self.time_ms = self.genesis.time_ms
        self.made = 0

    def envelope(
        self,
        operations: Sequence[ops.Operation],
        *,
        by: Organisation = FIRST,
        desks: Sequence[str] = ALL_DESKS,
        organisation: str | None = None,
        keys: Sequence[SigningKey] | None = None,
        not_after_ms: int | None = None,
        atomic: bool = False,
        chain_id: bytes | None = None,
    ) -> Envelope:
        """A signed envelope, as a client makes it; a new salt every time."""
        signers = [by.desks[desk] for desk in desks] if keys is None else list(keys)
        self.made += 1
        body = encode_envelope_body(
            chain_id=self.genesis.chain_id if chain_id is None else chain_id,
            organisation=by.id if organisation is None else organisation,
            signer_keys=[key.public for key in signers],
            not_after_ms=self.time_ms + 3_600_000 if not_after_ms is None else not_after_ms,
            salt=self.made.to_bytes(16, "big"),
            operations=operations,
            atomic=atomic,
        )
        return decode_envelope(encode_envelope(body, [key.sign(TAG_ENVELOPE_SIGNATURE + body) for key in signers]))

    def executable(self, *batches: Sequence[Envelope], after_ms: int = 1000) -> ExecutableBlock:
        """The next block, listing these batches, made by the insurers in turn."""
        self.time_ms += after_ms
        height = self.state.height + 1
        listed = [
            ListedBatch(self._header(INSURERS[at % 4].id, height, at, envelopes), envelopes)
            for at, envelopes in enumerate(batches)
        ]
        return ExecutableBlock(height, self.time_ms, bytes(32), listed)

    def block(self, *batches: Sequence[Envelope], after_ms: int = 1000) -> BlockResult:
        """Execute the next block and store it."""
        result = self.execution.run(self.executable(*batches, after_ms=after_ms))
        self.store.commit(result.writes)
        return result

    def submit(self, *operations: ops.Operation, desks: Sequence[str] = ALL_DESKS, by: Organisation = FIRST) -> Receipt:
        """One envelope in a block of its own; its receipt."""
        return self.block([self.envelope(operations, by=by, desks=desks)]).receipts[0]

    def code(self, operation: ops.Operation, desks: Sequence[str] = ALL_DESKS, by: Organisation = FIRST) -> int:
        """The code of one operation in an envelope of its own."""
        receipt = self.submit(operation, desks=desks, by=by)
        return receipt.operation_codes[0] if receipt.operation_codes else receipt.code

    def batch_header(self, height: int, envelopes: Sequence[Envelope]) -> BatchHeader:
        """Header of the only batch of a block."""
        return self._header(FIRST.id, height, 0, envelopes)

    def _header(self, origin: str, height: int, at: int, envelopes: Sequence[Envelope]) -> BatchHeader:
        raw = encode_batch_header(
            chain_id=self.genesis.chain_id,
            epoch=0,
            origin=origin,
            incarnation=1,
            sequence=height * 100 + at,
            previous=bytes(32),
            envelopes=[envelope.raw for envelope in envelopes],
            attachment_root=EMPTY_ROOT,
        )
        return decode_batch_header(raw)


# -- an ordinary policy and claim --------------------------------------------------------------

POLICY = b"policy-000000001"
CLAIM = b"claim-0000000001"
SUBJECT = b"subject-00000001"
START, END = TODAY_DAYS - 400, TODAY_DAYS - 36
LOSS = TODAY_DAYS - 100
LIMIT, DEDUCTIBLE = 50_000_000, 50_000  # 500,000.00 and 500.00


def policy_issue(**changes: object) -> ops.PolicyIssue:
    """An ordinary policy."""
    fields: dict[str, object] = {
        "policy_id": POLICY,
        "subject_id": SUBJECT,
        "line": ops.Line.HOME,
        "currency": "USD",
        "limit_minor": LIMIT,
        "deductible_minor": DEDUCTIBLE,
        "period_start_days": START,
        "period_end_days": END,
        "asserted_date_days": START,
        "premium_minor": 90_000,
    }
    return ops.PolicyIssue(**(fields | changes))  # type: ignore[arg-type]


def claim_notify(**changes: object) -> ops.ClaimNotify:
    """A loss under it, reported the next day."""
    fields: dict[str, object] = {
        "claim_id": CLAIM,
        "policy_id": POLICY,
        "loss_date_days": LOSS,
        "asserted_date_days": LOSS + 1,
    }
    return ops.ClaimNotify(**(fields | changes))  # type: ignore[arg-type]


def claim_path(amount_minor: int, claim_id: bytes = CLAIM, approved_minor: int | None = None) -> list[ops.Operation]:
    """Register to close for a claim that is paid; the reports come from ``claim_notify``."""
    approved = amount_minor if approved_minor is None else approved_minor
    return [
        ops.ClaimRegister(claim_id, LOSS + 2),
        ops.ClaimAssess(claim_id, LOSS + 3, amount_minor),
        ops.ClaimApprove(claim_id, LOSS + 4, approved),
        ops.ClaimPay(claim_id, LOSS + 5, approved, "USD"),
        ops.ClaimClose(claim_id, LOSS + 6),
    ]
