"""The network of the vectors: four insurers that validate, one supervisor, five blocks; the same bytes in every run.

Every private key is a test seed: SHA-256 of a name that says so. Nothing here is shared with the fakes of other tests,
so that the vectors change only with the bytes they pin.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from consensus.evidence import ConflictingVotes, FalseJustification
from consensus.types import Certificate, Header, Justification, Vote, VoteKind
from consensus.votes import vote_message
from contracts.dispatch import CONTRACTS
from crypto.hashing import TAG_BATCH_SIGNATURE, TAG_ENVELOPE_SIGNATURE
from crypto.keys import SigningKey
from crypto.merkle import EMPTY_ROOT
from crypto.tls import make_authority
from ledger import operations as ops
from ledger import wire
from ledger.cards import Card, CardBody, RoleKey, sign_card
from ledger.epochs import approved_change, current_epoch, find_epoch
from ledger.execution import ExecutableBlock, Execution, ListedBatch
from ledger.genesis import Permissions, assemble, load_genesis, write_genesis_state
from ledger.genesis_header import genesis_header
from ledger.organisations import key_possession_message
from ledger.parameters import CurrencyRule, Parameters
from ledger.proof_building import FinalHeader, make_hand_over
from ledger.proof_types import HandOver
from ledger.readiness import readiness_message
from ledger.registrations import possession_message, registration_message
from ledger.state import State
from ledger.succession import assemble_on, end_of
from ledger.types import Batch, Block, Envelope, JustifiedHeader, KeyRegistration, Payload, Readiness, Statement
from store.memory import MemoryStateStore

SEED_PREFIX = "lossbook test seed: "
INSURERS = ("alpha", "bravo", "charlie", "delta")
SUPERVISOR = "watch"
TIME_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
TODAY_DAYS = TIME_MS // 86_400_000
BLOCK_MS = 1_000

DESKS: dict[str, tuple[str, ...]] = {
    "desk-1": ("underwriter", "claims-handler"),
    "desk-2": ("claims-handler", "finance"),
    "desk-3": ("admin",),
}

PARAMETERS = Parameters(
    currencies={"EUR": CurrencyRule(2, 10_000_000), "JPY": CurrencyRule(0, 10_000_000)},
    verification="all",
    k_max=20,
    max_ahead_ms=86_400_000,
    block_bytes_max=4 << 20,
    batch_bytes_max=256 << 10,
    block_interval_ms=50,
    state_scheme=1,
)

POLICY_1, POLICY_2 = bytes(range(0x10, 0x20)), bytes(range(0x20, 0x30))
CLAIM_1 = bytes(range(0x30, 0x40))
PROPOSAL = bytes(range(0x60, 0x70))
FAREWELL = bytes(range(0x70, 0x80))
SUBJECT_1, SUBJECT_2 = bytes(range(0x40, 0x50)), bytes(range(0x50, 0x60))


def seed_name(owner: str, purpose: str) -> str:
    """What is hashed to the seed of a key."""
    return f"{SEED_PREFIX}{owner}/{purpose}"


def seeded_key(owner: str, purpose: str) -> SigningKey:
    """Ed25519 key whose seed is SHA-256 of its name."""
    return SigningKey.from_seed(sha256(seed_name(owner, purpose).encode()).digest())


COMING_KEY = seeded_key("delta", "consensus-1")
"""Consensus key of delta in epoch 1."""
ADDED_KEY = seeded_key("alpha", "desk-4")
"""Signing key that alpha adds."""


def consensus_key(owner: str, epoch: int) -> SigningKey:
    """A validator's key of an epoch."""
    return seeded_key(owner, f"consensus-{epoch}" if epoch else "consensus")


def all_keys() -> list[tuple[str, str]]:
    """(owner, purpose) of every key of the network."""
    keys = [(owner, purpose) for owner in INSURERS for purpose in ("ledger", "consensus", *DESKS)]
    later = [(owner, "consensus-1") for owner in INSURERS]
    rebuilt = [(owner, "consensus-rebuilt") for owner in INSURERS[:3]]
    return [*keys, *later, *rebuilt, (SUPERVISOR, "ledger"), (SUPERVISOR, "auditor")]


