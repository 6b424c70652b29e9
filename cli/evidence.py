"""``lossbook evidence``: who broke the rules of consensus, provably."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cli.base import EXIT_UNVERIFIED, Stop, fail, group
from cli.options import FILE, json_option, profile_option
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from consensus.types import Vote
    from ledger.evidence import EvidenceRecord
    from ledger.genesis import Genesis
    from ledger.known_epochs import KnownEpochs
    from ledger.types import Statement
    from lossbook_sdk.client import Client
    from lossbook_sdk.query import Found


@group(example="lossbook evidence list")
def command() -> None:
    """Who broke the rules of consensus, provably: two signatures that no honest validator makes together.

    The ledger records each breach once. It is named EPOCH-SIGNER-KIND-VIEW, as the list shows it.
    """


@command.command("list", example="lossbook evidence list")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="At most so many.")
@profile_option
@json_option
def list_(limit: int, profile_name: str | None, as_json: bool) -> None:
    """List what is recorded, each record with its proof checked. That nothing else is recorded, nobody can prove."""
    from cli.session import client
    from ledger.evidence import EVIDENCE
    from lossbook_sdk.values import render_time

    with client(profile_name) as session:

        async def read() -> tuple[list[Found], bool]:
            names = [found.key async for found in session.query.records(EVIDENCE.prefix, limit=limit + 1)]
            proved = [await session.query.record(key, prove=True) for key in names[:limit]]
            return [found for found in proved if found is not None], len(names) > limit

        found, more = session.run(read())
    documents = [document(each) for each in found]
    if as_json:
        emit({"evidence": documents, "more": more})
        return
    table(
        ("evidence", "against", "kind", ">epoch", ">view", ">block", "recorded"),
        (
            (
                each["evidence"],
                each["organisation"],
                each["kind"],
                each["epoch"],
                each["view"],
                each["height"],
                render_time(each["time_ms"]),
            )
            for each in documents
        ),
    )
    if more:
        say("There are more: raise --limit.")


@command.command(example="lossbook evidence show 0-2-1-57 --out double-vote.evidence --prove record.proof")
@click.argument("name", metavar="EPOCH-SIGNER-KIND-VIEW")
@click.option("--out", type=FILE, help="Write the evidence itself to this file: the signed votes.")
@click.option("--prove", type=FILE, help="Write the proof to this file that the ledger recorded it.")
@profile_option
@json_option
def show(name: str, out: Path | None, prove: Path | None, profile_name: str | None, as_json: bool) -> None:
    """Show a breach: its record, proved, and the votes that prove the breach, checked."""
    from cli.session import client
    from ledger.evidence import EVIDENCE
    from ledger.wire.proofs import encode_proof
    from store.home import write_durably

    key = EVIDENCE.prefix + parse_name(name)
    with client(profile_name) as session:
        found = session.record(key, prove=True)
        if found is None or found.proof is None:
            fail(f"there is no record of {name}", "`lossbook evidence list` shows what is recorded")
        record = EVIDENCE.decode(found.value)
        statement = listed(session, record)
        proof = convicts(statement, session.trust.known)
    if out is not None:
        write_durably(out, statement.raw)
    if prove is not None:
        write_durably(prove, encode_proof(found.proof))
    files = {"file": str(out) if out else None, "proof": str(prove) if prove else None}
    if as_json:
        emit(document(found) | {"proven_at": found.height} | proof | files)
        return
    rows(document(found) | {"proven at": found.height} | proof | files)
    if out is not None:
        click.echo()
        if prove is None:
            say("Give --prove as well: without the proof of its record the evidence convicts nobody.")
            return
        click.echo(
            "Anybody with the genesis can check both: "
            f"`lossbook evidence verify {out} --genesis genesis.json --proof {prove}`"
        )


@command.command(example="lossbook evidence verify double-vote.evidence --genesis genesis.json --proof record.proof")
@click.argument("file", type=FILE)
@click.option("--genesis", type=FILE, required=True, help="The network's genesis file.")
@click.option("--chain-id", metavar="HEX", help="Must be the genesis' chain id, as read aloud at the ceremony.")
@click.option("--proof", type=FILE, help="Its record's proof (`lossbook evidence show --prove`).")
@click.option("--unsafe-old-anchor", is_flag=True, help="As of `lossbook proof verify`, for --proof.")
@json_option
def verify(
    file: Path, genesis: Path, chain_id: str | None, proof: Path | None, unsafe_old_anchor: bool, as_json: bool
) -> None:
    """Check evidence offline; exit code 4 if it convicts nobody, or its record is another one's.

    Two things convict: the votes, signed with the key that the validator had in that epoch, and the proof that the
    ledger recorded them in time. Votes alone do not: whoever steals the key of an epoch that is over can make them at
    any later day, and the ledger takes them for a fortnight only. Whether the validator signed or a thief of its key,
    no signature can tell: it answers for its key while that is in force.
    """
    from ledger.checkpoints import TRUSTING_PERIOD_DAYS
    from ledger.genesis import load_genesis
    from ledger.known_epochs import KnownEpochs
    from ledger.types import STATEMENT_BYTES_MAX
    from ledger.wire import WireError, decode_statement
    from lossbook_sdk.values import parse_id

    expected = parse_id(chain_id.replace(" ", ""), "chain id", 32) if chain_id else None
    network = load_genesis(genesis.read_bytes(), expected)
    with file.open("rb") as opened:
        raw = opened.read(STATEMENT_BYTES_MAX + 1)
    try:
        statement = decode_statement(raw)
    except WireError as error:
        fail(f"{file} is no evidence: {error}", "Export it again: `lossbook evidence show --out`", EXIT_UNVERIFIED)
    if proof is None:
        _require_proof(convicts(statement, KnownEpochs.of_genesis(network)))
    known, record = recorded(proof, statement, network, None if unsafe_old_anchor else TRUSTING_PERIOD_DAYS)
    shown = convicts(statement, known) | {"height": record.height, "time_ms": record.time_ms}
    if as_json:
        emit({"verified": True, "chain_id": network.chain_id.hex()} | shown)
        return
    rows({"verified": f"on network {network.name}, chain id {network.chain_id.hex()[:16]}"} | shown)


def parse_name(name: str) -> bytes:
    """Key of a record in its table.

    Raises:
        BadInput: not four numbers, or one out of range.
    """
    import struct

    from ledger.evidence import key_of_act
    from lossbook_sdk.errors import BadInput

    parts = name.split("-")
    try:
        if len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts):
            epoch, signer, kind, view = map(int, parts)
            return key_of_act(epoch, signer, kind, view)
    except struct.error:
        pass
    raise BadInput(f"{name[:80]!r} names no evidence", advice="Write EPOCH-SIGNER-KIND-VIEW, for example 0-2-1-57")


def listed(session: Client, record: EvidenceRecord) -> Statement:
    """The statement that a record names, from the block that lists it."""
    from crypto.hashing import TAG_STATEMENT, tagged
    from ledger.wire import decode_statement

    block = session.run(session.query.block(record.height))
    for raw in block.payload.statements if block is not None else ():
        if tagged(TAG_STATEMENT, raw) == record.statement:
            return decode_statement(raw)
    problem = f"the node's block {record.height} does not hold the evidence that the record names"
    raise Stop(problem, "Ask another node: `--profile` chooses one", EXIT_UNVERIFIED)


def _require_proof(shown: dict[str, Any]) -> NoReturn:
    """End a command that was given votes and nothing else: they are genuine, and convict nobody by themselves."""
    fail(
        f"it is signed with the key that {shown['against']} had in epoch {shown['in_epoch']}, which by itself "
        "convicts nobody: a thief of an old key can sign at any later day",
        "Give its record's proof, which shows that the ledger took it in time: --proof "
        "(`lossbook evidence show NAME --prove FILE`)",
        EXIT_UNVERIFIED,
    )


def recorded(
    proof: Path, statement: Statement, network: Genesis, days: int | None
) -> tuple[KnownEpochs, EvidenceRecord]:
    """The record, and the epochs that its proof leads to; ends the command with exit code 4 if it is another's."""
    from cli.proof import verified
    from ledger.evidence import EVIDENCE

    proven, _ = verified(proof, network, None, days)
    record = EVIDENCE.decode(proven.value) if proven.key[:1] == EVIDENCE.prefix else None
    if record is None or record.statement != statement.digest or proven.known is None:
        fail(
            f"{proof} is not the proof of this evidence's record",
            "Export both: `lossbook evidence show NAME --out FILE --prove FILE`",
            EXIT_UNVERIFIED,
        )
    return proven.known, record


