"""Whom a running node knows and speaks to: the members of the executed state, and the nodes on their cards.

A seat decides who votes, not who is spoken to. The node of a member that has still to join needs the blocks before it
can be ready, and that of one that was removed goes on serving reads: both follow the chain over the same streams as
the others, until a vote replaces a card by one without a peer address. What they say counts by the set of its epoch
alone (``consensus``), and costs them as it costs everybody (``node.reputation``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ledger.epochs import membership
from ledger.state import StateView
from services.logs import get_logger
from services.members import Members, members_of

_log = get_logger("peers")


class Follows(Protocol):
    """Streams, their receiver, and the fetcher."""

    def follow(self, addresses: Mapping[str, str], renewed: Collection[str]) -> None:
        """Let go of who is not among these any more, begin with who is new, begin anew with who is renewed."""


class Neighbours:
    """See the module text.

    Args:
        own: organisation id of this node.
        view: executed state.
        members: what authentication and TLS look at; kept up to date here.
        followers: told of the others' nodes when they change.
    """

    def __init__(self, own: str, view: StateView, members: Members, followers: Sequence[Follows]) -> None:
        self._own = own
        self._view = view
        self._members = members
        self._followers = followers
        self._authority = self._own_authority()

    def _own_authority(self) -> bytes:
        member = self._members.get(self._own)
        return member.ca_pem if member is not None else b""

    @property
    def replaced(self) -> bool:
        """Whether a vote has put another authority on the own card since the start: the certificate in use is void."""
        return bool(self._authority) and self._own_authority() != self._authority

    @property
    def suspended(self) -> bool:
        """Whether a vote has suspended the own seat."""
        return self._own in membership(self._view).suspended

    def follow(self) -> None:
        """Executed state may name other members, cards or seats than before."""
        before = {member.id: member for member in self._members}
        if not self._members.update(members_of(self._view)):
            return
        renewed = {now.id for now in self._members if (was := before.get(now.id)) and was.ca_pem != now.ca_pem}
        after = {member.id for member in self._members}
        joined, left = after - before.keys(), before.keys() - after
        _log.info("members changed", joined=sorted(joined), left=sorted(left), renewed=sorted(renewed))
        others = others_of(self._members, self._own)
        for follower in self._followers:
            follower.follow(others, renewed)


def others_of(members: Members, own: str) -> dict[str, str]:
    """host:port of the other members' nodes."""
    return {organisation: address for organisation, address in members.nodes().items() if organisation != own}
