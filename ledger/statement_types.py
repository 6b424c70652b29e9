"""What every kind of statement is judged and executed with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from consensus.justification import HeaderRules
from consensus.ports import Verifier
from crypto import keys


class Ed25519:
    """Checks signatures here and now."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """See Verifier."""
        return keys.verify(public_key, message, signature)


class Judge(NamedTuple):
    """What decides whether a statement is true: the same for every node that judges a block of one branch."""

    rules_of: Callable[[int], HeaderRules | None]
    """By epoch: chain id, validators, genesis header; None where this branch does not know the epoch."""
    signatures: Verifier


class Moment(msgspec.Struct, frozen=True, gc=False):
    """The block that executes, or the last one executed."""

    height: int
    time_ms: int
    """Block time."""
    epoch: int
    view: int
