"""What a validator states about its own coming keys: which it will use in the next epoch, and that it is ready to.

Both are statements (``ledger/statements.py``): they prove themselves, so any leader may list them, and a node needs no
client key for what it does by itself.

    KeyRegistration    by a validator of the present epoch, early in it. True if its present consensus key signed it,
                       and the new one too. Takes effect once: what is registered is replaced by an admin only
    Readiness          by a member of the next set. True if the key it names signed it. Whose key that is, and whether
                       the change still waits for it, the state says: then it is due, else it has no effect
"""

from __future__ import annotations

from ledger.epochs import current_epoch, find_epoch, membership
from ledger.readiness import declare_ready, readiness_message, ready_member
from ledger.registrations import (
    is_fresh,
    possession_message,
    register,
    registered_key,
    registration_message,
)
from ledger.state import StateView
from ledger.statement_types import Judge, Moment
from ledger.types import KeyRegistration, Readiness

# -- registration of a consensus key -----------------------------------------------------------


def registration_identity(content: KeyRegistration) -> bytes:
    """One for each validator and epoch: the first that is listed takes effect, and no other."""
    return b"key-registration" + content.epoch.to_bytes(8, "big") + content.signer.to_bytes(4, "big")


def registration_subject(content: KeyRegistration) -> tuple[int, int]:
    """Whose key it is."""
    return (content.epoch, content.signer)


def registration_problem(content: KeyRegistration, judge: Judge) -> str | None:
    """Why it is not true; None if both keys signed it."""
    rules = judge.rules_of(content.epoch)
    if rules is None:
        return "a key of an epoch whose validators are not known"
    if content.signer >= rules.validators.n:
        return f"a key of validator {content.signer} of {rules.validators.n}"
    member = rules.validators.members[content.signer]
    parts = (rules.chain_id, content.epoch + 1, member.id, content.consensus_key)
    if not judge.signatures.verify(member.public_key, registration_message(*parts), content.signature):
        return f"a key for {member.id} that its present key did not sign"
    if not judge.signatures.verify(content.consensus_key, possession_message(*parts), content.possession):
        return f"a key for {member.id} that did not sign itself"
    return None


def registration_is_due(content: KeyRegistration, view: StateView, moment: Moment) -> bool:
    """Whether it would be written: in its epoch, before the next set is fixed, as the first, and with a fresh key."""
    standing = membership(view)
    record = find_epoch(view, content.epoch)
    if standing.epoch != content.epoch or standing.approved is not None or record is None:
        return False
    if content.signer >= len(record.members):
        return False
    organisation = record.members[content.signer].organisation
    return registered_key(view, organisation, content.epoch + 1) == b"" and is_fresh(view, content.consensus_key)


def execute_registration(content: KeyRegistration, digest: bytes, view: StateView, moment: Moment) -> None:
    """Register the key, if it is due."""
    if not registration_is_due(content, view, moment):
        return
    _, record = current_epoch(view)
    organisation = record.members[content.signer].organisation
    register(view, organisation, content.epoch + 1, content.consensus_key, moment.height)


# -- readiness -----------------------------------------------------------------------------------


def readiness_identity(content: Readiness) -> bytes:
    """One for each change and key."""
    return b"readiness" + content.epoch.to_bytes(8, "big") + content.proposal_id + content.consensus_key


def readiness_subject(content: Readiness) -> tuple[int, int]:
    """A share of its own for each key: who may use one is limited by what is due, to the members of the next set."""
    return (content.epoch + 1, int.from_bytes(content.consensus_key, "big"))


def readiness_problem(content: Readiness, judge: Judge) -> str | None:
    """Why it is not true; None if its key signed it for this chain."""
    rules = judge.rules_of(content.epoch)
    if rules is None:
        return "readiness to follow an epoch whose validators are not known"
    message = readiness_message(rules.chain_id, content.epoch, content.proposal_id, content.consensus_key)
    if not judge.signatures.verify(content.consensus_key, message, content.signature):
        return "readiness that its key did not sign"
    return None


def readiness_is_due(content: Readiness, view: StateView, moment: Moment) -> bool:
    """Whether it would count: a registered key of a member of the next set that did not declare itself ready yet."""
    return bool(ready_member(view, content.epoch, content.proposal_id, content.consensus_key, moment.time_ms))


def execute_readiness(content: Readiness, digest: bytes, view: StateView, moment: Moment) -> None:
    """Count it, if it is due; the one that completes the quorum approves the change at this height."""
    organisation = ready_member(view, content.epoch, content.proposal_id, content.consensus_key, moment.time_ms)
    if organisation:
        declare_ready(view, organisation, moment.height)


# -- what a node has to state ----------------------------------------------------------------------


def owes_registration(view: StateView, organisation: str) -> int | None:
    """The signer index under which this validator still has to register its key of the next epoch; None: it has not.

    Only who has a key in the present epoch can sign it; for the others an admin does it.
    """
    standing = membership(view)
    epoch, record = current_epoch(view)
    seat = record.seat(organisation)
    if seat is None or not seat.consensus_key or standing.approved is not None:
        return None
    if registered_key(view, organisation, epoch + 1):
        return None
    return record.members.index(seat)


def awaits_key(view: StateView, organisation: str) -> int | None:
    """The epoch for which this organisation's node is to have a key of its own making; None where it needs none now.

    Also one that has no key to register it with (its admin does that), or is to sit in the next set only.
    """
    standing = membership(view)
    epoch, record = current_epoch(view)
    coming = standing.passed.members if standing.passed is not None else ()
    concerned = record.seat(organisation) is not None or organisation in (*standing.suspended, *coming)
    return epoch + 1 if concerned and standing.approved is None else None


def owes_readiness(view: StateView, organisation: str, time_ms: int) -> tuple[bytes, bytes] | None:
    """(proposal id, own registered key) of the change that waits for this organisation's readiness; None: none does."""
    standing = membership(view)
    if standing.passed is None:
        return None
    key = registered_key(view, organisation, standing.epoch + 1)
    if not key:
        return None
    if ready_member(view, standing.epoch, standing.passed.proposal_id, key, time_ms) != organisation:
        return None
    return standing.passed.proposal_id, key
