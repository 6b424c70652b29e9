"""The fuzzer's targets under pytest: all seeds, whatever was ever found, and seeds mutated at random.

The search guided by coverage is ``make fuzz``; ``.ci/run`` has a slice of it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import peer_wire
from tests.fuzz import targets
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.property

REGRESSIONS = Path(__file__).with_name("regressions")
EXAMPLES = {"validator": 15, "core": 60, "proof": 60, "genesis": 60}


@cache
def seeds(name: str) -> list[bytes]:
    return list(TARGETS[name].seeds())


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_holds(name: str) -> None:
    assert seeds(name)
    for raw in seeds(name):
        assert len(raw) <= TARGETS[name].bytes_max
        TARGETS[name].run(raw)


def test_what_was_found_once_is_not_found_again() -> None:
    """File names begin with the target's."""
    found = sorted(REGRESSIONS.glob("*-*"))
    assert found
    for path in found:
        TARGETS[path.name.partition("-")[0]].run(path.read_bytes())


def test_a_target_notices_an_error_that_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: bytes) -> object:
        raise ValueError("a bug")

    monkeypatch.setattr(targets, "DECODERS", (broken,))
    with pytest.raises(ValueError, match="a bug"):
        targets.run_wire(b"\x00bytes")
    monkeypatch.setattr(peer_wire, "decode_all", broken)
    for name in ("peer", "core", "validator"):
        with pytest.raises(ValueError, match="a bug"):
            TARGETS[name].run(seeds(name)[0])


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A seed with some stretches replaced, removed, doubled or taken from another seed."""
    raw = draw(st.sampled_from(seeds(name)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 40)))
        put = draw(
            st.binary(max_size=8)
            | st.just(raw[start:end] * 2)
            | st.sampled_from(seeds(name)).map(lambda other, at=start: other[at : at + 40])  # type: ignore[misc]
            | st.sampled_from([b"\x00", b"\x7f", b"\xff", b"\xff" * 9 + b"\x01", b"\x80" * 10])
        )
        raw = raw[:start] + put + raw[end:]
    return raw[: TARGETS[name].bytes_max]


@pytest.mark.parametrize("name", TARGETS)
def test_a_mutated_seed_holds_or_is_refused(name: str) -> None:
    @given(raw=mutated(name))
    @settings(max_examples=EXAMPLES.get(name, 300))
    def holds(raw: bytes) -> None:
        TARGETS[name].run(raw)

    holds()
