"""Reasons that lie in this node: its disk, its keys and certificate, what it may have forgotten. Pure."""

from __future__ import annotations

from typing import Final

from node.facts import (
    CARD_REPLACED,
    CERTIFICATE_DAYS_MIN,
    CERTIFICATE_ENDS,
    DISK_FULL,
    DIVERGED,
    MUTED,
    STARTING,
    STORE_FAILED,
    TWIN,
    Facts,
    Reason,
)
from node.words import count, listed, names, one_or_many, size

FREE_BYTES_MIN: Final = 1_000_000_000
"""Some hours of full load; docs/operations.md has an alarm on the same."""

KEYS_DAYS_MAX: Final = 90
"""Days of block time after which consensus keys are to be renewed (consensus.md §9); the network goes on."""


def store_failed(facts: Facts) -> Reason | None:
    """A write or sync failed: nothing is signed until a restart."""
    failure = facts.failure
    if failure is None:
        return None
    if not failure.disk_full:
        return Reason(
            STORE_FAILED,
            f"This node stopped voting and answers queries only: {failure.text}",
            "Look at the disk (kernel log, SMART). Then restart the node; `lossbook doctor` checks the home before.",
        )
    free = "" if facts.free_bytes is None else f" {size(facts.free_bytes)} are free now."
    return Reason(
        DISK_FULL,
        f"The disk is full. This node stopped voting and answers queries only: {failure.text}{free}",
        "Free space on this file system, then restart the node. Delete nothing in the home.",
    )


def disk_low(facts: Facts) -> Reason | None:
    """Little is free where the home lies."""
    if facts.free_bytes is None or facts.free_bytes >= FREE_BYTES_MIN:
        return None
    return Reason(
        "disk-low",
        f"{size(facts.free_bytes)} are free on the file system of the home: when it is full, this node stops voting.",
        "Free space on it, or make it larger. Delete nothing in the home.",
    )


def observing(facts: Facts) -> Reason | None:
    """There is no vote log to sign with."""
    if not facts.observing:
        return None
    return Reason(
        "vote-log",
        f"This node only observes: {facts.observing}",
        "Stop this node, do that, start it again. It votes once the others have said what it may have signed.",
    )


def no_seat(facts: Facts) -> Reason | None:
    """The organisation is none of the validators."""
    if facts.seated or facts.catching_up:
        return None
    standing = " is suspended: it" if facts.suspended else ""
    return Reason(
        "no-seat",
        f"{facts.own}{standing} has no seat in epoch {facts.consensus.epoch}. This node follows and answers queries, "
        "and does not vote.",
        "Ask the other members why. To take its seat again, an admin registers the key that this node has made for the "
        f"next epoch, then the members vote for `lossbook governance propose reinstate {facts.own}` "
        "(docs/operations.md, Seats)."
        if facts.suspended
        else "Nothing, if it was removed or has still to join. A seat is given by vote of the members.",
    )


def no_key(facts: Facts) -> Reason | None:
    """The consensus key of the epoch is not here."""
    if not facts.seated or facts.observing or facts.catching_up or facts.consensus.signing != "observer":
        return None
    epoch = facts.consensus.epoch
    return Reason(
        "no-key",
        f"The consensus key registered for {facts.own} in epoch {epoch} is not in this home: this node only observes, "
        "and its seat counts among the f that may fail.",
        f"A file keys/consensus-{epoch}.key that is there holds another one. If the registered one lies elsewhere "
        "(that on the card as keys/consensus.key), put it back and restart. If it is lost, or none was registered: "
        "an admin registers the key that this node has made for the next epoch, and the members vote for a renewal "
        "of the keys (docs/operations.md, Keys of epochs).",
    )


def card_replaced(facts: Facts) -> Reason | None:
    """A vote has voided the certificate in use."""
    if not facts.card_replaced:
        return None
    return Reason(
        CARD_REPLACED,
        f"A vote has put another ledger key on the card of {facts.own}: with its certificate of the key before, this "
        "node is not let in by the others any more.",
        "Put the new ledger key into the home as keys/ledger.key, the new card as card.json, and restart the node: it "
        "issues itself a certificate.",
    )


