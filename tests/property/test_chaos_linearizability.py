"""The checker against brute force, and against histories made from a known order."""

from __future__ import annotations

import random
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.claim_model import ABSENT, Answer, Claim, Kind, Request, apply
from chaos.linearizability import Operation, check

pytestmark = pytest.mark.property

ClaimOperation = Operation[Request, Answer]

REQUESTS = st.builds(
    Request,
    st.sampled_from([kind for kind in Kind if kind is not Kind.READ]),
    st.integers(0, 3),
)


def brute_force(operations: list[ClaimOperation]) -> bool:
    """Some order of all returned and some of the other operations, that keeps real time and explains all answers."""
    known = [operation for operation in operations if operation.returned is not None]
    open_ = [operation for operation in operations if operation.returned is None]
    for size in range(len(open_) + 1):
        for chosen in combinations(open_, size):
            if any(explains(order) for order in permutations([*known, *chosen])):
                return True
    return False


def explains(order: tuple[ClaimOperation, ...]) -> bool:
    state = ABSENT
    for at, operation in enumerate(order):
        if any(later.returned is not None and later.returned < operation.invoked for later in order[at + 1 :]):
            return False
        state, answer = apply(state, operation.input)
        if operation.output is not None and answer != operation.output:
            return False
    return True


@st.composite
def any_history(draw: st.DrawFn) -> list[ClaimOperation]:
    """Up to six operations with answers that are often right and sometimes not."""
    history: list[ClaimOperation] = []
    state = ABSENT
    for at in range(draw(st.integers(0, 6))):
        request = draw(REQUESTS)
        invoked = draw(st.integers(0, 8))
        returned = draw(st.none() | st.integers(invoked, 10))
        if draw(st.booleans()):
            state, answer = apply(state, request)
        else:
            _, answer = apply(Claim(draw(st.sampled_from(list(type(state.stage)))), 2), request)
        history.append(Operation(at, invoked, returned, request, None if returned is None else answer))
    return history


@given(any_history())
@settings(max_examples=400, deadline=None)
def test_the_checker_says_what_brute_force_says(history: list[ClaimOperation]) -> None:
    assert check(history, ABSENT, apply).linearizable == brute_force(history)


@st.composite
def good_history(draw: st.DrawFn) -> list[ClaimOperation]:
    """Operations that took effect at instants 10, 20, 30 ..., each reaching from before its instant to after it."""
    history: list[ClaimOperation] = []
    state = ABSENT
    for at, request in enumerate(draw(st.lists(REQUESTS, max_size=40))):
        instant = 10 * (at + 1)
        state, answer = apply(state, request)
        lost = draw(st.integers(0, 9)) == 0
        invoked = instant - draw(st.integers(0, 60))
        returned = None if lost else instant + draw(st.integers(0, 60))
        history.append(Operation(at, invoked, returned, request, None if lost else answer))
    return history


@given(good_history(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_history_with_instants_is_linearizable_in_any_order_of_its_list(
    history: list[ClaimOperation], shuffled: random.Random
) -> None:
    shuffled.shuffle(history)
    assert check(history, ABSENT, apply).linearizable


@given(good_history())
@settings(max_examples=200, deadline=None)
def test_two_notifications_that_both_took_effect_are_never_linearizable(history: list[ClaimOperation]) -> None:
    twice: list[ClaimOperation] = [Operation(1000 + at, 0, 5_000, Request(Kind.NOTIFY), (0,)) for at in range(2)]
    assert not check([*history, *twice], ABSENT, apply).linearizable
