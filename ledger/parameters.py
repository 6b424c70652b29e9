"""Parameters of a network: set in genesis, a committed record of the state, the same on every node.

Validity of a block and the outcome of an operation may depend on these and on nothing local.
They are read from the state at the height a rule names, never from "latest".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from ledger.invariant import InvariantViolated
from ledger.money import AMOUNT_MINOR_MAX, MINOR_DIGITS
from ledger.state import StateView, Table
from ledger.types import BATCH_BYTES_MAX

VERIFICATIONS: Final = ("all",)  #: "attested" (f+1 CHECKED acks) is not built yet
STATE_SCHEMES: Final = (1,)

KIB: Final = 1 << 10
MIB: Final = 1 << 20
HOUR_MS: Final = 3_600_000

#: Parameter -> least and greatest value, and why these.
_RANGES: Final[dict[str, tuple[int, int, str]]] = {
    "k_max": (2, 1_000, "below 2 a block can wait for its own parent's execution; above 1000 proofs lag for minutes"),
    "max_ahead_ms": (60_000, 30 * 24 * HOUR_MS, "ids are remembered this long: it bounds the replay table"),
    "block_bytes_max": (BATCH_BYTES_MAX, 64 * MIB, "one batch always fits; a block still crosses a slow link in time"),
    "batch_bytes_max": (4 * KIB, BATCH_BYTES_MAX, "smaller wastes messages; larger exceeds the wire's own limit"),
    "block_interval_ms": (0, 10_000, "pacing under load; above 10 s it would be mistaken for an outage"),
}


class ParameterError(Exception):
    """A parameter that no network can run with.

    Attributes:
        parameter: its name.
        problem: what is wrong with it, and what would be right.
    """

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"parameter {parameter}: {problem}")
        self.parameter = parameter
        self.problem = problem


class CurrencyRule(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """How this network treats one currency."""

    minor_digits: int
    """Decimals of the currency (ISO 4217): USD 2, JPY 0."""
    four_eyes_minor: int
    """Approvals and payments strictly above this, in minor units, need two distinct keys with the role."""


def _usual_currencies() -> dict[str, CurrencyRule]:
    return {"EUR": CurrencyRule(2, 10_000_000), "USD": CurrencyRule(2, 10_000_000)}


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All network parameters; JSON object in genesis, msgpack array in the state.

    The defaults are for whoever assembles a genesis; a genesis file states every parameter.
    """

    currencies: dict[str, CurrencyRule] = msgspec.field(default_factory=_usual_currencies)
    """Allowed currencies, by ISO 4217 code."""
    verification: str = "all"
    """Who checks signatures (ledger.md): every validator checks every one."""
    k_max: int = 20
    """K: a block whose height exceeds its state_height by more than this lists no batch."""
    max_ahead_ms: int = 24 * HOUR_MS
    """An envelope whose not-after lies further ahead of block time is refused."""
    block_bytes_max: int = 4 * MIB
    """Bytes of the batches a block lists."""
    batch_bytes_max: int = 256 * KIB
    """An origin closes a batch at this size; a larger envelope makes a batch of its own."""
    block_interval_ms: int = 50
    """Least time between proposals under load; an idle network proposes at once."""
    state_scheme: int = 1
    """Which state commitment the headers carry."""

    def check(self) -> None:
        """Refuse what no network can run with.

        Raises:
            ParameterError: naming the parameter and its range.
        """
        if self.verification not in VERIFICATIONS:
            raise ParameterError("verification", f"{self.verification!r} is not one of {', '.join(VERIFICATIONS)}")
        if self.state_scheme not in STATE_SCHEMES:
            raise ParameterError("state_scheme", f"{self.state_scheme} is not one of {STATE_SCHEMES}")
        for name, (least, greatest, why) in _RANGES.items():
            if not least <= getattr(self, name) <= greatest:
                raise ParameterError(name, f"{getattr(self, name)} is outside {least} to {greatest} ({why})")
        if self.batch_bytes_max > self.block_bytes_max:
            raise ParameterError("batch_bytes_max", f"{self.batch_bytes_max} is above block_bytes_max")
        self._check_currencies()

    def _check_currencies(self) -> None:
        if not self.currencies:
            raise ParameterError("currencies", "at least one currency must be allowed")
        for code, rule in self.currencies.items():
            if code not in MINOR_DIGITS:
                raise ParameterError("currencies", f"{code!r} is not an active ISO 4217 code")
            if rule.minor_digits != MINOR_DIGITS[code]:
                raise ParameterError("currencies", f"{code} has {MINOR_DIGITS[code]} decimals, not {rule.minor_digits}")
            if not 0 <= rule.four_eyes_minor <= AMOUNT_MINOR_MAX:
                raise ParameterError("currencies", f"four_eyes_minor of {code} is outside 0 to {AMOUNT_MINOR_MAX}")


