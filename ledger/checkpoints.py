"""Checkpoints: what people vouch for, where signatures of validators no longer suffice.

Whoever collects enough old consensus keys can sign a second history from the time when they were in force. A verifier
that has followed all the time is not fooled; one that comes late is. So it starts from a checkpoint: a block that the
supervisor and f + 1 members of the last set it knows confirm under their ledger keys, which are not those (consensus.md
§10).

    body      what is vouched for: a final block, the epoch it is of, who votes in it, and who may confirm the next one
    anchor    what a verifier believes without proof: the genesis, a checkpoint it accepted, or its own executed state
    confirm   whether an anchor's own people vouch for a checkpoint; an anchor never goes back (``ledger.vouching``)

A checkpoint file is JSON: the signed text, and signatures over exactly that text. Pure: files are kept by their users
(``lossbook_sdk.checkpoints``, ``replica``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from consensus.types import Header, ValidatorSet
from crypto.hashing import TAG_CHECKPOINT
from crypto.keys import SigningKey
from ledger.epochs import Seat, epoch_seed, validators, valset_hash
from ledger.genesis import Genesis
from ledger.header_chain import EpochStart
from ledger.known_epochs import KnownEpochs
from ledger.organisations import ORGANISATIONS, Kind
from ledger.plain_json import plain
from ledger.proof_errors import BadHandOver
from ledger.state import StateView
from ledger.unusable import Unusable
from ledger.wire import WireError, decode_header

CHECKPOINT_BYTES_MAX: Final = 1 << 20
"""256 seats and 1,024 people who may sign, twice over."""

DAY_MS: Final = 86_400_000

TRUSTING_PERIOD_DAYS: Final = 30
"""How old the last thing a verifier believes may be before it asks people. Longer than a summer's absence, and a third
of the 90 days after which nodes alarm over consensus keys that were not renewed."""


class CheckpointError(Unusable):
    """A checkpoint that cannot be used."""


class UnreadableCheckpoint(CheckpointError):
    """It is no checkpoint, or contradicts itself."""


class CheckpointBehind(CheckpointError):
    """It lies below what is believed already."""


class CheckpointConflict(CheckpointError):
    """It is of another history than what is believed already."""


class Unconfirmed(CheckpointError):
    """Too few of those who may confirm it have signed."""


class TrustingPeriodOver(CheckpointError):
    """What is believed is too old to follow signatures of validators from there."""


class SeatEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member of the validator set."""

    organisation: str
    consensus_key: str
    """64 hex digits; empty where the member has none in this epoch."""


class Confirmer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A supervisor, or a member of the set: who may confirm a later checkpoint."""

    organisation: str
    kind: str
    """Slug of ``Kind``."""
    ledger_key: str
    """64 hex digits."""

    @property
    def is_supervisor(self) -> bool:
        """Whether it supervises the others."""
        return self.kind == Kind.SUPERVISOR.slug


class CheckpointBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is vouched for. Digests and keys are hex."""

    chain_id: str
    epoch: int
    valset_hash: str
    """Of the epoch: epoch number, members and keys."""
    height: int
    header_digest: str
    state_height: int
    state_root: str
    """After ``state_height``, as that header has it."""
    time_ms: int
    """Block time of that header."""
    epoch_genesis: str
    """Header of the block that ended the epoch before, or of the genesis block: what the epoch's first block is built
    on."""
    members: tuple[SeatEntry, ...]
    """In signer order."""
    confirmers: tuple[Confirmer, ...]
    """Supervisors and members of the set, ascending by organisation."""


class CheckpointSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One organisation vouches for it."""

    organisation: str
    signature: str
    """128 hex digits, by its ledger key."""


class CheckpointFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As it stands in its file."""

    checkpoint: str
    """JSON text of ``CheckpointBody``: what is signed."""
    signatures: tuple[CheckpointSignature, ...]


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint that does not contradict itself; who vouches for it is for ``confirm`` to say."""

    body: CheckpointBody
    text: str
    start: EpochStart
    """Of its epoch."""
    signatures: tuple[CheckpointSignature, ...] = ()

    @property
    def chain_id(self) -> bytes:
        """32 bytes."""
        return bytes.fromhex(self.body.chain_id)

    @property
    def digest(self) -> bytes:
        """Of its header, 32 bytes."""
        return bytes.fromhex(self.body.header_digest)

    def signed(self, organisation: str, ledger_key: SigningKey) -> Checkpoint:
        """With the organisation's signature, in place of one it gave before."""
        mine = CheckpointSignature(organisation, ledger_key.sign(signed_message(self.text)).hex())
        others = [each for each in self.signatures if each.organisation != organisation]
        signatures = tuple(sorted([*others, mine], key=lambda each: each.organisation))
        return msgspec.structs.replace(self, signatures=signatures)

    def known_epochs(self, genesis: Genesis) -> KnownEpochs:
        """What a verifier of proofs believes that starts from here."""
        return KnownEpochs.of_genesis(genesis).above(self.body.height, self.digest, self.start)


class Anchor(msgspec.Struct, frozen=True):
    """What a verifier believes without proof."""

    chain_id: bytes
    what: str
    """In words: ``the genesis``, ``the checkpoint of height 1200``."""
    height: int
    digest: bytes
    time_ms: int
    start: EpochStart
    """Of its epoch."""
    confirmers: tuple[Confirmer, ...]

    @property
    def epoch(self) -> int:
        """The epoch it is of."""
        return self.start.validators.epoch

    @classmethod
    def of_genesis(cls, genesis: Genesis) -> Anchor:
        """The genesis."""
        start = EpochStart.of_genesis(genesis)
        seated = {member.id for member in start.validators.members}
        cards = [card for card in genesis.organisations if card.id in seated or card.kind is Kind.SUPERVISOR]
        confirmers = tuple(Confirmer(card.id, card.kind.slug, card.ledger_key.hex()) for card in cards)
        block = start.genesis
        return cls(genesis.chain_id, "the genesis", block.height, block.digest, block.timestamp_ms, start, confirmers)

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> Anchor:
        """A checkpoint that was accepted."""
        body = checkpoint.body
        what = f"the checkpoint of height {body.height}"
        return cls(
            checkpoint.chain_id, what, body.height, checkpoint.digest, body.time_ms, checkpoint.start, body.confirmers
        )


def confirmers_of(view: StateView, seated: Iterable[str]) -> tuple[Confirmer, ...]:
    """Supervisors and these members of the set, with the ledger keys that executed state has."""
    members = set(seated)
    return tuple(
        Confirmer(key.decode(), Kind(record.kind).slug, record.ledger_key.hex())
        for key, record in view.iterate(ORGANISATIONS)
        if record.kind == Kind.SUPERVISOR or key.decode() in members
    )


