"""Keeps the consensus keys of a running node: the next epoch's is made early, those of epochs that are over destroyed.

What is to be done is decided from executed state (``due``, pure) and done beside the turn loop: guessing at a
passphrase is made slow on purpose, and so is its right use. A key is durable before the validator hears of it, so the
registration that it then sends never names a key that a crash could take away. Keys of an epoch go once the first
block of the next one is executed: the epoch cannot be needed any more, and could be forged with them later
(consensus.md §9).

What fails (a full disk) is told in ``problem``, tried again after ``RETRY_S``, and ends nothing: a node without a key
of the next epoch keeps its seat, and signs in the present one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec

from crypto.keyfile import KeyFileError
from ledger.epochs import find_epoch, membership
from ledger.key_statements import awaits_key
from ledger.registrations import NODE_KEYS, registered_key
from ledger.state import State, StateView
from node.keys import KeyFiles
from services.logs import get_logger
from services.tasks import Tasks

RETRY_S: Final = 5.0

_log = get_logger("keys")


class Due(msgspec.Struct, frozen=True):
    """What is to be done with the key files."""

    make: int | None = None
    """Epoch for which a key is to be made."""
    over: int = 0
    """Keys of epochs below are to be destroyed."""
    used: frozenset[bytes] = frozenset()
    """Public keys that were registered for such epochs, whatever their files are called."""


def due(view: StateView, height: int, organisation: str, keys: KeyFiles) -> Due:
    """What executed state asks for.

    Args:
        view: executed state.
        height: last executed height.
        organisation: whose node it is.
        keys: what it has.
    """
    make = awaits_key(view, organisation)
    if make is not None and (keys.made_for(make) is not None or keys.has(registered_key(view, organisation, make))):
        make = None
    epoch = membership(view).epoch
    began = find_epoch(view, epoch)
    over = epoch if began is not None and height >= began.first_height else max(0, epoch - 1)
    used = frozenset(public for public in keys.public_keys if _is_before(view, public, over))
    return Due(make, over, used)


def _is_before(view: StateView, public: bytes, epoch: int) -> bool:
    record = view.get(NODE_KEYS, public)
    return record is not None and record.epoch is not None and record.epoch < epoch


class KeyKeeper:
    """See the module text.

    Args:
        organisation: whose node it is.
        keys: its key files.
        state: executed state.
        tasks: where the work runs.
        on_made: told that the validator has a new key to register.
        clock_s: monotonic seconds.
    """

    def __init__(
        self,
        *,
        organisation: str,
        keys: KeyFiles,
        state: State,
        tasks: Tasks,
        on_made: Callable[[], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._organisation = organisation
        self._keys = keys
        self._state = state
        self._tasks = tasks
        self._on_made = on_made
        self._clock_s = clock_s
        self._works = False
        self._not_before_s = 0.0
        self._seen_height: int | None = None
        self.problem = ""
        """Why a key could not be made or destroyed; empty where none had to, or could."""

    def settle(self) -> None:
        """Look at the state and begin what is due; cheap where nothing is."""
        height = self._state.height
        if self._works or self._clock_s() < self._not_before_s or height == self._seen_height:
            return
        found = due(self._state, height, self._organisation, self._keys)
        if found.make is None and not self._keys.over(found.over, found.used):
            self._seen_height = height
            self.problem = ""
            return
        self._works = True
        self._tasks.start(self._work(found), self._ended)

    def _ended(self) -> None:
        self._works = False

    async def _work(self, found: Due) -> None:
        try:
            if found.make is not None:
                await asyncio.to_thread(self._keys.key_for, found.make)
                _log.info("made the consensus key of the next epoch", epoch=found.make)
                self._on_made()
            gone = await asyncio.to_thread(self._keys.destroy_before, found.over, found.used)
        except (KeyFileError, OSError) as error:
            self._not_before_s = self._clock_s() + RETRY_S
            if str(error) != self.problem:
                _log.error("cannot keep the consensus keys", problem=str(error), again_after_s=RETRY_S)
            self.problem = str(error)
            return
        self.problem = ""
        for path in gone:
            _log.info("destroyed the consensus key of an epoch that is over", file=path.name)
