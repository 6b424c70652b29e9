"""What a client knows of its network and need not be told: the genesis, and what was proved to it since.

    epochs    who votes in each epoch, with which keys: from the hand-overs that come with every proof, each verified
              once (``ledger.known_epochs``)
    cards     of organisations, as they stand under a certified root: who joined after the genesis, or changed its TLS
              authority or addresses
    time      of the newest block that was proved: past the trusting period a checkpoint is asked for, and one that was
              accepted (``lossbook_sdk.pins``) is where everything starts (``ledger.checkpoints``)

Nothing of it is ever taken on a node's word. It is kept in a file beside the profile, one for each network
(``lossbook_sdk.trust_file``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from ledger.cards import Card, GenesisError, card_of_record, check_card
from ledger.checkpoints import Checkpoint, check_age
from ledger.genesis import Genesis
from ledger.known_epochs import KnownEpochs
from ledger.organisations import CARDS
from ledger.proof_types import Proof
from ledger.proofs import Proven, verify_proof
from lossbook_sdk import trust_file
from lossbook_sdk.card_watch import CARD_RECENT_S
from lossbook_sdk.envelopes import now_ms
from lossbook_sdk.pins import pin_path, read_pin
from lossbook_sdk.profile import Profile
from lossbook_sdk.trust_file import Kept

SEEN_AGAIN_MS: Final = 3_600_000
"""How much newer a proof has to be for its block time to be written down: the trusting period counts days."""

FRESH: Final = (
    "Take a fresh checkpoint from your supervisor and f + 1 members: "
    "`lossbook checkpoint accept FILE --genesis GENESIS`. "
    "If nobody can have gathered old keys, raise trusting_period_days in the profile"
)

EPOCHS_BACK: Final = 1
"""A voucher may be of the epoch before the latest known: made when that ended. Keys of earlier ones are destroyed, or
should be, and nobody honest signs with them any more."""

_log = logging.getLogger(__name__)


class UnknownEpoch(Exception):
    """Something was signed in an epoch of which nothing was proved yet.

    Attributes:
        epoch: its number, as it was said.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__(f"epoch {epoch} was not proved yet")
        self.epoch = epoch


