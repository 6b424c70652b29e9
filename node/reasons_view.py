"""What one view waits for: a proposal, votes, a certificate, a body, an acknowledgement. Pure.

Each of these is missing for some milliseconds in every view; so they are told only once nothing became final for
``PATIENCE_DELAYS`` times D while there was something to do (``Facts.stalls``).
"""

from __future__ import annotations

from node.facts import Facts, Reason
from node.words import count, listed, one_or_many, short, tally


def proposal(facts: Facts) -> Reason | None:
    """The leader's proposal has not come."""
    status = facts.consensus
    if not facts.stalls or status.proposed or status.given_up:
        return None
    return Reason(
        "proposal",
        f"View {status.view} waits for the proposal of its leader, {facts.name(status.leader)}.",
        "Nothing: without one the view is given up in time and the next leader proposes.",
    )


def votes(facts: Facts) -> Reason | None:
    """The votes that the current view waits for, and those that would make the block before it final."""
    status = facts.consensus
    if not facts.stalls:
        return None
    parts = []
    if status.given_up:
        parts.append(f"view {status.view} was given up and waits for {tally(facts, 'nullify', status.nullifiers)}")
    elif status.proposed:
        parts.append(f"the block of view {status.view} waits for {tally(facts, 'notarize', status.notarizers)}")
    if status.finalizers:
        waits = tally(facts, "finalize", status.finalizers)
        parts.append(f"the block of view {status.certified_view} is certified and waits for {waits}")
    if not parts:
        return None
    text = "; ".join(parts)
    return Reason(
        "votes",
        text[0].upper() + text[1:] + ".",
        "Ask those that are named last: `lossbook node status` there says why they do not vote.",
    )


def certificates(facts: Facts) -> Reason | None:
    """Nullifications between the highest certified view and this one have not come."""
    views = facts.consensus.missing_nullifications
    # The current view's is what ``votes`` tells of.
    if not facts.stalls or not views:
        return None
    told = listed([str(view) for view in views])
    it = one_or_many(views, "it", "them")
    missing = one_or_many(views, f"The nullification of view {told} is", f"The nullifications of views {told} are")
    return Reason(
        "certificate",
        f"{missing} missing here: without {it} this node can neither build on what came before nor judge who does.",
        f"Nothing, if others are connected: they are asked for {it} again and again.",
    )


def body(facts: Facts) -> Reason | None:
    """Blocks or batches are not in hand."""
    status = facts.consensus
    if not facts.stalls:
        return None
    parts = [f"block {short(digest)}" for digest in status.missing_blocks]
    parts += [
        f"the block before {short(digest)} of view {view}" for view, digest, placed in status.unjudged if not placed
    ]
    parts += [f"batch {short(digest)}" for digest in facts.missing_batches]
    if not parts:
        return None
    return Reason(
        "body",
        f"Not in hand, and needed before this node votes on: {listed(parts)}.",
        "Nothing, if others are connected: those that said they hold it are asked again and again.",
    )


def execution(facts: Facts) -> Reason | None:
    """Own execution is behind what a block commits to."""
    status = facts.consensus
    waiting = [view for view, _, placed in status.unjudged if placed]
    if not facts.stalls or not waiting or facts.missing_batches or facts.executed_height >= facts.finalized_height:
        return None
    return Reason(
        "execution",
        f"The block of view {waiting[0]} commits to a state this node has not executed yet: executed "
        f"{facts.executed_height}, final {facts.finalized_height}.",
        "Nothing, if the executed height grows. If it grows too slowly: the processor is the limit.",
    )


def acks(facts: Facts) -> Reason | None:
    """Own batches are not held by a quorum."""
    if not facts.stalls or not facts.own_batches:
        return None
    first = facts.own_batches[0]
    wait = count(len(facts.own_batches), "own batch waits", "own batches wait")
    return Reason(
        "acknowledgement",
        f"{wait} to be held by {facts.consensus.quorum} validators; the oldest, {first.sequence}, waits for "
        f"{tally(facts, 'held', first.holders)}.",
        "Ask those that are named last: a full disk or a slow line keeps them from storing it.",
    )


def time_outs(facts: Facts) -> Reason | None:
    """Views are given up one after another."""
    status = facts.consensus
    if not facts.stalls or status.time_outs < 2:
        return None
    return Reason(
        "time-outs",
        f"{status.time_outs} views in a row were given up since the last final block.",
        "Messages take longer than consensus.delay_ms allows, or leaders are down. The time-outs grow up to "
        "consensus.timeout_ms_max and shrink again by themselves.",
    )