def make_checkpoint(chain_id: bytes, header: Header, start: EpochStart, confirmers: Sequence[Confirmer]) -> Checkpoint:
    """The checkpoint of a final header, unsigned. The same block gives the same text, whoever makes it.

    Raises:
        UnreadableCheckpoint: header, epoch and confirmers do not belong together.
    """
    body = CheckpointBody(
        chain_id=chain_id.hex(),
        epoch=header.epoch,
        valset_hash=header.valset_hash.hex(),
        height=header.height,
        header_digest=header.digest.hex(),
        state_height=header.state_height,
        state_root=header.state_root.hex(),
        time_ms=header.timestamp_ms,
        epoch_genesis=start.genesis.raw.hex(),
        members=tuple(SeatEntry(each.id, each.public_key.hex()) for each in start.validators.members),
        confirmers=tuple(sorted(confirmers, key=lambda each: each.organisation)),
    )
    return _checkpoint(msgspec.json.encode(body).decode(), ())


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The file, ending with a newline."""
    file = CheckpointFile(checkpoint.text, checkpoint.signatures)
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def decode_checkpoint(raw: bytes) -> Checkpoint:
    """Read a file; that it does not contradict itself is checked, signatures are not.

    Raises:
        UnreadableCheckpoint: see there.
    """
    if len(raw) > CHECKPOINT_BYTES_MAX:
        raise _unreadable(f"it has more than {CHECKPOINT_BYTES_MAX:,} bytes")
    try:
        file = msgspec.json.decode(raw, type=CheckpointFile)
        plain(raw)
    except (msgspec.DecodeError, ValueError) as error:
        raise _unreadable(str(error)) from error
    names = [each.organisation for each in file.signatures]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _unreadable(f"{', '.join(twice)} signed it twice")
    return _checkpoint(file.checkpoint, file.signatures)


def _checkpoint(text: str, signatures: tuple[CheckpointSignature, ...]) -> Checkpoint:
    try:
        body = msgspec.json.decode(text, type=CheckpointBody)
        plain(text)
        members = tuple(Seat(each.organisation, bytes.fromhex(each.consensus_key)) for each in body.members)
        before = decode_header(bytes.fromhex(body.epoch_genesis))
        digests = [bytes.fromhex(each) for each in (body.chain_id, body.header_digest, body.state_root)]
        keys = [bytes.fromhex(each.ledger_key) for each in body.confirmers]
        start = _start(body, before, members)
    except (msgspec.DecodeError, ValueError, WireError, BadHandOver) as error:
        raise _unreadable(str(error)) from error
    if any(len(each) != 32 for each in (*digests, *keys)):
        raise _unreadable("a digest or key has not 32 bytes")
    names = [each.organisation for each in body.confirmers]
    if names != sorted(set(names)) or not {seat.organisation for seat in members} <= set(names):
        raise _unreadable("it does not name everybody who may confirm the next one, once and in order")
    if not (before.height < body.height and before.timestamp_ms < body.time_ms and body.state_height < body.height):
        raise _unreadable("its height or time cannot be")
    return Checkpoint(body, text, start, signatures)


def _start(body: CheckpointBody, before: Header, members: tuple[Seat, ...]) -> EpochStart:
    """The epoch as the body describes it; ValueError or BadHandOver if its parts do not belong together."""
    seated, named = validators(members), bytes.fromhex(body.valset_hash)
    if valset_hash(body.epoch, seated) != named:
        raise ValueError("its members are not the set that it names")
    if before.next_valset_hash:
        start = EpochStart.after(before, members)
    else:  # the network's first epoch, which began with its genesis
        first = ValidatorSet(before.epoch, seated, epoch_seed(bytes.fromhex(body.chain_id)), named)
        start = EpochStart(first, before)
    if start.validators.epoch != body.epoch or named not in (before.valset_hash, before.next_valset_hash):
        raise ValueError("its epoch does not begin on the block that it names")
    return start


def check_age(what: str, time_ms: int, now_ms: int, days: int, *, advice: str) -> None:
    """That what is believed is young enough to follow validators' signatures from there.

    Args:
        what: is believed last, in words.
        time_ms: its block time.
        now_ms: own clock.
        days: the trusting period.

    Raises:
        TrustingPeriodOver: it is not.
    """
    age_ms = now_ms - time_ms
    if age_ms > days * DAY_MS:
        raise TrustingPeriodOver(
            f"{what} is {age_ms // DAY_MS} days old by this machine's clock, and the trusting period is {days} days: "
            "old consensus keys could have signed a second history since",
            advice,
        )


def signed_message(text: str) -> bytes:
    """What a ledger key signs of a checkpoint's text."""
    return TAG_CHECKPOINT + text.encode()


def _unreadable(problem: str) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(
        f"this is no checkpoint: {problem}", "Ask for the file that `lossbook checkpoint make` wrote"
    )
