"""Parameters: ranges, and one encoding only."""

from __future__ import annotations

import msgspec
import pytest

from ledger.parameters import PARAMETERS, CurrencyRule, ParameterError, Parameters, ParametersRecord


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
    assert ParametersRecord.__struct_fields__ == Parameters.__struct_fields__
