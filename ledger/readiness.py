"""From passed to approved: a quorum of the next set says that it is ready to take over.

A change that passed must not stop the network: if fewer than a quorum of the next set were running, with the keys
they registered, the next epoch could never finalize a block. So each member of the next set, once its node has
executed the block that passed the change and holds its key of the next epoch, signs that it is ready, with that very
key. With Q' = n' - f' of them the change is approved, in the block that executes the last one, with the keys that are
registered by then (consensus.md §9).

Members who are silent keep their seats. They count in n' and f', and those without a registered key cannot sign until
the next change.
"""

from __future__ import annotations

import msgspec

from crypto.hashing import TAG_READINESS, tagged
from ledger.epochs import (
    MEMBERSHIP,
    ApprovedChange,
    MembershipRecord,
    PassedChange,
    Seat,
    membership,
    quorum_of,
)
from ledger.registrations import NODE_KEYS, registered_key
from ledger.state import StateView


def readiness_message(chain_id: bytes, ending_epoch: int, proposal_id: bytes, consensus_key: bytes) -> bytes:
    """32 bytes that a member of the next set signs with its key of the next epoch.

    Digest of tag | chain_id | epoch that ends u64 | proposal id, 16 bytes | the signing key.
    """
    return tagged(TAG_READINESS, chain_id, ending_epoch.to_bytes(8, "big"), proposal_id, consensus_key)


def ready_member(view: StateView, ending_epoch: int, proposal_id: bytes, consensus_key: bytes, time_ms: int) -> str:
    """Whose readiness it is that this key declares, and that still counts; empty where it changes nothing."""
    record = membership(view)
    passed = record.passed
    if passed is None or record.epoch != ending_epoch or passed.proposal_id != proposal_id:
        return ""
    holder = view.get(NODE_KEYS, consensus_key)
    if holder is None or time_ms > passed.expires_ms:
        return ""
    organisation = holder.organisation
    if organisation not in passed.members or organisation in passed.ready:
        return ""
    return organisation if registered_key(view, organisation, ending_epoch + 1) == consensus_key else ""


def declare_ready(view: StateView, organisation: str, height: int) -> None:
    """Count a member of the next set that ``ready_member`` named; with the quorum, the change is approved.

    Args:
        height: of the block that executes it.
    """
    record = membership(view)
    passed = record.passed
    if passed is None:
        return
    passed = msgspec.structs.replace(passed, ready=tuple(sorted((*passed.ready, organisation))))
    if len(passed.ready) < quorum_of(len(passed.members)):
        view.put(MEMBERSHIP, b"", msgspec.structs.replace(record, passed=passed))
        return
    approved = _approved(view, record, passed, height)
    view.put(MEMBERSHIP, b"", msgspec.structs.replace(record, passed=None, approved=approved))


def withdraw_readiness(view: StateView, organisation: str) -> None:
    """Its key was replaced: what the old one declared counts no more."""
    record = membership(view)
    passed = record.passed
    if passed is None or organisation not in passed.ready:
        return
    ready = tuple(name for name in passed.ready if name != organisation)
    view.put(MEMBERSHIP, b"", msgspec.structs.replace(record, passed=msgspec.structs.replace(passed, ready=ready)))


def _approved(view: StateView, record: MembershipRecord, passed: PassedChange, height: int) -> ApprovedChange:
    seats = tuple(Seat(name, registered_key(view, name, record.epoch + 1)) for name in passed.members)
    return ApprovedChange(record.epoch, height, passed.proposal_id, seats, passed.suspended)