class Trust:
    """See the module text.

    Args:
        genesis: the anchor.
        path: where what is learned is kept; None: in memory only.
        checkpoint: the anchor from now on: nothing below it is believed.
        trusting_days: the trusting period; None: what is believed may be of any age.
        now_ms: own clock.

    Raises:
        ProfileError: the file is damaged or of another network.
        ConflictingHistory: what was learned before is of another history than the checkpoint.
    """

    def __init__(
        self,
        genesis: Genesis,
        path: Path | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        trusting_days: int | None = None,
        now_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.genesis = genesis
        self.known = KnownEpochs.of_genesis(genesis)
        self._path = path
        self._trusting_days = trusting_days
        self._now_ms = now_ms
        self._seen_ms = genesis.time_ms
        self._cards: dict[str, tuple[int, Card]] = {card.id: (0, card) for card in genesis.organisations}
        self._unusable: set[str] = set()  #: organisations whose newest card has a certificate that cannot be used
        self._own: set[str] = set()  #: organisations whose cards came from one's own home
        if path is not None and path.exists():
            kept = trust_file.read(path, self.known)
            self.known = kept.known
            for height, card in kept.cards.values():
                self._take(height, card)
            self._seen_ms = max(self._seen_ms, kept.seen_ms)
        if checkpoint is not None:
            self.known = self.known.above(checkpoint.body.height, checkpoint.digest, checkpoint.start)
            self._seen_ms = max(self._seen_ms, checkpoint.body.time_ms)

    @classmethod
    def of_profile(cls, profile: Profile) -> Self:
        """Of the profile's network, from the checkpoint this person accepted last; its file lies beside the profile.

        Raises:
            ProfileError, GenesisError, CheckpointError: a file cannot be used.
            ConflictingHistory: what was learned before is of another history than the checkpoint.
        """
        genesis = profile.load_genesis_of()
        path = profile.path.with_name(f"known-{genesis.chain_id.hex()[:16]}.json")
        pin = read_pin(pin_path(genesis.chain_id), genesis.chain_id)
        return cls(genesis, path, checkpoint=pin, trusting_days=profile.trusting_period_days)

    def believe(self, card: Card) -> None:
        """The card of one's own organisation, from one's own home: until one is proved as of now.

        An older state may be all that one's own daemon can prove, and the card in the home is newer than that.
        """
        height, _ = self._cards.get(card.id, (0, card))
        self._take(height, card)
        self._own.add(card.id)

    # -- asking ----------------------------------------------------------------------------------

    @property
    def latest_epoch(self) -> int:
        """The last epoch that was proved."""
        return self.known.latest.validators.epoch

    def card(self, organisation: str) -> Card | None:
        """The newest card that was proved; None for a stranger, and where its certificate cannot be used."""
        found = self._cards.get(organisation)
        return found[1] if found is not None and organisation not in self._unusable else None

    def validators(self) -> tuple[str, ...]:
        """Ids of the members of the latest epoch that was proved, in signer order."""
        return tuple(member.id for member in self.known.latest.validators.members)

    def cards_of_validators(self) -> tuple[Card, ...]:
        """Those of them whose cards are known."""
        return tuple(card for name in self.validators() if (card := self.card(name)) is not None)

    def validator_key(self, epoch: int, organisation: str) -> bytes:
        """The consensus key with which a validator vouches in this epoch; empty where it can in none that is current.

        Raises:
            UnknownEpoch: it is later than what was proved.
        """
        if epoch > self.latest_epoch:
            raise UnknownEpoch(epoch)
        start = self.known.starts.get(epoch)
        if start is None or epoch < self.latest_epoch - EPOCHS_BACK:
            return b""
        return next((member.public_key for member in start.validators.members if member.id == organisation), b"")

    # -- learning --------------------------------------------------------------------------------

    def verify(self, proof: Proof) -> Proven:
        """What a proof shows; the epochs it leads through are known from then on.

        Raises:
            ProofError: a subclass that names the part that failed.
            TrustingPeriodOver: what was proved last is too old to believe signatures of validators from there.
        """
        now = self._now_ms()
        if self._trusting_days is not None:
            check_age("what was proved here last", self._seen_ms, now, self._trusting_days, advice=FRESH)
        proven = verify_proof(proof, self.genesis, known=self.known)
        seen_ms = min(proven.header.timestamp_ms, now)
        learned = proven.known is not None and len(proven.known.starts) > len(self.known.starts)
        if proven.known is not None and learned:
            self.known = proven.known
        if learned or seen_ms >= self._seen_ms + SEEN_AGAIN_MS:
            self._seen_ms = max(self._seen_ms, seen_ms)
            self._save()
        return proven

    def is_recent(self, proven: Proven) -> bool:
        """Whether it is proved as of now: by a block of the last minute, by own clock."""
        return self._now_ms() - proven.header.timestamp_ms <= CARD_RECENT_S * 1000

    def learn_card(self, proven: Proven) -> bool:
        """Take in a record of the table of cards that was proved; whether it says something new.

        The ledger does not judge certificates (ADR 0027). Where that of a card cannot be used, nobody reaches its
        organisation, and nobody passes for it by the authority that it had before.
        """
        card = card_of_record(CARDS.decode(proven.value))
        height, _ = self._cards.get(card.id, (-1, card))
        if proven.key != CARDS.prefix + card.id.encode() or proven.header.state_height <= height:
            return False
        if card.id in self._own and not self.is_recent(proven):
            return False
        before = self.card(card.id)
        self._take(proven.header.state_height, card)
        after = self.card(card.id)
        if (before.text if before is not None else None) == (after.text if after is not None else None):
            return False
        self._save()
        return True

    def _take(self, height: int, card: Card) -> None:
        self._cards[card.id] = (height, card)
        self._unusable.discard(card.id)
        try:
            check_card(card)
        except GenesisError as error:
            _log.warning("%s", error)
            self._unusable.add(card.id)

    def _save(self) -> None:
        """Where nothing can be written, what is known lasts as long as the process."""
        if self._path is None:
            return
        learned = {name: pair for name, pair in self._cards.items() if pair[0]}
        try:
            trust_file.write(self._path, Kept(self.known, learned, self._seen_ms))
        except OSError as error:
            _log.warning("what was learned of the network is not kept: %s: %s", self._path, error.strerror)
