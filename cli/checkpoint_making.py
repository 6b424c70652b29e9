"""Making a checkpoint from what a node proves: nothing that goes into it is taken on a node's word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cli.base import EXIT_UNVERIFIED, fail
from crypto.keys import verify_many
from ledger.checkpoints import Checkpoint, Confirmer, make_checkpoint
from ledger.epochs import MEMBERSHIP
from ledger.header_chain import EpochStart, check_final
from ledger.organisations import ORGANISATIONS, Kind
from ledger.proof_errors import ProofError
from ledger.types import JustifiedHeader

if TYPE_CHECKING:
    from consensus.types import Certificate, Header
    from ledger.known_epochs import KnownEpochs
    from ledger.proofs import Proven
    from lossbook_sdk.client import Client

DESCENDANTS_MAX: Final = 256
"""Blocks looked through for the certificate that makes an earlier one final; K is 20 by default."""


def latest(session: Client) -> Checkpoint:
    """Of the last header that the node proves something by; unsigned."""
    proven = _proven(session)
    return _make(session, proven.header, _start(proven, proven.header.epoch))


def of_height(session: Client, height: int) -> Checkpoint:
    """Of the block of this height, as the node proves it to be final; unsigned."""
    proven = _proven(session)
    justified: list[JustifiedHeader] = []
    finalization: Certificate | None = None
    for at in range(height, height + DESCENDANTS_MAX):
        block = session.run(session.query.block(at))
        if block is None:
            break
        justified += [JustifiedHeader(block.header, block.justification), *block.tails]
        finalization = block.finalization
        if finalization is not None:
            break
    if not justified or finalization is None:
        fail(f"your node shows no final block of height {height} yet", "Wait until it has caught up")
    header = justified[0].header
    start = _start(proven, header.epoch)
    try:
        jobs = check_final(justified, finalization, session.genesis.chain_id, start)
    except ProofError as error:
        fail(f"what your node serves does not verify: {error}", error.advice, EXIT_UNVERIFIED)
    if not all(verify_many([job for _, job in jobs])):
        fail(f"a signature over block {height} is bad, as your node serves it", "Resync your node", EXIT_UNVERIFIED)
    return _make(session, header, start)


def _proven(session: Client) -> Proven:
    """Any record with its proof: what it shows of the network's epochs is what is wanted."""
    found = session.record(MEMBERSHIP.prefix, prove=True)
    if found is None or found.proven is None:
        fail("your node proves nothing yet", "Wait for its first blocks: `lossbook block tail`")
    return found.proven


def _start(proven: Proven, epoch: int) -> EpochStart:
    known: KnownEpochs | None = proven.known
    start = known.starts.get(epoch) if known is not None else None
    if start is None:
        fail(f"your node proves nothing of epoch {epoch}", "Wait until it has caught up, or ask for a newer checkpoint")
    return start


def _make(session: Client, header: Header, start: EpochStart) -> Checkpoint:
    wanted = {member.id for member in start.validators.members} | set(session.run(_supervisors(session)))
    confirmers: list[Confirmer] = []
    for organisation in sorted(wanted):
        found = session.record(ORGANISATIONS.prefix + organisation.encode(), prove=True)
        if found is None:
            fail(f"your node does not know {organisation}", "Wait until it has caught up")
        record = ORGANISATIONS.decode(found.value)
        confirmers.append(Confirmer(organisation, Kind(record.kind).slug, record.ledger_key.hex()))
    return make_checkpoint(session.genesis.chain_id, header, start, confirmers)


async def _supervisors(session: Client) -> list[str]:
    """Listed, not proved: one that is left out cannot confirm the next checkpoint, and would notice."""
    from lossbook_sdk.query import read_record

    return [
        found.key[1:].decode(errors="replace")  # a name that is none is asked for with a proof, which there is not
        async for found in session.query.records(ORGANISATIONS.prefix)
        if read_record(ORGANISATIONS, found).kind == Kind.SUPERVISOR
    ]
