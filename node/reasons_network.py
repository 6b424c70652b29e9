"""Reasons that lie between nodes: who is not reached, not heard, not listened to, or apart by its clock. Pure."""

from __future__ import annotations

from node.facts import NOT_LET_IN, TOO_FEW_PEERS, TOO_MANY_MUTED, Facts, Reason
from node.words import count, itself, listed, one_or_many, seconds


def too_many_muted(facts: Facts) -> Reason | None:
    """Fewer than Q that may sign: no view can pass, so the bounds of the muted ones are never reached."""
    status = facts.consensus
    muted = [facts.name(index) for index, _ in status.muted_peers]
    if status.signing == "muted":
        muted.append(facts.own)
    able = len(facts.members) - len(muted)
    if not muted or able >= status.quorum:
        return None
    return Reason(
        TOO_MANY_MUTED,
        f"{listed(sorted(muted))} may have forgotten votes and sign nothing; {able} of {len(facts.members)} validators "
        f"may sign and {status.quorum} are needed. No view passes any more, so this does not end by itself.",
        "Call all members. The way out is to rebuild the network from one survivor: docs/operations.md, Rebuild. "
        "Until then change no home and restore nothing more.",
    )


def others_muted(facts: Facts) -> Reason | None:
    """Some sign nothing yet, and enough others do."""
    status = facts.consensus
    muted = status.muted_peers
    if not muted or too_many_muted(facts) is not None:
        return None
    told = listed([f"{facts.name(index)} up to view {until}" for index, until in muted])
    return Reason(
        "others-muted",
        f"Restored or resynced, and signing nothing yet: {told}. The network is in view {status.view}.",
        "Nothing: they vote again past that view. Until then restore or resync no other node.",
    )


def not_let_in(facts: Facts) -> Reason | None:
    """More turn this node away than may be broken, and nobody lets it in: it is about this node."""
    away = [peer.organisation for peer in facts.validators if peer.turns_away]
    if len(away) <= facts.faulty_max or any(peer.connected for peer in facts.validators):
        return None
    if facts.certificate_days < 0:
        return None  # that is why
    return Reason(
        NOT_LET_IN,
        f"{listed(away)} hang up as soon as they see this node's certificate. Either {facts.own} is no member of the "
        "network as they know it yet, or a vote has replaced its ledger key while this node was away, or what answers "
        "at their addresses is a proxy with no node behind it.",
        "While the members still vote on its admission: nothing, it is tried again and again. If its card was "
        "replaced: put the new ledger key into the home as keys/ledger.key, the new card as card.json, and restart the "
        "node. What they know says `lossbook record show organisation/ID` with the profile of another member.",
    )


def too_few_peers(facts: Facts) -> Reason | None:
    """Streams to fewer than a quorum stand."""
    lost = [peer for peer in facts.validators if not peer.connected]
    reached = facts.votes + len(facts.validators) - len(lost)
    if not lost or reached >= facts.consensus.quorum:
        return None
    told = "; ".join(f"{peer.organisation} ({peer.problem})" for peer in lost)
    return Reason(
        TOO_FEW_PEERS,
        f"This node reaches {reached} of {len(facts.members)} validators{itself(facts, 'itself')}, and "
        f"{facts.consensus.quorum} are needed. Not reached: {told}.",
        f"Ask {listed([peer.organisation for peer in lost])} whether "
        f"{one_or_many(lost, 'its node runs', 'their nodes run')} (`lossbook node status` there), and check the "
        "network between you.",
    )


def peers_lost(facts: Facts) -> Reason | None:
    """The network goes on, with less in reserve."""
    lost = {peer.organisation: peer.problem for peer in facts.validators if not peer.connected}
    hung = {name: "connected, and silent" for name in facts.others_silent if name not in lost}
    left = len(facts.members) - len(lost) - len(hung) - (facts.seated and not facts.votes)
    if not lost | hung or left < facts.consensus.quorum:
        return None
    told = "; ".join(f"{name} ({problem})" for name, problem in (lost | hung).items())
    goes_on = (
        f"The other {left} of {len(facts.members)} validators would do, but nothing became final for "
        f"{seconds(facts.stalled_ms)}: some of them do not vote."
        if facts.stalls
        else f"The network goes on with {left} of {len(facts.members)} validators; "
        f"{left - facts.consensus.quorum or 'no'} more may fail."
    )
    return Reason(
        "peers-lost",
        f"Not heard of: {told}. {goes_on}",
        f"Have {one_or_many(lost | hung, 'that node', 'those nodes')} looked at before another one fails.",
    )


