"""Gathers the facts that ``node.reasons`` needs from the running parts of a daemon."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from consensus.events import Now
from node import clock
from node.assembly import Settings
from node.facts import Facts, PeerFacts, StoreFailure
from node.key_keeper import KeyKeeper
from node.loop import TurnLoop
from node.neighbours import Neighbours
from node.peers import Peers, PeerServicer
from node.validator import Validator
from store.errors import FailureKind, StoreFailed


class Diagnosis:
    """See the module text.

    Args:
        own: organisation id.
        observing: why there is no vote log; empty if there is one.
        keeper: of the consensus keys.
        neighbours: knows what is on the own card.
        certificate_ends: the one in use.
        home: where free space is asked for.
    """

    def __init__(
        self,
        *,
        own: str,
        validator: Validator,
        loop: TurnLoop,
        peers: Peers,
        servicer: PeerServicer,
        settings: Settings,
        observing: str,
        keeper: KeyKeeper,
        neighbours: Neighbours,
        certificate_ends: datetime,
        home: Path,
        now: Callable[[], Now] = clock.now,
    ) -> None:
        self._own = own
        self._validator = validator
        self._loop = loop
        self._peers = peers
        self._servicer = servicer
        self._settings = settings
        self._observing = observing
        self._keeper = keeper
        self._neighbours = neighbours
        self._certificate_ends = certificate_ends
        self._home = home
        self._now = now

    def facts(self) -> Facts:
        """What is known now."""
        validator, settings = self._validator, self._settings
        return Facts(
            own=self._own,
            members=[member.id for member in validator.epoch.validators.members],
            consensus=validator.consensus_status(),
            finalized_height=validator.finalized_height,
            executed_height=validator.executed_height,
            catching_up=validator.catching_up,
            snapshot=validator.snapshot,
            stalled_ms=validator.stalled_ms(self._now()),
            delay_ms=settings.delay_ms,
            heartbeat_ms=settings.heartbeat_ms,
            clock_delta_ms=settings.clock_delta_ms,
            peers=[self._peer(organisation) for organisation in self._peers.links],
            failure=_failure(self._loop.error),
            free_bytes=self.free_bytes(),
            observing=self._observing,
            key_problem=self._keeper.problem,
            card_replaced=self._neighbours.replaced,
            suspended=self._neighbours.suspended,
            certificate_days=(self._certificate_ends - datetime.now(UTC)).days,
            epoch_age_ms=validator.epoch_age_ms,
            divergence=validator.divergence,
            missing_batches=validator.missing_batches(),
            own_batches=validator.own_batches(),
        )

    def free_bytes(self) -> int | None:
        """On the file system of the home; None if it cannot be told."""
        try:
            return shutil.disk_usage(self._home).free
        except OSError:
            return None

    def _peer(self, organisation: str) -> PeerFacts:
        link, standing = self._peers.links[organisation], self._servicer.standing(organisation)
        return PeerFacts(
            organisation=link.organisation,
            connected=link.connected,
            problem=link.problem.text,
            offences=standing.offences,
            last_offence=standing.reason,
            ignored_s=standing.ignored_s,
            turns_away=link.problem.turns_away,
            speaks_of_a_twin=link.speaks_of_a_twin,
            twins=self._servicer.twins(organisation),
        )


def _failure(error: Exception | None) -> StoreFailure | None:
    if error is None:
        return None
    if not isinstance(error, StoreFailed):
        return StoreFailure(str(error), disk_full=False)
    return StoreFailure(error.what, error.kind is FailureKind.DISK_FULL)
