"""Mutants of the rules that batches, blocks, state and disks add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ledger import wellformed
from ledger.codes import Code
from ledger.execution import REPLAYS, Execution
from node import opening
from node.branches import Branches
from node.building import Builder
from node.dissemination import Dissemination
from node.holders import Holders
from node.origin import Origin
from node.validator import Validator
from simulator import cluster
from simulator.mutants.planting import Mutant, seeds
from simulator.mutants.scripts import (
    back_by_a_snapshot,
    bits_flip,
    destroyed_after_a_restart,
    restored_while_others_are_away,
)
from store import votelog_opening


def _returns(value: Any) -> Callable[[Any], Any]:
    return lambda original: lambda *arguments, **named: value


def _votes_logged_a_turn_late(original: Callable[..., Any]) -> Callable[..., Any]:
    def take_turn(self: Any) -> Any:
        turn = original(self)
        late = self.__dict__.get("late_records", [])
        self.__dict__["late_records"] = turn.vote_records
        turn.vote_records = late
        return turn

    return take_turn


def _unsynced(original: Callable[..., Any]) -> Callable[..., Any]:
    def take_turn(self: Any) -> Any:
        turn = original(self)
        turn.sync_blocks = False
        return turn

    return take_turn


def _held_by_f(original: Callable[..., bool]) -> Callable[..., bool]:
    return lambda self, known, now: known.ackers.bit_count() >= self._validators.f


def _replays_forgotten(original: Callable[..., Any]) -> Callable[..., Any]:
    def admit(self: Any, envelope: Any, position: int) -> Any:
        code, found = original(self, envelope, position)
        return (Code.OK, 0) if code is Code.REPLAYED else (code, found)

    return admit


def _snapshot_without_replays(original: Callable[..., Any]) -> Callable[..., Any]:
    """What has come in holds every record but the ids of envelopes that were executed before."""

    def install(*arguments: Any, **named: Any) -> Any:
        state = original(*arguments, **named)
        get, left_out = state.get, {key for key, _ in state.iterate(REPLAYS)}
        state.get = lambda table, key: None if table is REPLAYS and key in left_out else get(table, key)
        return state

    return install


def _no_empty_block_for_a_root(original: Callable[..., bool]) -> Callable[..., bool]:
    def due(self: Any, parent: Any, now: Any) -> bool:
        return bool(now.wall_ms - parent.header.timestamp_ms >= self._heartbeat_ms)

    return due


def _no_heartbeat(original: Callable[..., bool]) -> Callable[..., bool]:
    def due(self: Any, parent: Any, now: Any) -> bool:
        work = self._work_height(parent)
        return bool(work > parent.header.state_height and self._executed.height >= work)

    return due


def _signatures_uncounted(original: Callable[..., Code]) -> Callable[..., Code]:
    def structure(envelope: Any, chain_id: bytes) -> Code:
        code = original(envelope, chain_id)
        return Code.OK if code is Code.MISSING_SIGNATURE else code

    return structure


def _jobs_of_those_that_signed(original: Callable[..., Any]) -> Callable[..., Any]:
    def signature_jobs(envelope: Any) -> Any:
        present = len(envelope.signatures)
        return original(msgspec.structs.replace(envelope, signer_keys=envelope.signer_keys[:present]))

    return signature_jobs


def _acks_not_logged(original: Callable[..., Any]) -> Callable[..., Any]:
    def advance(self: Any, origin: str, turn: Any) -> None:
        records = list(turn.vote_records)
        original(self, origin, turn)
        turn.vote_records = records

    return advance


def _on_executed_heads(original: Callable[..., None]) -> Callable[..., None]:
    """What a batch extends is looked up in the latest state, not on the block's branch."""

    def work_out(self: Any, node: Any) -> None:
        parent = self._tree.get(node.header.parent_digest)
        if parent is None or parent.heads is None:
            return
        of_branch, parent.heads = parent.heads, dict(self._batches.executed)
        try:
            original(self, node)
        finally:
            parent.heads = of_branch

    return work_out


MUTANTS = (
    Mutant("vote-before-sync", "§5", ((Validator, "take_turn", _votes_logged_a_turn_late),), seeds(2)),
    Mutant("ack-before-sync", "ledger, batches", ((Validator, "take_turn", _unsynced),), seeds(1)),
    Mutant(
        "listed-with-f-acks",
        "ledger, listing",
        ((Holders, "_held", _held_by_f),),
        seeds(1),
        ("serves-few", "false-acker"),
    ),
    Mutant("root-unchecked", "R4, state root", ((Branches, "roots_agree", _returns(True)),), seeds(2), ("root-liar",)),
    Mutant("replay-ids-forgotten", "ledger, envelope", ((Execution, "_admit", _replays_forgotten),), seeds(1)),
    Mutant(
        "replay-ids-not-in-the-snapshot",
        "ledger, state",
        ((opening, "install", _snapshot_without_replays),),
        seeds(1),
        script=back_by_a_snapshot,
    ),
    Mutant(
        "stripped-co-signature-accepted",
        "ledger, envelope",
        ((wellformed, "structure", _signatures_uncounted), (cluster, "signature_jobs", _jobs_of_those_that_signed)),
        seeds(2),
        ("stripper",),
    ),
    Mutant(
        "acked-head-not-logged",
        "ledger, acks",
        ((Dissemination, "_advance", _acks_not_logged),),
        seeds(4),
        ("two-batches",),
    ),
    Mutant(
        "promised-before-listed",
        "I14, incarnations",
        # And the rule that makes this one rarely needed: who waits leaves nothing beside the chain, unless it forgot.
        ((Origin, "_may_promise", lambda original: property(lambda self: True)), (Origin, "_waits", _returns(False))),
        seeds(2, 11, 34, 37, 41, 53),
        script=restored_while_others_are_away,
    ),
    Mutant(
        "made-anew-before-listed",
        "I14, incarnations",
        ((Origin, "_waits", _returns(False)),),
        seeds(1),
        script=destroyed_after_a_restart,
    ),
    Mutant("validity-from-the-latest-state", "R4", ((Branches, "_work_out", _on_executed_heads),), seeds(1)),
    Mutant(
        "blocks-without-work",
        "R12",
        ((Builder, "_empty_block_due", _returns(True)), (Builder, "work_pending", _returns(True))),
        seeds(1),
    ),
    Mutant("no-heartbeat", "R12 c", ((Builder, "_empty_block_due", _no_heartbeat),), seeds(1)),
    Mutant(
        "damaged-log-cut-short",
        "§5",
        ((votelog_opening, "_check_end", _returns(None)),),
        seeds(1),
        script=bits_flip,
    ),
    Mutant(
        "idle-without-certified-root", "R12 b", ((Builder, "_empty_block_due", _no_empty_block_for_a_root),), seeds(1)
    ),
)
