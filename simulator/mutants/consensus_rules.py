"""Mutants of the rules in docs/consensus.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from consensus.helping import Helper
from consensus.justification import HeaderRules
from consensus.records import BuiltBlock, HeldCertificate, OwnVote, Record
from consensus.rounds import Round
from consensus.signer import Signer
from consensus.startup import StartUp
from consensus.state import State
from consensus.tally import Tally
from consensus.timers import Pacemaker
from consensus.types import Certificate, Target, ValidatorSet, Vote, VoteKind
from consensus.votes import VoteChecker, shape_problem, vote_message
from consensus.voting import Voter
from simulator.mutants.planting import Mutant, Patch, seeds
from simulator.mutants.scripts import away_for_long, restored_in_a_worse_storm

N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


# -- the last guard: a rule that ``signer`` repeats is only gone when it is gone there, too ------------


def _signs_anything(original: Callable[..., Vote]) -> Callable[..., Vote]:
    def sign(self: Any, kind: VoteKind, found: Round, target: Target) -> Vote:
        parent_view, digest = target
        message = vote_message(self._chain_id, kind, self._epoch, found.view, parent_view, digest)
        signature = self._signatures.sign(message)
        return Vote(kind, self._epoch, found.view, parent_view, digest, self.own_index or 0, signature)

    return sign


UNGUARDED: Patch = (Signer, "sign", _signs_anything)


def _blind_to_own(*kinds: VoteKind) -> Callable[[Any], Any]:
    """``State.own`` forgets these kinds while the wrapped rule runs."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def rule(self: Any, *arguments: Any) -> Any:
            state = self._s
            own = state.own
            state.own = lambda found, kind: None if kind in kinds else own(found, kind)
            try:
                return original(self, *arguments)
            finally:
                del state.own

        return rule

    return make


# -- restarts --------------------------------------------------------------------------------------------


def _without(forgotten: Callable[[Record], bool]) -> Callable[[Any], Any]:
    def make(original: Callable[..., None]) -> Callable[..., None]:
        def recover(self: Any, records: Iterable[Record]) -> None:
            original(self, [record for record in records if not forgotten(record)])

        return recover

    return make


def _is_own(kind: VoteKind) -> Callable[[Record], bool]:
    return lambda record: isinstance(record, OwnVote) and record.vote.kind is kind


def _own_or_built(record: Record) -> bool:
    return isinstance(record, BuiltBlock) or _is_own(N)(record)


def _is_finalization(record: Record) -> bool:
    return isinstance(record, HeldCertificate) and record.certificate.kind is F


def _returns(value: Any) -> Callable[[Any], Any]:
    return lambda original: lambda *arguments, **named: value


def _signs_at_once(original: Callable[..., int | None]) -> Callable[..., int]:
    return lambda self, reachable_view, own_highest_view: 0


# -- counting and checking ------------------------------------------------------------------------------


def _one_less(original: property) -> property:
    return property(lambda self: self.n - self.f - 1)


def _shape_only(original: Callable[..., str | None]) -> Callable[..., str | None]:
    return lambda self, voted, *rest: shape_problem(voted)


def _parent_only(original: Callable[..., str | None]) -> Callable[..., str | None]:
    def justification_problem(self: Any, header: Any, justification: Any, certificate_problem: Any) -> str | None:
        problem: str | None = self._parent_problem(header, justification.parent, certificate_problem)
        return problem

    return justification_problem


def _finalizes_what_it_did_not_notarize(original: Callable[..., None]) -> Callable[..., None]:
    def finalize(self: Any, found: Round) -> None:
        state, notarized = self._s, found.notarized
        if found.certified is None or notarized is None or notarized.digest != found.certified:
            return
        if found.view <= state.floor_view or not state.signer.may_sign(found.view):
            return
        if state.own(found, X) or state.own(found, F):
            return
        self._tally.cast(F, found, notarized.target)

    return finalize


def _view_by_view(original: Callable[..., None]) -> Callable[..., None]:
    def hold(self: Any, certificate: Certificate, formed: bool = False) -> None:
        if formed or certificate.view <= self._s.view:
            original(self, certificate, formed)

    return hold


def _without_own_f(original: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def latest(self: Any) -> list[Any]:
        return [each for each in original(self) if not (isinstance(each, Vote) and each.kind is F)]

    return latest


def _without_x_again(original: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def latest(self: Any) -> list[Any]:
        return [each for each in original(self) if not (isinstance(each, Vote) and each.kind is X)]

    return latest


MUTANTS = (
    Mutant("f-after-x", "R6, R7", ((Voter, "finalize", _blind_to_own(X)), UNGUARDED), seeds(2)),
    Mutant("n-twice", "R4", ((Voter, "notarize", _blind_to_own(N)), UNGUARDED), seeds(1)),
    Mutant("own-x-forgotten-on-restart", "§5", ((State, "recover", _without(_is_own(X))),), seeds(2)),
    Mutant("own-n-forgotten-on-restart", "§5", ((State, "recover", _without(_own_or_built)),), seeds(12)),
    Mutant("own-f-forgotten-on-restart", "§5", ((State, "recover", _without(_is_own(F))),), seeds(3)),
    Mutant("floor-forgotten-on-restart", "R9", ((State, "recover", _without(_is_finalization)),), seeds(1)),
    Mutant("quorum-off-by-one", "Q = n - f", ((ValidatorSet, "quorum", _one_less),), seeds(1)),
    Mutant("votes-unverified", "I8", ((VoteChecker, "vote_problem", _shape_only),), seeds(2), ("forger",)),
    Mutant(
        "certificates-unverified", "R10", ((VoteChecker, "certificate_problem", _shape_only),), seeds(2), ("forger",)
    ),
    Mutant(
        "skipped-views-unchecked",
        "R4, I7",
        ((HeaderRules, "justification_problem", _parent_only),),
        seeds(2),
        ("lying-leader",),
    ),
    Mutant(
        "f-for-another-block",
        "R6",
        ((Voter, "finalize", _finalizes_what_it_did_not_notarize), UNGUARDED),
        seeds(2),
        ("two-blocks", "twins"),
    ),
    Mutant("clock-unchecked", "R4", ((Voter, "_clock_agrees", _returns(True)),), seeds(2), ("antedater",)),
    Mutant("time-outs-never", "R7", ((Pacemaker, "due", _returns(False)),), seeds(5)),
    Mutant("start-up-query-unanswered", "§5", ((Helper, "on_start_query", _returns(None)),), seeds(1)),
    Mutant(
        "start-up-rule-ignored",
        "§5",
        ((StartUp, "bound", _signs_at_once),),
        seeds(1, 4, 7, 8, 9, 11, 15),
        script=restored_in_a_worse_storm,
    ),
    Mutant("view-jump", "R10", ((Tally, "hold", _view_by_view),), seeds(1), script=away_for_long),
    Mutant("f-never-resent", "R12", ((Helper, "_latest", _without_own_f),), seeds(2)),
    Mutant("x-never-resent", "R7", ((Helper, "_latest", _without_x_again),), seeds(1)),
)
