"""What the commands read of the network: every record with its proof checked.

A node can leave a record out of a list, which nobody can disprove; it cannot alter one, or show an old one as new.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cli.base import EXIT_UNVERIFIED, Stop
from cli.governance.standing import Network
from contracts.governance.records import PROPOSALS, ProposalRecord
from ledger.epochs import EPOCHS, MEMBERSHIP, EpochRecord, MembershipRecord
from ledger.parameters import PARAMETERS
from ledger.registrations import REGISTRATIONS
from ledger.state import Table
from lossbook_sdk.query import Found

if TYPE_CHECKING:
    from ledger.parameters import Parameters


class Records(Protocol):
    """The part of ``lossbook_sdk.query.Query`` that is asked here."""

    async def record(self, key: bytes, *, prove: bool = False) -> Found | None:
        """A record by table byte and key, its proof checked; None if there is none."""

    def records(self, prefix: bytes, *, limit: int | None = None) -> AsyncIterator[Found]:
        """Records of a table, not proved."""


class Book(msgspec.Struct, frozen=True):
    """Proposals and the network they stand in."""

    network: Network
    proposals: tuple[Found, ...]
    """Proved, newest first."""
    more: bool
    """Whether there are more than were asked for."""


def record_of(found: Found) -> ProposalRecord:
    """The proposal of a record."""
    return PROPOSALS.decode(found.value)


async def read_book(query: Records, limit: int) -> Book:
    """The newest proposals, each proved."""
    listed = [PROPOSALS.decode(found.value) async for found in query.records(PROPOSALS.prefix)]
    listed.sort(key=lambda record: (record.ballots[0].time_ms, record.proposal_id), reverse=True)
    proposals = [await read_proposal(query, record.proposal_id) for record in listed[:limit]]
    found = tuple(each for each in proposals if each is not None)
    network = await read_network(query, [record_of(each).epoch for each in found])
    return Book(network, found, len(listed) > limit)


async def read_proposal(query: Records, proposal_id: bytes) -> Found | None:
    """One proposal, proved; None if there is none."""
    return await query.record(PROPOSALS.prefix + proposal_id, prove=True)


async def read_network(query: Records, epochs: Iterable[int] = ()) -> Network:
    """Who votes, what is under way, which parameters are decided; and the epochs of these proposals."""
    found = await _proved(query, MEMBERSHIP, b"")
    membership: MembershipRecord = MEMBERSHIP.decode(found.value)
    wanted = {membership.epoch, *epochs, *(epoch + 1 for epoch in epochs if epoch < membership.epoch)}
    records: dict[int, EpochRecord] = {}
    for epoch in sorted(wanted):
        records[epoch] = EPOCHS.decode((await _proved(query, EPOCHS, epoch.to_bytes(8, "big"))).value)
    registered = [name for name in _coming(membership) if await _has_key(query, name, membership.epoch + 1)]
    last_height, k_max = await _parameters(query, found.height)
    header = found.proven.header if found.proven is not None else None
    return Network(
        height=found.height,
        time_ms=header.timestamp_ms if header is not None else 0,
        membership=membership,
        epochs=records,
        registered=frozenset(registered),
        parameters_height=last_height,
        k_max=k_max,
    )


def _coming(membership: MembershipRecord) -> tuple[str, ...]:
    """Members of the set that is to come whose readiness is still waited for."""
    passed = membership.passed
    return tuple(name for name in passed.members if name not in passed.ready) if passed is not None else ()


async def _has_key(query: Records, organisation: str, epoch: int) -> bool:
    found = await query.record(REGISTRATIONS.prefix + organisation.encode(), prove=True)
    return found is not None and REGISTRATIONS.decode(found.value).epoch == epoch


async def _parameters(query: Records, height: int) -> tuple[int, int]:
    """Activation height of the last decision, and the greatest k_max of those that are active or decided."""
    decided: dict[int, Parameters] = {}
    async for found in query.records(PARAMETERS.prefix):
        decided[int.from_bytes(found.key[1:], "big")] = PARAMETERS.decode(found.value).parameters()
    active = max((at for at in decided if at <= height), default=0)
    return max(decided, default=0), max((decided[at].k_max for at in decided if at >= active), default=0)


async def _proved(query: Records, table: Table[Any], key: bytes) -> Found:
    found = await query.record(table.prefix + key, prove=True)
    if found is None:
        raise Stop(
            f"the node holds no record of its {table.name}, which every node has",
            "Ask another node: `--profile` chooses one",
            EXIT_UNVERIFIED,
        )
    return found