def convicts(statement: Statement, known: KnownEpochs) -> dict[str, Any]:
    """Whom it convicts of what; ends the command with exit code 4 if nobody."""
    from consensus.evidence import ConflictingVotes, FalseJustification
    from ledger.statements import judge_from, problem

    evidence = statement.content
    if not isinstance(evidence, ConflictingVotes | FalseJustification):
        fail("it accuses nobody", "Give a file that `lossbook evidence show --out` wrote", EXIT_UNVERIFIED)
    start = known.starts.get(evidence.vote.epoch)
    if start is None:
        fail(
            f"it is of epoch {evidence.vote.epoch}, and nothing here says who validated then",
            "Give its record's proof, which leads there: --proof (`lossbook evidence show NAME --prove FILE`)",
            EXIT_UNVERIFIED,
        )
    why_not = problem(statement, judge_from(known))
    if why_not is not None:
        fail(f"it convicts nobody: {why_not}", "Do not accuse anybody with it; ask who gave it to you", EXIT_UNVERIFIED)
    members = start.validators.members
    shown: dict[str, Any] = {
        "against": members[evidence.culprit].id,
        "breach": kind_name(evidence.kind),
        "in_epoch": evidence.vote.epoch,
        "in_view": evidence.vote.view,
    }
    if isinstance(evidence, ConflictingVotes):
        shown |= {"first_vote": in_words(evidence.first), "second_vote": in_words(evidence.second)}
    else:
        skipped = evidence.header.view - evidence.header.parent_view - 1
        shown |= {
            "vote": in_words(evidence.vote),
            "header": f"height {evidence.header.height} on view {evidence.header.parent_view}, {skipped} views skipped",
        }
    return shown | {"statement": statement.digest.hex()}


def in_words(vote: Vote) -> str:
    """A vote on one line."""
    kind = vote.kind.name.lower()
    return f"{kind} {vote.digest.hex()[:16]}" if vote.digest else kind


def kind_name(kind: int) -> str:
    """As people write it; a number of a later version stays one."""
    from consensus.evidence import EvidenceKind

    return EvidenceKind(kind).name.lower().replace("_", "-") if kind in set(EvidenceKind) else str(kind)


def document(found: Found) -> dict[str, Any]:
    """A record as JSON."""
    from ledger.evidence import EVIDENCE, act

    record = EVIDENCE.decode(found.value)
    return {
        "evidence": "-".join(map(str, act(found.key[1:]))),
        "organisation": record.organisation,
        "kind": kind_name(record.kind),
        "epoch": record.epoch,
        "view": record.view,
        "height": record.height,
        "time_ms": record.time_ms,
        "statement": record.statement.hex(),
    }


def rows(fields: dict[str, Any]) -> None:
    """Fields for people."""
    from lossbook_sdk.values import render_time

    named = {name.replace("_", " "): value for name, value in fields.items() if name != "time_ms"}
    if "time_ms" in fields:
        named["recorded"] = render_time(fields["time_ms"])
    facts(named.items())
