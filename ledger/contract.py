"""What execution hands a contract, and how a contract refuses: the seam between ledger and contracts.

A contract is a function ``handler(operation, context)``. It reads and writes through
``context.view``, raises ``Refused`` with a code where a guard says no, and returns nothing. Left
out on purpose: clock, randomness, network, files; whatever a contract may know is in the context,
so every node decides alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ledger.codes import Code
from ledger.organisations import Kind, Role
from ledger.parameters import Parameters
from ledger.state import StateView

DAY_MS: Final = 86_400_000


class Refused(Exception):
    """An operation the contract refuses; nothing it wrote remains.

    Attributes:
        code: what the receipt will say.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class Authority(msgspec.Struct, frozen=True, gc=False):
    """Who signed an envelope: registered keys, all of one organisation."""

    organisation: str
    kind: int
    """``Kind`` of the organisation."""
    roles: tuple[int, ...]
    """``Role`` bits of each signer key, in the envelope's order; the keys are all different."""
    keys: tuple[bytes, ...] = ()
    """The signer keys, in the same order."""

    def count(self, role: Role) -> int:
        """How many distinct signer keys hold the role."""
        return sum(1 for bits in self.roles if bits & role)

    def holders(self, role: Role) -> tuple[bytes, ...]:
        """The signer keys that hold the role."""
        return tuple(key for key, bits in zip(self.keys, self.roles, strict=True) if bits & role)

    def require_kind(self, kind: Kind) -> None:
        """Refuse (WRONG_KIND) unless the organisation is of this kind."""
        if self.kind != kind:
            raise Refused(Code.WRONG_KIND)

    def require(self, roles: Role) -> None:
        """Refuse (WRONG_ROLE) unless some signer key holds one of the roles."""
        for bits in self.roles:
            if bits & roles:
                return
        raise Refused(Code.WRONG_ROLE)

    def require_two(self, role: Role) -> None:
        """Refuse unless two distinct signer keys hold the role (FOUR_EYES_REQUIRED; WRONG_ROLE if none does)."""
        self.require(role)
        if self.count(role) < 2:
            raise Refused(Code.FOUR_EYES_REQUIRED)


class Context:
    """The block and envelope an operation belongs to, and what the contract may do."""

    __slots__ = (
        "authority",
        "chain_id",
        "events",
        "height",
        "index",
        "operation",
        "parameters",
        "time_ms",
        "today_days",
        "view",
    )

    def __init__(self, view: StateView, parameters: Parameters, height: int, time_ms: int) -> None:
        self.view = view
        self.parameters = parameters
        """Active at this height."""
        self.height = height
        """Of the block being executed."""
        self.time_ms = time_ms
        """Block time, milliseconds since 1970-01-01 UTC."""
        self.today_days = time_ms // DAY_MS
        """The block's date in UTC, days since 1970-01-01; asserted dates may not lie after it."""
        self.authority = NOBODY
        """Who signed the envelope."""
        self.chain_id = b""
        """Of the envelope, and so of this network: an envelope of another is ill-formed."""
        self.index = 0
        """Place of the envelope in the block."""
        self.operation = 0
        """Place of the operation in the envelope."""
        self.events: list[msgspec.Struct] = []
        """Records as they now stand, for projections; those of refused operations are taken back."""

    def emit(self, record: msgspec.Struct) -> None:
        """Tell projections that this record now stands."""
        self.events.append(record)


NOBODY: Final = Authority("", 0, ())

Handler = Callable[[Any, Context], None]
"""One operation of a contract; its first argument is the operation type it is registered for."""

Contracts = Mapping[type, Handler]
"""Operation type -> handler. A type that is missing executes as UNKNOWN_OPERATION."""