def silent(facts: Facts) -> Reason | None:
    """Fewer than a quorum are heard."""
    silent, needed = facts.others_silent, facts.consensus.quorum
    heard = len(facts.members) - len(silent) - (facts.seated and not facts.votes)
    connected = {peer.organisation for peer in facts.peers if peer.connected}
    hung = [name for name in silent if name in connected]
    if not silent or heard >= needed or (not hung and too_few_peers(facts) is not None):
        return None  # the last: those that are not reached are named there, and nothing is heard of them for that
    hint = f" The connection to {listed(hung)} is up: the process there may hang." if hung else ""
    return Reason(
        "silent",
        f"Nothing was heard for a while from {listed(silent)}; {heard} of {len(facts.members)} validators are heard"
        f"{itself(facts, 'this one')}, and {needed} are needed.",
        f"Ask {listed(silent)} to look at {one_or_many(silent, 'its node', 'their nodes')} "
        f"(`lossbook node status` there).{hint}",
    )


def peer_twin(facts: Facts) -> Reason | None:
    """Two processes run with another's identity."""
    doubled = [peer for peer in facts.peers if peer.twins]
    if not doubled:
        return None
    told = "; ".join(f"{peer.organisation} (from {listed(sorted(set(peer.twins)))})" for peer in doubled)
    return Reason(
        "peer-twin",
        f"Two processes run at a time with one identity, and push out each other's streams: {told}.",
        "Call that organisation: two copies of its home run, and one has to be stopped before they sign different "
        "things. `lossbook node status` there says `Another process runs`.",
    )


def misbehaving(facts: Facts) -> Reason | None:
    """Peers that are not listened to."""
    ignored = [peer for peer in facts.peers if peer.ignored_s]
    if not ignored:
        return None
    told = "; ".join(
        f"{peer.organisation} for {peer.ignored_s} s more, after {count(peer.offences, 'offence')}, the last: "
        f"{peer.last_offence}"
        for peer in ignored
    )
    return Reason(
        "misbehaving",
        f"Not listened to, because it sent what no honest node sends: {told}.",
        "Call that organisation: its node is broken, of another version, or not its own any more.",
    )


def behind(facts: Facts) -> Reason | None:
    """More is final than this node holds."""
    if not facts.catching_up or not facts.stalls:
        return None
    if facts.snapshot is not None:
        return Reason(
            "far-behind",
            "This node is far behind and fetches the state of height {height}: {leaves} of {leaves_wanted} leaves and "
            "{receipts} of {receipts_wanted} receipts have come in.".format_map(facts.snapshot),
            "Nothing, if the numbers grow. If not: it cannot fetch them, see the peers below and the log.",
        )
    return Reason(
        "behind",
        f"This node is behind: more is final than the {facts.finalized_height} blocks it holds, of which it has "
        f"executed {facts.executed_height}.",
        "Nothing, if the numbers grow. If not: it cannot fetch blocks, see the peers below and the log.",
    )


def clock(facts: Facts) -> Reason | None:
    """Blocks are dated apart from this machine's clock."""
    clocks = facts.consensus.clocks
    if not clocks:
        return None
    told = listed([f"{facts.name(index)} {seconds(abs(ms))} {'ahead' if ms > 0 else 'behind'}" for index, ms in clocks])
    own = 2 * len(clocks) > len(facts.members) - 1 > 1
    return Reason(
        "clock",
        f"Blocks dated apart from this machine's clock by more than {seconds(facts.clock_delta_ms)}, the most that is "
        f"allowed: {told}.",
        "Most others differ, so it is probably this machine's clock: check its time service."
        if own
        else "Check the time service there and here: the clocks of validators have to agree.",
    )