def certificate_ends(facts: Facts) -> Reason | None:
    """The certificate in use ends, or has ended."""
    days = facts.certificate_days
    if days >= CERTIFICATE_DAYS_MIN:
        return None
    return Reason(
        CERTIFICATE_ENDS,
        f"The TLS certificate of this node ends within {count(days + 1, 'day')}: nobody lets it in after that."
        if days >= 0
        else "The TLS certificate of this node has ended: nobody lets it in any more.",
        "Restart the node with the ledger key in its home (keys/ledger.key): it issues itself a new one.",
    )


def old_keys(facts: Facts) -> Reason | None:
    """A renewal of the consensus keys is due."""
    days = facts.epoch_age_ms // 86_400_000
    if days < KEYS_DAYS_MAX:
        return None
    return Reason(
        "old-keys",
        f"The consensus keys of epoch {facts.consensus.epoch} are {days} days old; they are to be renewed every "
        f"{KEYS_DAYS_MAX} days. The network goes on.",
        "Propose a renewal: `lossbook governance propose rotate`.",
    )


def key_problem(facts: Facts) -> Reason | None:
    """A consensus key cannot be made or destroyed."""
    if not facts.key_problem:
        return None
    return Reason(
        "next-key",
        f"The consensus keys of this home cannot be kept: {facts.key_problem}",
        "Put it right (free space, rights of the folder keys/): it is tried again by itself. A node that has no key "
        "registered when the members change the set keeps its seat in the next epoch and cannot sign there.",
    )


def diverged(facts: Facts) -> Reason | None:
    """This node contradicts what others certified."""
    text = facts.divergence or facts.consensus.stopped
    if not text:
        return None
    return Reason(
        DIVERGED,
        f"This node signs nothing any more: {text}. Either it is broken, or more than f validators are.",
        "Keep the home as it is. Compare state roots at one height with every member and a replica "
        "(docs/operations.md, Two daemons agree). If only this node differs: check memory and version, then resync.",
    )


def twin(facts: Facts) -> Reason | None:
    """Another process runs with this node's identity, say more validators than may lie."""
    told_by = _tell_of_a_twin(facts)
    if len(told_by) <= facts.faulty_max:
        return None
    text = facts.divergence or facts.consensus.stopped
    stopped = f" This one signs nothing any more: {text}." if text else ""
    return Reason(
        TWIN,
        f"Another process runs as {facts.own}: {listed(told_by)} {one_or_many(told_by, 'ends', 'end')} this node's "
        f"streams again and again, because it opens newer ones with the same certificate.{stopped}",
        "Stop this node now, and look for the other one: a copied home, an old machine that came back. Destroy or lock "
        "away one of the two. If both sign, they contradict each other, and everybody can prove it "
        "(docs/operations.md, Replace a machine).",
    )


def twin_claimed(facts: Facts) -> Reason | None:
    """So few say it that all of them may lie: nobody stops a good node because of them."""
    told_by = _tell_of_a_twin(facts)
    if not 0 < len(told_by) <= facts.faulty_max:
        return None
    return Reason(
        "twin-claimed",
        f"{listed(told_by)} {one_or_many(told_by, 'ends', 'end')} this node's streams again and again, and "
        f"{one_or_many(told_by, 'says', 'say')} that another process with its certificate opens newer ones. No other "
        "validator says so.",
        "Look whether a copy of this home runs somewhere, and stop one of the two if it does (docs/operations.md, "
        f"Replace a machine). If none runs, leave this node as it is and call {listed(told_by)}.",
    )


def _tell_of_a_twin(facts: Facts) -> list[str]:
    return [peer.organisation for peer in facts.validators if peer.speaks_of_a_twin]


def starting(facts: Facts) -> Reason | None:
    """The start-up question is not answered yet."""
    status = facts.consensus
    if status.signing != "starting":
        return None
    counted, needed = status.start_answers
    missing = f" No answer from {names(facts, status.start_missing)}." if status.start_missing else ""
    return Reason(
        STARTING,
        f"This node has started and signs nothing until {needed} others have told it what it may have signed before; "
        f"{counted} did.{missing}",
        "Nothing, if it lasts seconds. Else see that those nodes run and that this one reaches them.",
    )


def muted(facts: Facts) -> Reason | None:
    """Votes may have been forgotten."""
    status = facts.consensus
    if status.signing != "muted":
        return None
    return Reason(
        MUTED,
        f"This node may have forgotten votes (restored or resynced) and signs nothing in views up to "
        f"{status.muted_until_view}; the network is in view {status.view}.",
        "Nothing: it votes again once the others have passed that view.",
    )
