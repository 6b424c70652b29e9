"""Simplex as a pure state machine (interface first; the rules follow)."""

from __future__ import annotations

from collections.abc import Iterable

from consensus.config import Config
from consensus.effects import Effect
from consensus.events import Event, Now
from consensus.ports import Headers, Signatures
from consensus.records import Record
from consensus.status import Status
from consensus.types import Certificate, Header, ValidatorSet


class Core:
    """One validator's (or observer's) consensus in one epoch. Not thread-safe; one driver calls it."""

    @classmethod
    def restore(
        cls,
        config: Config,
        validators: ValidatorSet,
        own_index: int | None,
        genesis: Header,
        records: Iterable[Record],
        headers: Headers,
        signatures: Signatures,
        now: Now,
    ) -> Core:
        """The core as its records left it; no records: as at genesis. The first event has to be ``Started``.

        Args:
            own_index: signer index; None for an observer, which follows certificates and never signs.
            genesis: header of the epoch's genesis, view 0.
            records: the vote log, oldest first.
        """
        raise NotImplementedError

    def step(self, event: Event, now: Now) -> list[Effect]:
        """Take one event; ``effects`` says in which order to carry out what it returns."""
        raise NotImplementedError

    @property
    def deadline_ms(self) -> int | None:
        """Monotonic time at which the next ``Tick`` is due; None while nothing waits for time."""
        raise NotImplementedError

    @property
    def view(self) -> int:
        """The current view."""
        raise NotImplementedError

    @property
    def floor(self) -> Certificate | None:
        """Highest Finalization; None while only the genesis is final."""
        raise NotImplementedError

    def status(self) -> Status:
        """Where it stands, what it waits for."""
        raise NotImplementedError

    def live_records(self) -> list[Record]:
        """The records from which ``restore`` makes this state again: what a rewritten vote log has to hold."""
        raise NotImplementedError
