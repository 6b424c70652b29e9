"""What the commands read of the network: every record with its proof checked.

A node can leave a record out of a list, which nobody can disprove; it cannot alter one. What it proves is the state of
the newest root that is certified, so whoever has just written waits for the block that certifies his own
(``height_min``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from cli.base import EXIT_UNREACHABLE, EXIT_UNVERIFIED, Stop
from cli.governance.standing import Network
from contracts.governance.records import PROPOSALS, ProposalRecord, ProposalState
from ledger.epochs import EPOCHS, MEMBERSHIP, EpochRecord, MembershipRecord
from ledger.parameters import PARAMETERS
from ledger.registrations import REGISTRATIONS
from ledger.state import Table
from lossbook_sdk.errors import VerificationFailed
from lossbook_sdk.query import Found, read_record

if TYPE_CHECKING:
    from ledger.parameters import Parameters


CERTIFY_TRIES: Final = 50
CERTIFY_PAUSE_S: Final = 0.1
"""The root after a block is certified by the next blocks: some hundred milliseconds, on an idle network too."""


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
    """The newest proposals, each proved.

    Which ones are the newest is the node's word: it can leave a proposal out, or date it wrongly in the list, and so
    keep it off a page, not alter what is shown of it.

    Raises:
        VerificationFailed: the list has what no ledger holds.
        Stop: as ``read_network``.
    """
    listed = [_listed(found) async for found in query.records(PROPOSALS.prefix)]
    listed.sort(key=lambda record: (record.ballots[0].time_ms, record.proposal_id), reverse=True)
    proposals = [await read_proposal(query, record.proposal_id) for record in listed[:limit]]
    found = tuple(each for each in proposals if each is not None)
    height = max((each.height for each in found), default=0)
    network = await read_network(query, [record_of(each) for each in found], height)
    return Book(network, found, len(listed) > limit)


def _listed(found: Found) -> ProposalRecord:
    """A proposal as a node lists it: under its own id, with its proposer's ballot."""
    record = read_record(PROPOSALS, found)
    if not record.ballots or found.key != PROPOSALS.prefix + record.proposal_id:
        raise VerificationFailed(
            f"what {found.node} served does not verify: a proposal in its list has another id, or no proposer",
            unchanged="Nothing was changed",
            advice="Ask another node: `--profile` chooses one; and tell the organisation that runs this one",
        )
    return record


async def read_proposal(query: Records, proposal_id: bytes, height_min: int = 0) -> Found | None:
    """One proposal, proved in the state of this height or a later one; None if there is none.

    Raises:
        Stop: that state is not certified in time.
    """
    return await _at_least(query, PROPOSALS.prefix + proposal_id, height_min)


async def read_network(
    query: Records, proposals: Sequence[ProposalRecord] = (), height_min: int = 0, *, back: Iterable[str] = ()
) -> Network:
    """Who votes, what is under way, which parameters are decided; and what these proposals are judged by.

    Args:
        back: who is to be reinstated, beside those whom open proposals name.
        height_min: of the state; that of the proposals, so that they are not judged by what was before them.

    Raises:
        Stop: that state is not certified in time, or the node holds no such records.
    """
    found = await _proved(query, MEMBERSHIP, b"", height_min)
    membership: MembershipRecord = MEMBERSHIP.decode(found.value)
    epochs = [proposal.epoch for proposal in proposals]
    wanted = {membership.epoch, *epochs, *(epoch + 1 for epoch in epochs if epoch < membership.epoch)}
    records: dict[int, EpochRecord] = {}
    for epoch in sorted(wanted):
        records[epoch] = EPOCHS.decode((await _proved(query, EPOCHS, epoch.to_bytes(8, "big"))).value)
    coming = {*_coming(membership), *back, *(name for each in proposals for name in _back(each, membership.epoch))}
    registered = [name for name in sorted(coming) if await _has_key(query, name, membership.epoch + 1)]
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


def _back(proposal: ProposalRecord, epoch: int) -> tuple[str, ...]:
    """Whom an open proposal would reinstate."""
    is_open = proposal.state == ProposalState.OPEN and proposal.epoch == epoch
    return proposal.set_change.reinstate if is_open and proposal.set_change is not None else ()


async def _has_key(query: Records, organisation: str, epoch: int) -> bool:
    found = await query.record(REGISTRATIONS.prefix + organisation.encode(), prove=True)
    return found is not None and REGISTRATIONS.decode(found.value).epoch == epoch


async def _parameters(query: Records, height: int) -> tuple[int, int]:
    """Activation height of the last decision, and the greatest k_max of those that are active or decided."""
    decided: dict[int, Parameters] = {}
    async for found in query.records(PARAMETERS.prefix):
        decided[int.from_bytes(found.key[1:], "big")] = read_record(PARAMETERS, found).parameters()
    active = max((at for at in decided if at <= height), default=0)
    return max(decided, default=0), max((decided[at].k_max for at in decided if at >= active), default=0)


async def _at_least(query: Records, key: bytes, height_min: int) -> Found | None:
    for _ in range(CERTIFY_TRIES):
        found = await query.record(key, prove=True)
        if found is None or found.height >= height_min:
            return found
        await asyncio.sleep(CERTIFY_PAUSE_S)
    raise Stop(
        f"the state after block {height_min:,} is not certified yet",
        "What was written stands. See it in a moment: `lossbook governance list`",
        EXIT_UNREACHABLE,
    )


async def _proved(query: Records, table: Table[Any], key: bytes, height_min: int = 0) -> Found:
    found = await _at_least(query, table.prefix + key, height_min)
    if found is None:
        raise Stop(
            f"the node holds no record of its {table.name}, which every node has",
            "Ask another node: `--profile` chooses one",
            EXIT_UNVERIFIED,
        )
    return found
