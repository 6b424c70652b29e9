"""Changes of network parameters: a new record from an activation height on."""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.codes import Code
from ledger.contract import Context, Refused
from ledger.operations import ParameterChange
from ledger.parameters import (
    ACTIVATION_MARGIN,
    NUMBER_PARAMETERS,
    PARAMETERS,
    CurrencyRule,
    ParameterError,
    Parameters,
    ParametersRecord,
    activation_key,
    latest_parameters,
)

ACTIVATION_AHEAD_MAX: Final = 1_000_000
"""Blocks: four months of heartbeats. A height typed wrong must not keep later changes, which come after it, away for
ever."""


class ParameterPlan(msgspec.Struct, frozen=True):
    """Parameters from a height on."""

    activation_height: int
    record: ParametersRecord

    def apply(self, context: Context) -> None:
        """See Plan."""
        context.view.put(PARAMETERS, activation_key(self.activation_height), self.record)


def plan_parameter_change(change: ParameterChange, context: Context) -> ParameterPlan:
    """Refuses BAD_CHANGE, BAD_PARAMETER, BAD_ACTIVATION. What is not named stays as the last decision left it."""
    last_height, last = latest_parameters(context.view)
    parameters = _changed(last, change)
    k_max = max(context.parameters.k_max, last.k_max, parameters.k_max)
    least = max(context.height + k_max + ACTIVATION_MARGIN, last_height + 1)
    if not least <= change.activation_height <= context.height + ACTIVATION_AHEAD_MAX:
        raise Refused(Code.BAD_ACTIVATION)
    return ParameterPlan(change.activation_height, ParametersRecord.from_parameters(parameters, context.height))


def _changed(before: Parameters, change: ParameterChange) -> Parameters:
    names = [number.name for number in change.numbers] + [currency.code for currency in change.currencies]
    if not (names or change.verification) or len(frozenset(names)) != len(names):
        raise Refused(Code.BAD_CHANGE)
    if any(number.name not in NUMBER_PARAMETERS for number in change.numbers):
        raise Refused(Code.BAD_PARAMETER)
    rules = {one.code: CurrencyRule(one.minor_digits, one.four_eyes_minor) for one in change.currencies}
    values: dict[str, object] = {number.name: number.value for number in change.numbers}
    values["currencies"] = before.currencies | rules
    if change.verification:
        values["verification"] = change.verification
    parameters = msgspec.structs.replace(before, **values)
    try:
        parameters.check()
    except ParameterError as error:
        raise Refused(Code.BAD_PARAMETER) from error
    return parameters