def card(owner: str, consensus: str = "consensus") -> Card:
    """The organisation's card; ``consensus`` names the seed of its consensus key."""
    insurer = owner in INSURERS
    desks = DESKS if insurer else {"auditor": ("auditor",)}
    ledger_key = seeded_key(owner, "ledger")
    consensus_key = seeded_key(owner, consensus) if insurer else None
    port = 4000 + 10 * (*INSURERS, SUPERVISOR).index(owner)
    body = CardBody(
        id=owner,
        kind="insurer" if insurer else "supervisor",
        name=f"{owner.title()} {'Insurance' if insurer else 'Supervision'}",
        ledger_key=ledger_key.public.hex(),
        ca_certificate=make_authority(ledger_key, owner, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)).decode(),
        consensus_key=consensus_key.public.hex() if consensus_key else "",
        peer_address=f"{owner}.example:{port}" if insurer else "",
        public_address=f"{owner}.example:{port + 1}",
        keys=tuple(RoleKey(seeded_key(owner, desk).public.hex(), roles, desk) for desk, roles in desks.items()),
    )
    return sign_card(body, ledger_key, consensus_key)


def genesis_file() -> bytes:
    """The genesis of the network."""
    cards = [card(owner) for owner in (*INSURERS, SUPERVISOR)]
    permissions = Permissions(read=(*INSURERS, SUPERVISOR), subscribe=(*INSURERS[:3], SUPERVISOR))
    return assemble(cards, name="vectors", time_ms=TIME_MS, parameters=PARAMETERS, permissions=permissions)


