"""Why there is no progress, in the words of ``node status``: what a node knows becomes an ordered list of reasons.

Pure. Each reason says what is the case, with names, and the next step of whoever is on duty. The first one is what to
look at first: a later one is often only its consequence. The rules stand where they belong: ``node.reasons_own`` (this
node), ``node.reasons_network`` (between nodes), ``node.reasons_view`` (one view).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from node import reasons_network as network
from node import reasons_own as own
from node import reasons_view as view
from node.facts import Facts, Reason
from node.words import seconds


def reasons(facts: Facts) -> list[Reason]:
    """What stands in the way, what to look at first first. Never empty: with nothing in the way it says so."""
    found: list[Reason] = []
    for rule, ends in _RULES:
        reason = rule(facts)
        if reason is not None:
            found.append(reason)
            if ends:
                return found  # the node takes no part any more: what it last saw of the network is old
    return found or [_well(facts)]


def _well(facts: Facts) -> Reason:
    if facts.consensus.idle:
        return Reason(
            "idle",
            f"Nothing to do. The next block comes with the next transaction, or as the heartbeat every "
            f"{seconds(facts.heartbeat_ms)}.",
            "Nothing.",
        )
    return Reason("well", "Nothing stands in the way.", "Nothing.")


_RULES: Final[Sequence[tuple[Callable[[Facts], Reason | None], bool]]] = (
    (own.store_failed, True),
    (own.twin, True),
    (own.diverged, True),
    (network.too_many_muted, False),
    (own.observing, False),
    (own.no_seat, False),
    (own.no_key, False),
    (own.key_problem, False),
    (own.certificate_ends, False),
    (own.card_replaced, True),
    (network.not_let_in, True),
    (own.starting, False),
    (own.muted, False),
    (network.too_few_peers, False),
    (network.silent, False),
    (own.twin_claimed, False),
    (network.peer_twin, False),
    (network.others_muted, False),
    (network.misbehaving, False),
    (network.clock, False),
    (network.behind, False),
    (view.proposal, False),
    (view.votes, False),
    (view.certificates, False),
    (view.body, False),
    (view.execution, False),
    (view.acks, False),
    (view.time_outs, False),
    (network.peers_lost, False),
    (own.disk_low, False),
    (own.old_keys, False),
)
"""In the order in which they are told; True: nothing after it is worth telling."""
