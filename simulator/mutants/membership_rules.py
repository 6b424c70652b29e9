"""Mutants of the rules by which the set of validators changes (docs/consensus.md; ADR 0027)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from consensus.effects import RemoveBackupMarker
from consensus.types import ValidatorSet
from contracts.governance import voting
from contracts.governance.records import Ballot, ProposalState
from node.epoch import Epoch, HeldKeys
from node.holders import Holders
from node.validator import Validator
from simulator.mutants.planting import Mutant, seeds
from simulator.mutants.scripts import a_copy_of_an_observer, sets_change


def _by_half(original: Callable[..., ProposalState]) -> Callable[..., ProposalState]:
    def outcome(
        members: Sequence[str], ballots: Sequence[Ballot], consents: Sequence[Ballot], asks_consent: bool
    ) -> ProposalState:
        for_it = {ballot.organisation for ballot in ballots if ballot.approve}
        passed = 2 * len(for_it) > len(members)
        return ProposalState.PASSED if passed else original(members, ballots, consents, asks_consent)

    return outcome


def _of_the_first_set(original: property) -> property:
    """Q of four, whatever the set has become."""
    return property(lambda self: min(3, self.n))


def _nothing_forgotten(original: Callable[..., None]) -> Callable[..., None]:
    def enter(self: Any, epoch: Epoch) -> None:
        self._epoch = epoch
        self._validators = epoch.validators

    return enter


def _of_the_epoch_before(original: Callable[..., Any]) -> Callable[..., Any]:
    def sign_for(self: Any, epoch: int, public_key: bytes) -> Any:
        before = self._made.get(epoch - 1)
        return original(self, epoch, before if before is not None and public_key else public_key)

    return sign_for


def _marker_of_one_epoch(original: Callable[..., None]) -> Callable[..., None]:
    """The first answers are believed to speak for every epoch, and an observer believes that it needs none."""

    def carry_out(self: Any, effect: Any, of: Any) -> None:
        original(self, effect, of)
        if isinstance(effect, RemoveBackupMarker):
            self._restored, self._turn.remove_backup_marker = False, True

    return carry_out


MUTANTS = (
    Mutant("set-changed-by-half", "§9", ((voting, "outcome", _by_half),), seeds(1), script=sets_change),
    Mutant(
        "quorum-of-the-first-set", "§9", ((ValidatorSet, "quorum", _of_the_first_set),), seeds(1), script=sets_change
    ),
    Mutant(
        "acks-outlive-their-epoch",
        "§9",
        ((Holders, "enter", _nothing_forgotten),),
        seeds(3, 4, 7, 8),
        script=sets_change,
    ),
    Mutant(
        "key-of-the-epoch-before", "§9", ((HeldKeys, "sign_for", _of_the_epoch_before),), seeds(1), script=sets_change
    ),
    Mutant(
        "marker-of-one-epoch",
        "§5, §9",
        ((Validator, "_carry_out", _marker_of_one_epoch),),
        seeds(4, 2, 3),
        script=a_copy_of_an_observer,
    ),
)
