"""Parameters: ranges, and one encoding only."""

from __future__ import annotations

import msgspec
import pytest

from ledger.invariant import InvariantViolated
from ledger.parameters import (
    PARAMETERS,
    CurrencyRule,
    ParameterError,
    Parameters,
    ParametersRecord,
    activation_key,
    parameters_at,
)
from ledger.state import State
from store.memory import MemoryStateStore


def test_the_defaults_are_valid() -> None:
    Parameters().check()


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("verification", "some"),
        ("verification", "attested"),
        ("state_scheme", 2),
        ("k_max", 1),
        ("k_max", 1001),
        ("max_ahead_ms", 0),
        ("max_ahead_ms", 1 << 62),
        ("block_bytes_max", 1000),
        ("block_bytes_max", 1 << 40),
        ("batch_bytes_max", 0),
        ("batch_bytes_max", 1 << 30),
        ("block_interval_ms", -1),
        ("currencies", {}),
        ("currencies", {"XXX": CurrencyRule(2, 1)}),
        ("currencies", {"USD": CurrencyRule(3, 1)}),
        ("currencies", {"USD": CurrencyRule(2, -1)}),
        ("currencies", {"USD": CurrencyRule(2, 1 << 60)}),
    ],
)
def test_invalid_parameters_are_named(parameter: str, value: object) -> None:
    with pytest.raises(ParameterError) as caught:
        msgspec.structs.replace(Parameters(), **{parameter: value}).check()
    assert caught.value.parameter == parameter


def test_the_record_does_not_depend_on_the_order_of_currencies() -> None:
    one = Parameters({"USD": CurrencyRule(2, 5), "JPY": CurrencyRule(0, 7)})
    other = Parameters({"JPY": CurrencyRule(0, 7), "USD": CurrencyRule(2, 5)})
    encoded = PARAMETERS.encode(ParametersRecord.from_parameters(one))
    assert encoded == PARAMETERS.encode(ParametersRecord.from_parameters(other))
    assert PARAMETERS.decode(encoded).parameters() == one


def test_the_record_has_every_parameter_in_its_order() -> None:
    assert ParametersRecord.__struct_fields__[1:] == Parameters.__struct_fields__


def _scheduled() -> State:
    """k_max 20 from the genesis, 30 from height 100 (decided at 40), 50 from height 120 (decided at 90)."""
    state = State.open(MemoryStateStore())
    for active, approved, k_max in ((0, 0, 20), (100, 40, 30), (120, 90, 50)):
        record = ParametersRecord.from_parameters(Parameters(k_max=k_max), approved)
        state.put(PARAMETERS, activation_key(active), record)
    return state


@pytest.mark.parametrize(
    ("height", "parent_state_height", "k_max"),
    [
        (1, 0, 20),
        (99, 98, 20),
        (100, 39, 20),  # the branch has not executed the decision yet
        (100, 40, 30),
        (119, 118, 30),
        (120, 89, 30),
        (120, 90, 50),
        (1 << 40, 1 << 39, 50),
    ],
)
def test_parameters_are_a_function_of_height_and_the_parents_state(
    height: int, parent_state_height: int, k_max: int
) -> None:
    assert parameters_at(_scheduled(), height, parent_state_height).k_max == k_max


def test_invalid_a_state_without_genesis_has_no_parameters() -> None:
    with pytest.raises(InvariantViolated):
        parameters_at(State.open(MemoryStateStore()), 1, 0)
