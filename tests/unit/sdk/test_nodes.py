"""Which node is asked next: preference, back-off, patience."""

from __future__ import annotations

import asyncio

import pytest

from lossbook_sdk.errors import NothingReachable
from lossbook_sdk.nodes import Backoff, Nodes
from lossbook_sdk.profile import Node
from lossbook_sdk.trust import Trust
from tests.support.gateways import PlainConnector
from tests.support.insurers import market_genesis

FIRST, SECOND = Node("insurer-1", "127.0.0.1:1"), Node("insurer-2", "127.0.0.1:2")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make(clock: Clock, *nodes: Node) -> Nodes:
    connector = PlainConnector(Trust(market_genesis()), b"", b"")
    return Nodes(connector, nodes, clock_s=clock, backoff=lambda: Backoff(1.0, 4.0, lambda _, most: most))


def test_preferred_node_comes_back_after_its_back_off() -> None:
    clock = Clock()
    nodes = make(clock, FIRST, SECOND)
    assert nodes.choose() == FIRST
    nodes.failed(FIRST, "down")
    assert nodes.choose() == SECOND
    clock.now_s += 1.0
    assert nodes.choose() == FIRST


def test_back_off_doubles_to_its_limit_and_starts_anew_after_success() -> None:
    clock = Clock()
    nodes = make(clock, FIRST)
    waits = []
    for _ in range(4):
        nodes.failed(FIRST, "down")
        waits.append(nodes.wait_s())
        clock.now_s += nodes.wait_s()
    assert waits == [1.0, 2.0, 4.0, 4.0]
    nodes.worked(FIRST)
    nodes.failed(FIRST, "down")
    assert nodes.wait_s() == 1.0


def test_jitter_stays_in_the_upper_half() -> None:
    backoff = Backoff(1.0, 1.0)
    assert all(0.5 <= backoff.next_s() <= 1.0 for _ in range(50))


def test_a_node_that_names_a_time_gets_it() -> None:
    nodes = make(Clock(), FIRST)
    nodes.failed(FIRST, "full", retry_after_s=9.0)
    assert nodes.wait_s() == 9.0


def test_waiting_beyond_the_callers_time_is_refused_at_once() -> None:
    nodes = make(Clock(), FIRST, SECOND)
    nodes.failed(FIRST, "down")
    nodes.failed(SECOND, "gone", retry_after_s=60.0)
    with pytest.raises(NothingReachable, match=r"down.*gone"):
        asyncio.run(nodes.ready(100.5))


def test_no_node_at_all_is_unreachable() -> None:
    with pytest.raises(NothingReachable, match="no node is configured"):
        asyncio.run(make(Clock()).ready(200.0))
