"""What a node says of itself: whether it is ready, and why not (gRPC health, /readyz, ``node status``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ledger.codes import Code
from node.diagnosis import Diagnosis
from node.facts import (
    CARD_REPLACED,
    CERTIFICATE_ENDS,
    DISK_FULL,
    DIVERGED,
    MUTED,
    NOT_LET_IN,
    STARTING,
    STORE_FAILED,
    TOO_FEW_PEERS,
    TOO_MANY_MUTED,
    TWIN,
)
from node.loop import TurnLoop
from node.neighbours import Neighbours
from node.reasons import reasons
from node.validator import Validator
from services.http import Check

BEHIND_S_MAX: Final = 5.0
"""A node that was level and falls behind for less than this stays ready: it catches up by itself."""

SIGNING: Final = "signing"
"""``consensus.status``: neither starting nor muted."""


class NodeStatus:
    """See the module text.

    Args:
        vote_problem: why there is no vote log; empty if there is one.
        neighbours: know whether the certificate in use is void.
        counters: of the running parts, for ``detail``.
    """

    def __init__(
        self,
        *,
        validator: Validator,
        loop: TurnLoop,
        vote_problem: str,
        neighbours: Neighbours,
        diagnosis: Diagnosis,
        counters: Callable[[], Mapping[str, object]],
    ) -> None:
        self._validator = validator
        self._loop = loop
        self._vote_problem = vote_problem
        self._neighbours = neighbours
        self._diagnosis = diagnosis
        self._counters = counters
        self._level_at = 0.0

    @property
    def ready(self) -> bool:
        """Whether this node takes envelopes."""
        if self._loop.failure or self._vote_problem or self._neighbours.replaced:
            return False
        now = time.monotonic()
        if self._validator.caught_up:
            self._level_at = now
        return self._level_at > 0 and now - self._level_at < BEHIND_S_MAX

    @property
    def votes(self) -> bool:
        """Whether this node has a seat, its key, and stores that work."""
        return self._validator.epoch.own is not None and not self._loop.failure

    def closed(self) -> Code | None:
        """Why no envelope is taken; None if it is."""
        if self._loop.error is not None or (self._validator.epoch.own is None and not self._validator.catching_up):
            return Code.NOT_VOTING
        return None if self.ready else Code.NOT_READY

    def checks(self) -> list[Check]:
        """The conditions of being ready, for /readyz, each with what is the case and what to do."""
        facts, validator = self._diagnosis.facts(), self._validator
        found = {reason.kind: f"{reason.text} {reason.next_step}" for reason in reasons(facts)}
        signing = facts.consensus.signing
        connected = sum(peer.connected for peer in facts.validators)
        needed = facts.consensus.quorum - facts.votes
        return [
            Check("store", not self._loop.failure, _first(found, DISK_FULL, STORE_FAILED) or "writes and syncs"),
            Check("vote-log", not self._vote_problem, self._vote_problem or "good"),
            Check(
                "certificate",
                not (text := _first(found, CARD_REPLACED, NOT_LET_IN)) and facts.certificate_days >= 0,
                text or found.get(CERTIFICATE_ENDS, "good"),
            ),
            Check(
                "peers",
                connected >= needed,
                f"{connected} of {len(facts.validators)} connected, {needed} needed. {found.get(TOO_FEW_PEERS, '')}",
            ),
            Check(
                "signing",
                signing == SIGNING and TWIN not in found,
                _first(found, TWIN, DIVERGED, STARTING, MUTED) or f"this node is {signing}",
            ),
            Check("quorum", TOO_MANY_MUTED not in found, found.get(TOO_MANY_MUTED, "enough validators may sign")),
            Check(
                "caught-up",
                validator.caught_up,
                f"executed {validator.executed_height}, final {validator.finalized_height}{_opening(validator)}",
            ),
        ]

    def detail(self) -> dict[str, object]:
        """Why there is or is not progress, for ``node status``."""
        facts = self._diagnosis.facts()
        return {
            **self._validator.status(),
            "ready": self.ready,
            "failure": self._loop.failure or self._vote_problem,
            "voting": self.votes,
            "peers": {peer.organisation: "connected" if peer.connected else peer.problem for peer in facts.peers},
            "offences": {peer.organisation: peer.offences for peer in facts.peers if peer.offences},
            "disk_free_bytes": facts.free_bytes,
            **self._counters(),
            "reasons": [msgspec.structs.asdict(reason) for reason in reasons(facts)],
        }


def _first(found: Mapping[str, str], *kinds: str) -> str:
    return next((found[kind] for kind in kinds if kind in found), "")


def _opening(validator: Validator) -> str:
    if validator.caught_up or validator.catching_up or validator.epoch.own is None:
        return ""
    return "; it makes batches once its peers have answered and what it made before its start is listed"
