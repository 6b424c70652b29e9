"""What a validator states about its own keys, by itself, as soon as it can.

    early in an epoch           the key this node made for the next one, if its seat has registered none
    a change of the set passed  that it is ready, if it is in the next set, holds the key registered for it there, and
                                has caught up

Both are statements that the state says are owed (``ledger.key_statements``); they wait in the pool until they are
listed and executed, and are then owed no more.
"""

from __future__ import annotations

from typing import Protocol

from consensus.events import Now
from ledger.readiness import readiness_message
from ledger.registrations import possession_message, registration_message
from ledger.types import KeyRegistration, Readiness
from node.epoch import Epoch, Keyring
from node.statements import StatementPool
from node.turn import Turn


class OwedState(Protocol):
    """What executed state says that this organisation's node owes."""

    @property
    def height(self) -> int:
        """Last executed height."""

    def owes_registration(self, organisation: str) -> int | None:
        """Signer index under which its key of the next epoch is to be registered; None: it is, or cannot be now."""

    def owes_readiness(self, organisation: str, time_ms: int) -> tuple[bytes, bytes] | None:
        """(proposal id, registered key) of the change that waits for its readiness; None: none does."""


class Duties:
    """See the module text.

    Args:
        chain_id: genesis digest.
        organisation: whose node this is.
        keys: the consensus keys this node has.
        state: executed state.
        statements: where own statements go.
    """

    def __init__(
        self, *, chain_id: bytes, organisation: str, keys: Keyring, state: OwedState, statements: StatementPool
    ) -> None:
        self._chain_id = chain_id
        self._organisation = organisation
        self._keys = keys
        self._state = state
        self._statements = statements
        self._seen: tuple[int, bytes | None] | None = None  #: executed height and next key that were looked at

    def settle(self, epoch: Epoch, now: Now, turn: Turn) -> None:
        """State what is owed; looks at the state once for each executed block and each key made. The node has caught
        up: who lags is not ready, and does not know what it owes."""
        key = self._keys.made_for(epoch.number + 1)
        seen = (self._state.height, key)
        if seen == self._seen:
            return
        self._seen = seen
        self._register(epoch, key, turn)
        self._declare_ready(epoch, now, turn)

    def _register(self, epoch: Epoch, key: bytes | None, turn: Turn) -> None:
        if key is None or epoch.own is None or self._state.owes_registration(self._organisation) != epoch.own:
            return
        sign = self._keys.sign_for(epoch.number + 1, key)
        if sign is None:
            return
        parts = (self._chain_id, epoch.number + 1, self._organisation, key)
        signature, possession = epoch.sign(registration_message(*parts)), sign(possession_message(*parts))
        self._statements.found(KeyRegistration(epoch.number, epoch.own, key, signature, possession), turn)

    def _declare_ready(self, epoch: Epoch, now: Now, turn: Turn) -> None:
        owed = self._state.owes_readiness(self._organisation, now.wall_ms)
        if owed is None:
            return
        proposal_id, key = owed
        sign = self._keys.sign_for(epoch.number + 1, key)
        if sign is None:
            return  # registered, and not here: it is not ready
        signature = sign(readiness_message(self._chain_id, epoch.number, proposal_id, key))
        self._statements.found(Readiness(epoch.number, proposal_id, key, signature), turn)