NUMBER_PARAMETERS: Final = (*_RANGES, "state_scheme")
"""Names of the parameters that are numbers."""


class ParametersRecord(msgspec.Struct, frozen=True, array_like=True):
    """Parameters from a height on; the map becomes an array in ascending order of the code, so there is one encoding
    only."""

    approved_height: int
    """Block whose execution decided them; 0 for those of the genesis."""
    currencies: tuple[tuple[str, int, int], ...]
    """(ISO 4217 code, minor digits, four-eyes amount in minor units), ascending by code."""
    verification: str
    k_max: int
    max_ahead_ms: int
    block_bytes_max: int
    batch_bytes_max: int
    block_interval_ms: int
    state_scheme: int

    @classmethod
    def from_parameters(cls, parameters: Parameters, approved_height: int = 0) -> ParametersRecord:
        """The record of these parameters."""
        currencies = tuple(
            (code, rule.minor_digits, rule.four_eyes_minor) for code, rule in sorted(parameters.currencies.items())
        )
        return cls(approved_height, currencies, *[getattr(parameters, name) for name in cls.__struct_fields__[2:]])

    def parameters(self) -> Parameters:
        """The parameters of this record; made once, as validators ask in every turn, so nobody may change them."""
        return _parameters_of(self)


@lru_cache(maxsize=16)
def _parameters_of(record: ParametersRecord) -> Parameters:
    currencies = {code: CurrencyRule(digits, four_eyes) for code, digits, four_eyes in record.currencies}
    return Parameters(currencies, *[getattr(record, name) for name in record.__struct_fields__[2:]])


PARAMETERS: Final = Table(0x03, ParametersRecord, "parameters")
"""Under the activation height, u64 big-endian; approved heights ascend with it. None is ever removed."""

ACTIVATION_MARGIN: Final = 20
"""Blocks between approval and activation beyond k_max: while batches are listed, every header's parent has executed
the approval by then, and operators have a few more blocks to see it."""


def activation_key(height: int) -> bytes:
    """Key of the parameters that are active from this height on."""
    return height.to_bytes(8, "big")


def parameters_at(view: StateView, height: int, parent_state_height: int) -> Parameters:
    """What a block of this height is judged by, whose parent's header carries this state height.

    The latest that were approved at or below ``parent_state_height`` and are active at ``height``: a function of the
    branch alone, whatever this node has executed beyond. A block is executed by those of
    ``parameters_at(state, height, height - 1)``.
    """
    found: ParametersRecord | None = None
    for key, record in view.iterate(PARAMETERS):
        if int.from_bytes(key, "big") > height or record.approved_height > parent_state_height:
            break
        found = record
    if found is None:
        raise InvariantViolated("the state has no parameters: it was not built from a genesis")
    return found.parameters()


def latest_parameters(view: StateView) -> tuple[int, Parameters]:
    """(activation height, parameters) of the last decision, active already or not."""
    found: tuple[int, ParametersRecord] | None = None
    for key, record in view.iterate(PARAMETERS):
        found = int.from_bytes(key, "big"), record
    if found is None:
        raise InvariantViolated("the state has no parameters: it was not built from a genesis")
    return found[0], found[1].parameters()
