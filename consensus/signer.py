"""The only way to this validator's consensus key.

Rules decide when to vote; the signer refuses what no rule may ever sign, whoever asks and after whatever restart. Its
memory are the rounds, which are rebuilt from the vote log.
"""

from __future__ import annotations

from consensus.invariant import invariant
from consensus.ports import Signatures
from consensus.rounds import Round
from consensus.types import Target, Vote, VoteKind
from consensus.votes import vote_message


class Signer:
    """Signs votes; or nothing, for an observer, before the start-up query is answered, while muted, once stopped."""

    def __init__(self, chain_id: bytes, epoch: int, own_index: int | None, signatures: Signatures) -> None:
        self.own_index = own_index
        self.ready = False  #: the start-up query is answered (consensus.md §5)
        self.muted_until = 0  #: nothing is signed in views up to this one
        self.stopped: str | None = None  #: why nothing is signed any more
        self.ended = False  #: the epoch is over (consensus.md §9)
        self._chain_id = chain_id
        self._epoch = epoch
        self._signatures = signatures

    def may_sign(self, view: int) -> bool:
        """Whether anything may be signed in this view."""
        if self.own_index is None or self.stopped is not None or self.ended:
            return False
        return self.ready and view > self.muted_until

    @property
    def state(self) -> str:
        """For ``Status.signing``, apart from muting, which depends on the view."""
        if self.own_index is None:
            return "observer"
        if self.stopped is not None:
            return "stopped"
        if self.ended:
            return "ended"
        return "signing" if self.ready else "starting"

    def own(self, found: Round | None, kind: VoteKind) -> Vote | None:
        """This node's vote of a kind in a round."""
        if found is None or self.own_index is None:
            return None
        return found.votes[kind].get(self.own_index)

    def sign(self, kind: VoteKind, found: Round, target: Target) -> Vote:
        """A new vote. InvariantViolated if it is not allowed here, or contradicts one that was ever signed (I6)."""
        own_index = self.own_index
        invariant(own_index is not None and self.may_sign(found.view), f"asked to sign in view {found.view}")
        notarize, nullify, finalize = (self.own(found, each) for each in VoteKind)
        invariant(self.own(found, kind) is None, f"asked to sign {kind.name} twice in view {found.view}")
        if kind is VoteKind.NOTARIZE:
            invariant(nullify is None and finalize is None, f"N after X or F in view {found.view}")
        elif kind is VoteKind.NULLIFY:
            invariant(finalize is None, f"X after F in view {found.view}")
        else:
            invariant(nullify is None, f"F after X in view {found.view}")
            invariant(notarize is None or notarize.target == target, f"F against own N in view {found.view}")
        parent_view, digest = target
        signature = self._signatures.sign(
            vote_message(self._chain_id, kind, self._epoch, found.view, parent_view, digest)
        )
        return Vote(kind, self._epoch, found.view, parent_view, digest, own_index or 0, signature)
