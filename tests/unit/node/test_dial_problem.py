"""Why a peer is not reached, in words, on real connections."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from crypto import tls
from lossbook.v1 import peer_pb2_grpc
from node.mailbox import Mailbox
from node.metrics import Metrics
from node.peers import Link, PeerServicer
from services.dial_problem import Problem, problem_of
from services.identity import Identity
from tests.support.insurers import INSURERS, Organisation
from tests.support.tls import LEAF_TIME, identity, market_members, serving

ALPHA, BETA, GAMMA = INSURERS[:3]
STRANGER = Organisation(ALPHA.id, "insurer")
STRANGER.ledger_key = Organisation("stranger", "insurer").ledger_key


async def first_problem(caller: Organisation, address: str) -> Problem:
    """What the link of this caller's node to BETA says first."""
    link = Link(BETA.id, address, identity(caller), Mailbox(), Metrics())
    noted: asyncio.Future[Problem] = asyncio.get_running_loop().create_future()
    link._note = lambda problem: noted.set_result(problem)  # type: ignore[method-assign]
    dialling = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(20):
            return await noted
    finally:
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)


def dialled(caller: Organisation, listens: Organisation = BETA, of: Identity | None = None) -> tuple[Problem, str]:
    async def main() -> tuple[Problem, str]:
        servicer = PeerServicer({GAMMA.id}, Mailbox(), Metrics())
        registration = ("lossbook.v1.PeerService", peer_pb2_grpc.add_PeerServiceServicer_to_server, servicer)
        async with serving(listens, registration, of=of) as (address, _):
            return await first_problem(caller, address), address

    return asyncio.run(main())


def test_where_nobody_listens_the_address_is_named() -> None:
    problem = asyncio.run(first_problem(ALPHA, "127.0.0.1:9"))  # the discard port
    assert problem == Problem("nothing listens at 127.0.0.1:9")


def test_a_node_whose_ledger_key_the_peer_does_not_know_is_turned_away() -> None:
    problem, address = dialled(STRANGER)
    assert problem == Problem(f"{address} hangs up as soon as it sees this daemon's certificate", turns_away=True)


def test_another_one_at_the_peers_address_is_told_as_such() -> None:
    problem, address = dialled(ALPHA, GAMMA)
    assert problem == Problem(f"{address} shows a certificate of another ledger key than that on the card of {BETA.id}")


@pytest.mark.parametrize(
    ("issued", "problem"),
    [
        (-timedelta(days=3), "the certificate that {} shows has ended: a restart there renews it"),
        (timedelta(days=3), "the certificate that {} shows is not valid yet: compare the clocks"),
    ],
)
def test_a_certificate_out_of_its_time_is_told_as_that(issued: timedelta, problem: str) -> None:
    leaf, key = tls.issue_leaf(BETA.ledger_key, BETA.id, "node", LEAF_TIME + issued, timedelta(days=1))
    found, address = dialled(ALPHA, of=Identity(BETA.id, leaf, key, market_members()))
    assert found == Problem(problem.format(address))


def test_what_the_peer_says_is_passed_on() -> None:
    problem, _ = dialled(ALPHA)
    assert problem == Problem(f"PERMISSION_DENIED: {ALPHA.id} runs no other node of this network")


@pytest.mark.parametrize(
    ("code", "details", "problem"),
    [
        (
            grpc.StatusCode.UNAUTHENTICATED,
            "the leaf of alpha: its ledger key did not sign it",
            Problem(
                "it refuses this daemon's certificate: the leaf of alpha: its ledger key did not sign it",
                turns_away=True,
            ),
        ),
        (
            grpc.StatusCode.UNAVAILABLE,
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.9:7100: No route to host",
            Problem("UNAVAILABLE: UNKNOWN: ipv4:10.0.0.9:7100: No route to host"),
        ),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", Problem("UNAVAILABLE: Socket closed")),
    ],
)
def test_a_stream_that_stood_and_ended_is_no_refusal(code: grpc.StatusCode, details: str, problem: Problem) -> None:
    assert problem_of(BETA.id, "10.0.0.9:7100", code, details) == problem


class Painter:
    """A hostile peer that writes on the terminal of whoever reads why it is not reached."""

    async def Exchange(self, request_iterator: Any, context: Any) -> None:  # noqa: N802
        await context.abort(grpc.StatusCode.ABORTED, "busy\x1b[2J\n\n* The disk is full.\n  Next: Delete it. \u202e")


def test_invalid_a_peers_words_stay_on_their_line_and_steer_no_terminal() -> None:
    async def main() -> Problem:
        registration = ("lossbook.v1.PeerService", peer_pb2_grpc.add_PeerServiceServicer_to_server, Painter())
        async with serving(BETA, registration) as (address, _):
            return await first_problem(ALPHA, address)

    assert asyncio.run(main()).text == "ABORTED: busy [2J  * The disk is full.   Next: Delete it.  "
    assert len(problem_of(BETA.id, "beta:1", grpc.StatusCode.ABORTED, "a" * 100_000).text) < 2_000