class Network:
    """The chain, made block by block; a ``HeaderSource`` for proofs, a ``BlockSource`` for snapshots."""

    def __init__(self) -> None:
        self.genesis = load_genesis(genesis_file())
        self.validators = self.genesis.validator_set()
        self.store = MemoryStateStore()
        self.state = State.open(self.store)
        write_genesis_state(self.genesis, self.state)
        self.genesis_writes = self.state.commit(0, TIME_MS, [])
        self.store.commit(self.genesis_writes)
        self.root = genesis_header(
            time_ms=TIME_MS,
            state_root=self.genesis_writes.record.state_root,
            receipts_root=self.genesis_writes.record.receipts_root,
            valset_hash=self.validators.hash,
            scheme=PARAMETERS.state_scheme,
        )
        self.execution = Execution(self.state, CONTRACTS)
        self.blocks: list[Block] = []
        self.envelopes: list[Envelope] = []
        self.start = self.root  #: header of view 0 of the present epoch
        self.tails: dict[int, tuple[JustifiedHeader, ...]] = {}  #: by the height of the block that ends the epoch
        self._heads: dict[str, tuple[int, bytes]] = {}

    # -- HeaderSource

    def finalized_height(self) -> int:
        """Of the last block."""
        return len(self.blocks)

    first_epoch = 0  #: of the genesis

    def hand_over(self, epoch: int) -> HandOver | None:
        """How an epoch ended."""
        record = find_epoch(self.state, epoch + 1)
        return None if record is None else make_hand_over(self.final_header(record.first_height - 1), record)

    def final_header(self, height: int) -> FinalHeader | None:
        """The header of a height and its own Finalization, if it has one."""
        if not 1 <= height <= len(self.blocks):
            return None
        block = self.blocks[height - 1]
        justified = JustifiedHeader(block.header, block.justification)
        return FinalHeader(justified, block.finalization, self.tails.get(height, ()))

    def payload(self, height: int) -> Payload | None:
        """What the block of a height lists."""
        return self.blocks[height - 1].payload if 1 <= height <= len(self.blocks) else None

    # -- what clients and validators make

    def envelope(
        self, operations: Sequence[ops.Operation], *, by: str = "alpha", desks: Sequence[str], atomic: bool = False
    ) -> Envelope:
        """A signed envelope; its salt counts."""
        keys = [seeded_key(by, desk) for desk in desks]
        body = wire.encode_envelope_body(
            chain_id=self.genesis.chain_id,
            organisation=by,
            signer_keys=[key.public for key in keys],
            not_after_ms=TIME_MS + 3_600_000,
            salt=(len(self.envelopes) + 1).to_bytes(16, "big"),
            operations=operations,
            atomic=atomic,
        )
        raw = wire.encode_envelope(body, [key.sign(TAG_ENVELOPE_SIGNATURE + body) for key in keys])
        self.envelopes.append(wire.decode_envelope(raw))
        return self.envelopes[-1]

    def batch(self, origin: str, envelopes: Sequence[Envelope]) -> Batch:
        """The origin's next batch, in incarnation 1."""
        sequence, previous = self._heads.get(origin, (0, bytes(32)))
        raws = [envelope.raw for envelope in envelopes]
        header = wire.encode_batch_header(
            chain_id=self.genesis.chain_id,
            epoch=0,
            origin=origin,
            incarnation=1,
            sequence=sequence + 1,
            previous=previous,
            envelopes=raws,
            attachment_root=EMPTY_ROOT,
        )
        signature = seeded_key(origin, "consensus").sign(TAG_BATCH_SIGNATURE + header)
        batch = wire.decode_batch(wire.encode_batch(header, signature, raws))
        self._heads[origin] = (sequence + 1, batch.header.digest)
        return batch

    @property
    def epoch(self) -> int:
        """The present one."""
        return self.validators.epoch

    def certificate(
        self, kind: VoteKind, view: int, parent_view: int, digest: bytes, signers: Sequence[int]
    ) -> Certificate:
        """Votes of these signers."""
        members = self.validators.members
        message = vote_message(self.genesis.chain_id, kind, self.epoch, view, parent_view, digest)
        signatures = tuple(consensus_key(members[signer].id, self.epoch).sign(message) for signer in signers)
        return Certificate(kind, self.epoch, view, parent_view, digest, tuple(signers), signatures)

    def of_block(self, kind: VoteKind, header: Header, signers: Sequence[int]) -> Certificate:
        """A certificate of this header."""
        return self.certificate(kind, header.view, header.parent_view, header.digest, signers)

    def add(
        self,
        *batches: Batch,
        listed: Sequence[Statement] = (),
        skipped: Sequence[Sequence[int]] = (),
        parent_kind: VoteKind = VoteKind.NOTARIZE,
        finalized_by: Sequence[int] = (),
        ends_epoch: bool = False,
    ) -> Block:
        """The next block, executed.

        Args:
            listed: statements.
            skipped: signers of a nullification for each view between the parent's and this one's.
            parent_kind: which certificate of the parent the justification holds.
            finalized_by: signers of its Finalization; empty: a descendant finalizes it.
            ends_epoch: it names the set of the change that is approved.
        """
        parent = self.blocks[-1].header if self.blocks else self.root
        payload = wire.encode_payload([batch.header.digest for batch in batches], [each.raw for each in listed])
        roots = self.store.height_record(parent.height)
        change = approved_change(self.state) if ends_epoch else None
        assert roots is not None
        header, justification = self._header(
            parent,
            skipped,
            parent_kind,
            height=parent.height + 1,
            payload_root=payload.root,
            timestamp_ms=parent.timestamp_ms + BLOCK_MS,
            state_height=parent.height,
            state_root=roots.state_root,
            receipts_root=roots.receipts_root,
            next_valset_hash=change.next_valset_hash if change else b"",
        )
        finalization = self.of_block(VoteKind.FINALIZE, header, finalized_by) if finalized_by else None
        block = Block(header, justification, payload, batches, finalization)
        self.blocks.append(block)
        executable = [
            ListedBatch(batch.header, [wire.decode_envelope(raw) for raw in batch.envelopes]) for batch in batches
        ]
        done = self.execution.run(ExecutableBlock.of(header, executable, listed))
        self.store.commit(done.writes)
        return block

    def end_epoch(self, *, skipped: Sequence[Sequence[int]], finalized_by: Sequence[int]) -> None:
        """A tail after the last block, which is finalized with it; then the next epoch begins."""
        boundary = self.blocks[-1]
        repeated = ("height", "payload_root", "timestamp_ms", "state_height", "state_root", "receipts_root")
        fields = {name: getattr(boundary.header, name) for name in repeated}
        fields["payload_root"] = wire.encode_payload(()).root
        tail, justification = self._header(boundary.header, skipped, VoteKind.NOTARIZE, **fields)
        finalization = self.of_block(VoteKind.FINALIZE, tail, finalized_by)
        self.blocks[-1] = msgspec.structs.replace(boundary, finalization=finalization)
        self.tails[boundary.header.height] = (JustifiedHeader(tail, justification),)
        epoch, record = current_epoch(self.state)
        self.validators, self.start = record.validator_set(epoch), boundary.header

    def _header(
        self, parent: Header, skipped: Sequence[Sequence[int]], parent_kind: VoteKind, **fields: Any
    ) -> tuple[Header, Justification]:
        """A header on this parent, with views of this epoch between them nullified."""
        first = parent.digest == self.start.digest
        parent_view = 0 if first else parent.view
        view = parent_view + 1 + len(skipped)
        justification = wire.make_justification(
            None if first else self.of_block(parent_kind, parent, (0, 1, 3)),
            [
                self.certificate(VoteKind.NULLIFY, parent_view + 1 + at, 0, b"", signers)
                for at, signers in enumerate(skipped)
            ],
        )
        header = wire.encode_header(
            version=1,
            chain_id=self.genesis.chain_id,
            epoch=self.epoch,
            view=view,
            parent_view=parent_view,
            parent_digest=parent.digest,
            justification_digest=justification.digest,
            valset_hash=self.validators.hash,
            state_scheme=PARAMETERS.state_scheme,
            **fields,
        )
        return header, justification


