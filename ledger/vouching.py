"""Who vouches for a checkpoint: its signatures, judged by what a verifier believes already (consensus.md §10).

    judge     each signature: whether it counts for this anchor, and if not, why
    confirm   whether enough of the anchor's own people vouch for a checkpoint that leads forward

Signatures that do not count do no harm: people sign who were admitted, or whose keys were rotated, after the anchor.
"""

from __future__ import annotations

import msgspec

from crypto.keys import verify
from ledger.checkpoints import (
    Anchor,
    Checkpoint,
    CheckpointBehind,
    CheckpointConflict,
    CheckpointSignature,
    Unconfirmed,
    signed_message,
)
from ledger.epochs import quorum_of


class Vouching(msgspec.Struct, frozen=True):
    """One signature under a checkpoint, judged by an anchor."""

    organisation: str
    why_not: str = ""
    """Why it does not count; empty if it does."""


def judge(checkpoint: Checkpoint, anchor: Anchor) -> tuple[Vouching, ...]:
    """Every signature, ascending by organisation."""
    believed = {each.organisation: bytes.fromhex(each.ledger_key) for each in anchor.confirmers}
    stated = {each.organisation: bytes.fromhex(each.ledger_key) for each in checkpoint.body.confirmers}
    message = signed_message(checkpoint.text)

    def why_not(signature: CheckpointSignature) -> str:
        name, signed = signature.organisation, _bytes(signature.signature)
        key = believed.get(name)
        if key is not None and verify(key, message, signed):
            return ""
        if name in stated and stated[name] != key and verify(stated[name], message, signed):
            if key is None:
                return f"{anchor.what} does not know it as a supervisor or member of the set"
            return f"it is by a ledger key that {anchor.what} does not know"
        return (
            "it is nobody's who may confirm a checkpoint" if name not in believed | stated else "the signature is bad"
        )

    judged = [Vouching(each.organisation, why_not(each)) for each in checkpoint.signatures]
    return tuple(sorted(judged, key=lambda each: each.organisation))


def confirm(checkpoint: Checkpoint, anchor: Anchor) -> list[str]:
    """Check that the anchor's own people vouch for the checkpoint, and that it leads forward.

    The supervisor, any where there are several, and f + 1 members of the anchor's set; of a network without a
    supervisor a quorum of them.

    Returns:
        Organisations whose signatures count, ascending.

    Raises:
        CheckpointConflict: another network, or another history.
        CheckpointBehind: below the anchor.
        Unconfirmed: too few signed.
    """
    _check_place(checkpoint, anchor)
    judged = judge(checkpoint, anchor)
    good = [each.organisation for each in judged if not each.why_not]
    members = {member.id for member in anchor.start.validators.members}
    supervisors = sorted(each.organisation for each in anchor.confirmers if each.is_supervisor)
    needed = _members_needed(len(members), bool(supervisors))
    signed = members & set(good)
    lacking = []
    if len(signed) < needed:
        lacking.append(f"{needed - len(signed)} more of {', '.join(sorted(members - signed))}")
    if supervisors and not set(supervisors) & set(good):
        lacking.append(f"the supervisor ({' or '.join(supervisors)})")
    if lacking:
        idle = [f"{each.organisation} ({each.why_not})" for each in judged if each.why_not]
        rest = f"; not counted: {', '.join(idle)}" if idle else ""
        raise Unconfirmed(
            f"the checkpoint of height {checkpoint.body.height} is signed by "
            f"{', '.join(good) or 'nobody known here'}, and {anchor.what} asks for "
            f"{' and '.join(lacking)}{rest}",
            "Ask them to compare it with their own node and sign it: `lossbook checkpoint sign FILE --key ledger.key`",
        )
    return good


def _members_needed(n: int, supervised: bool) -> int:
    return (n - 1) // 3 + 1 if supervised else quorum_of(n)


def _check_place(checkpoint: Checkpoint, anchor: Anchor) -> None:
    body = checkpoint.body
    keep = "Keep it, and ask your supervisor by another way which history is the network's"
    if checkpoint.chain_id != anchor.chain_id:
        raise CheckpointConflict(
            f"the checkpoint is of network {body.chain_id[:16]}, not of {anchor.chain_id.hex()[:16]}",
            "Take one of your own network, or give the right genesis file",
        )
    if body.height < anchor.height:
        raise CheckpointBehind(
            f"the checkpoint of height {body.height} lies below {anchor.what}",
            "A verifier never goes back: ask for a newer one",
        )
    same_block = checkpoint.digest == anchor.digest
    same_start = checkpoint.start.identity == anchor.start.identity
    if body.height == anchor.height and not same_block:
        raise CheckpointConflict(f"at height {body.height} {anchor.what} has another block than the checkpoint", keep)
    if body.epoch < anchor.epoch or (body.epoch == anchor.epoch and not same_start):
        raise CheckpointConflict(f"{anchor.what} has other validators in epoch {body.epoch} than the checkpoint", keep)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