def policy_issue(policy_id: bytes, subject_id: bytes, start_days: int, premium_minor: int | None) -> ops.PolicyIssue:
    """Home cover of 500,000.00 less 500.00 to yesterday, issued on its first day."""
    return ops.PolicyIssue(
        policy_id=policy_id,
        subject_id=subject_id,
        line=ops.Line.HOME.value,
        currency="EUR",
        limit_minor=50_000_000,
        deductible_minor=50_000,
        period_start_days=start_days,
        period_end_days=TODAY_DAYS - 1,
        asserted_date_days=start_days,
        premium_minor=premium_minor,
    )


def statements(network: Network) -> list[Statement]:
    """One of each kind. Of the evidence: nobody on the chain of ``build`` did such a thing.

    1  bravo notarized two blocks in view 9
    2  charlie notarized a header in view 10 that skips the views after the parent's without their nullifications
    3  alpha will use another consensus key in epoch 1
    4  delta is ready to follow epoch 0
    """

    def vote(signer: int, view: int, parent_view: int, digest: bytes) -> Vote:
        message = vote_message(network.genesis.chain_id, VoteKind.NOTARIZE, 0, view, parent_view, digest)
        signature = seeded_key(INSURERS[signer], "consensus").sign(message)
        return Vote(VoteKind.NOTARIZE, 0, view, parent_view, digest, signer, signature)

    two = ConflictingVotes(*(vote(1, 9, 7, bytes((filler,)) * 32) for filler in (0xAA, 0xBB)))
    parent = network.blocks[-1].header
    justification = wire.make_justification(network.of_block(VoteKind.NOTARIZE, parent, (0, 1, 3)), ())
    fields = {name: getattr(parent, name) for name in Header.__dataclass_fields__ if name not in ("raw", "digest")}
    skipping = {
        "height": parent.height + 1,
        "view": 10,
        "parent_view": parent.view,
        "parent_digest": parent.digest,
        "justification_digest": justification.digest,
        "timestamp_ms": parent.timestamp_ms + BLOCK_MS,
    }
    header = wire.encode_header(**(fields | skipping))
    false = FalseJustification(vote(2, 10, parent.view, header.digest), header, justification)
    said = (registration(network, "alpha"), readiness(network, "delta", PROPOSAL))
    return [wire.encode_statement(content) for content in (two, false, *said)]


def registration(network: Network, owner: str) -> KeyRegistration:
    """Its key of epoch 1, stated in epoch 0."""
    chain_id, present, coming = network.genesis.chain_id, consensus_key(owner, 0), consensus_key(owner, 1)
    return KeyRegistration(
        epoch=0,
        signer=INSURERS.index(owner),
        consensus_key=coming.public,
        signature=present.sign(registration_message(chain_id, 1, owner, coming.public)),
        possession=coming.sign(possession_message(chain_id, 1, owner, coming.public)),
    )


def readiness(network: Network, owner: str, proposal_id: bytes) -> Readiness:
    """It is ready to follow epoch 0."""
    key = consensus_key(owner, 1)
    message = readiness_message(network.genesis.chain_id, 0, proposal_id, key.public)
    return Readiness(0, proposal_id, key.public, key.sign(message))


def administration(made: Network) -> list[Envelope]:
    """A proposal that is voted for, a consensus key for epoch 1, a signing key that is authorised, then added."""
    admin = ("desk-3",)
    change = ops.ParameterChange(
        1_000, "", (ops.NumberParameter("k_max", 30),), (ops.CurrencyParameter("USD", 2, 5_000_000),)
    )
    proposal = ops.GovernancePropose(PROPOSAL, 0, TIME_MS + 86_400_000, parameter_change=change)
    chain_id, coming, added = made.genesis.chain_id, COMING_KEY, ADDED_KEY
    registered = ops.OrganisationRegisterConsensusKey(
        1, coming.public, coming.sign(possession_message(chain_id, 1, "delta", coming.public))
    )
    possession = added.sign(key_possession_message(chain_id, "alpha"))
    return [
        made.envelope([proposal], by="bravo", desks=admin),
        made.envelope([ops.GovernanceVote(PROPOSAL, True)], by="charlie", desks=admin),
        made.envelope([registered], by="delta", desks=admin),
        made.envelope([ops.OrganisationChangeKey(added.public, 16, b"", possession)], by="alpha", desks=admin),
        made.envelope([ops.OrganisationAuthoriseKey(b"", 0, added.public)], by="alpha", desks=admin),
    ]


def build() -> Network:
    """The five blocks.

    1  view 1  a policy, signed by two desks; own Finalization
    2  view 4  after two skipped views; three batches, five envelopes; finalized by its child
    3  view 5  empty; own Finalization
    4  view 6  on a Finalization as parent's certificate; the claim moves on, one envelope is replayed; a proposal is
               made and voted for, keys are registered, authorised and changed
    5  view 7  empty: certifies the state of height 4
    """
    made = Network()
    issue = made.envelope([policy_issue(POLICY_1, SUBJECT_1, TODAY_DAYS - 365, 90_000)], desks=("desk-1", "desk-2"))
    made.add(made.batch("alpha", [issue]), finalized_by=(0, 1, 2))
    loss = TODAY_DAYS - 100
    notify = made.envelope(
        [ops.ClaimNotify(CLAIM_1, POLICY_1, loss, loss + 1), ops.ClaimRegister(CLAIM_1, loss + 2)], desks=("desk-1",)
    )
    partly = made.envelope(
        [policy_issue(POLICY_1, SUBJECT_1, TODAY_DAYS - 365, None), ops.ClaimAssess(CLAIM_1, loss + 3, 1_234_567)],
        desks=("desk-1",),
    )
    atomic = made.envelope(
        [ops.ClaimApprove(CLAIM_1, loss + 4, 1_000_000), ops.ClaimClose(bytes(16), loss + 4)],
        desks=("desk-2",),
        atomic=True,
    )
    other = made.envelope([policy_issue(POLICY_2, SUBJECT_2, -10, None)], by="bravo", desks=("desk-1",))
    foreign = made.envelope([ops.ClaimClose(CLAIM_1, loss + 4)], by="charlie", desks=("desk-1",))
    made.add(
        made.batch("alpha", [notify, partly, atomic]),
        made.batch("bravo", [other]),
        made.batch("charlie", [foreign]),
        skipped=((0, 2, 3), (0, 1, 2, 3)),
    )
    made.add(finalized_by=(0, 2, 3))
    decline = made.envelope(
        [ops.ClaimDecline(CLAIM_1, loss + 5, ops.DeclineReason.NOT_LIABLE.value)], desks=("desk-1",)
    )
    made.add(
        made.batch("alpha", [decline, notify]),
        made.batch("bravo", administration(made)),
        parent_kind=VoteKind.FINALIZE,
    )
    made.add(finalized_by=(1, 2, 3))
    return made


def build_two_epochs() -> Network:
    """``build``, and four more blocks.

    6  view 8   three of four register their keys of epoch 1 (delta's is registered); alpha leaves by three votes
    7  view 9   the three that remain are ready
    8  view 10  ends epoch 0; finalized with a tail in view 12, after a skipped view
    9  view 2   of epoch 1, after a skipped view; own Finalization
    """
    made = build()
    admin = ("desk-3",)
    leave = ops.GovernancePropose(FAREWELL, 0, TIME_MS + 86_400_000, set_change=ops.SetChange(remove=("alpha",)))
    votes = [made.envelope([leave], by="bravo", desks=admin)]
    votes += [
        made.envelope([ops.GovernanceVote(FAREWELL, True)], by=owner, desks=admin) for owner in ("charlie", "delta")
    ]
    registrations = [wire.encode_statement(registration(made, owner)) for owner in INSURERS[:3]]
    made.add(made.batch("charlie", votes), listed=registrations)
    made.add(listed=[wire.encode_statement(readiness(made, owner, FAREWELL)) for owner in INSURERS[1:]])
    made.add(ends_epoch=True)
    made.end_epoch(skipped=((0, 1, 2),), finalized_by=(0, 2, 3))
    made.add(skipped=((0, 1, 2),), finalized_by=(0, 1, 2))
    return made


def rebuilt_genesis() -> bytes:
    """The genesis of a network that carries on the books of ``build()`` after its last block: three of its insurers
    and the supervisor, with new consensus keys."""
    network = build()
    last = network.blocks[-1]
    assert last.finalization is not None
    cards = [card(owner, "consensus-rebuilt") for owner in (*INSURERS[:3], SUPERVISOR)]
    return assemble_on(
        cards,
        network.state,
        end_of(network.genesis.chain_id, network.state, last.finalization),
        name="vectors, rebuilt",
        time_ms=TIME_MS + 3_600_000,
        parameters=PARAMETERS,
        permissions=Permissions(read=(*INSURERS[:3], SUPERVISOR), subscribe=(SUPERVISOR,)),
    )
