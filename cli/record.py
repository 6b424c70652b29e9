"""``lossbook record``: any record of the state, with its proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import fail, group
from cli.options import FILE, json_option, profile_option
from cli.output import emit, facts

if TYPE_CHECKING:
    from ledger.state import Table


@group(example="lossbook record show policy/00112233445566778899aabbccddeeff --prove policy.proof")
def command() -> None:
    """Any record of the state, with its proof.

    A record is named TABLE/KEY: policy/HEX, claim/HEX, organisation/ID, card/ID, key/HEX, registration/ID,
    proposal/HEX, epoch/N, membership, parameters/N, evidence/NAME; or by its whole key in hex, table byte first.
    """


@command.command(example="lossbook record show policy/00112233445566778899aabbccddeeff --prove policy.proof")
@click.argument("name")
@click.option("--prove", "out", type=FILE, help="Write the record's proof to this file; it is checked first.")
@profile_option
@json_option
def show(name: str, out: Path | None, profile_name: str | None, as_json: bool) -> None:
    """Show a record; with --prove, as it stands under a certified root, with the proof of it."""
    from cli.session import client
    from ledger.wire.proofs import encode_proof
    from store.home import write_durably

    key = parse_name(name)
    with client(profile_name) as session:
        found = session.record(key, prove=out is not None)
    if found is None:
        fail(f"there is no record {name}", "Check the name; `lossbook policy list` and `claim list` show ids")
    if out is not None and found.proof is not None:
        write_durably(out, encode_proof(found.proof))
    fields = decode(found.key, found.value)
    if as_json:
        emit(
            {
                "record": name,
                "key": key.hex(),
                "height": found.height,
                "node": found.node,
                "fields": fields,
                "value": found.value.hex(),
                "proof": str(out) if out is not None else None,
            }
        )
        return
    facts(
        [
            ("record", name),
            *shown(fields),
            ("height", found.height),
            ("proof", out),
        ]
    )
    if out is not None:
        click.echo()
        click.echo(f"Anybody with the genesis can check it: `lossbook proof verify {out} --genesis genesis.json`")


def tables() -> dict[str, Table[Any]]:
    """Tables by the name people use."""
    from contracts.governance.records import PROPOSALS
    from contracts.records import CLAIMS, POLICIES
    from ledger.epochs import EPOCHS, MEMBERSHIP
    from ledger.evidence import EVIDENCE
    from ledger.organisations import CARDS, KEYS, ORGANISATIONS
    from ledger.parameters import PARAMETERS
    from ledger.registrations import REGISTRATIONS

    return {
        "policy": POLICIES,
        "claim": CLAIMS,
        "organisation": ORGANISATIONS,
        "card": CARDS,
        "key": KEYS,
        "registration": REGISTRATIONS,
        "proposal": PROPOSALS,
        "parameters": PARAMETERS,
        "epoch": EPOCHS,
        "membership": MEMBERSHIP,
        "evidence": EVIDENCE,
    }


def parse_name(name: str) -> bytes:
    """Table byte and key of a name.

    Raises:
        BadInput: no such table, or the key is not of its form.
    """
    from cli.evidence import parse_name as parse_evidence
    from lossbook_sdk.errors import BadInput
    from lossbook_sdk.values import parse_id

    kind, separator, rest = name.partition("/")
    known = tables()
    if kind in known and (separator or kind in ("parameters", "membership")):
        prefix = known[kind].prefix
        if kind in ("organisation", "card", "registration"):
            return prefix + rest.encode()
        if kind == "membership":
            return prefix
        if kind == "evidence":
            return prefix + parse_evidence(rest)
        if kind in ("parameters", "epoch"):
            return prefix + _number(rest or "0", kind)
        return prefix + parse_id(rest, f"{kind} id", 32 if kind == "key" else 16)
    try:
        raw = bytes.fromhex(name)
    except ValueError:
        raw = b""
    if not raw:
        raise BadInput(f"{name!r} names no record", advice=f"Write TABLE/KEY with a table of {', '.join(known)}")
    return raw


def _number(text: str, kind: str) -> bytes:
    from lossbook_sdk.errors import BadInput

    if not (text.isascii() and text.isdigit() and int(text) < 1 << 64):
        raise BadInput(f"{text[:40]!r} is no number", advice=f"Write for example {kind}/0")
    return int(text).to_bytes(8, "big")


def decode(key: bytes, value: bytes) -> dict[str, Any]:
    """Fields of a record by name, states and the like in words; nothing where its table or form is not known here."""
    import msgspec

    for name, one in tables().items():
        if one.prefix == key[:1]:
            try:
                record = one.decode(value)
            except msgspec.MsgspecError:
                return {}
            plain: Any = msgspec.to_builtins(_by_name(record), builtin_types=(bytes,))
            return {field: _in_words(name, field, value) for field, value in plain.items()}
    return {}


def _in_words(table: str, field: str, value: Any) -> Any:
    """A number that stands for something, by its name; unknown ones, of later versions, stay numbers."""
    from cli.evidence import kind_name as kind_of_evidence
    from contracts.governance.records import ProposalState
    from contracts.records import ClaimState, PolicyState
    from ledger.operations import DeclineReason
    from ledger.organisations import Kind, Role
    from lossbook_sdk.values import name_of_line

    if table == "evidence" and field == "kind":
        return kind_of_evidence(value)
    if field == "history":
        return [{inner: _in_words(table, inner, step[inner]) for inner in step} for step in value]
    if field == "line":
        return name_of_line(value)
    if field == "roles":
        return [role.slug for role in Role if value & role]
    if field == "decline_reason" and value == 0:
        return None
    states: dict[str, Any] = {"claim": ClaimState, "proposal": ProposalState}
    kinds: dict[str, Any] = {"state": states.get(table, PolicyState), "kind": Kind, "decline_reason": DeclineReason}
    if field not in kinds or value not in set(kinds[field]):
        return value
    name = str(kinds[field](value).name)
    return name if field == "state" else name.lower().replace("_", "-")


def shown(fields: dict[str, Any]) -> list[tuple[str, object]]:
    """Fields as people read them: amounts with their currency, days and times as dates, each step on a line."""
    from ledger.money import render
    from lossbook_sdk.values import render_date

    rows: list[tuple[str, object]] = []
    for field, value in fields.items():
        word, _, unit = field.rpartition("_")
        if field == "history":
            rows += [("history" if at == 0 else "", _step(step)) for at, step in enumerate(value)]
        elif unit == "minor" and isinstance(value, int) and "currency" in fields:
            rows.append((word.replace("_", " "), render(value, fields["currency"])))
        elif unit == "minor" and value is None:
            rows.append((word.replace("_", " "), "-"))
        elif unit == "days":
            rows.append((word.replace("_", " "), render_date(value)))
        else:
            rows.append((field.replace("_", " "), _plain(value)))
    return rows


def _by_name(value: Any) -> Any:
    import msgspec

    if isinstance(value, msgspec.Struct):
        return {name: _by_name(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [_by_name(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _step(step: dict[str, Any]) -> str:
    from lossbook_sdk.values import render_date, render_time

    place = f"block {step['height']}, envelope {step['index']}, operation {step['operation']}"
    return f"{step['state']} on {render_date(step['date_days'])}, recorded {render_time(step['time_ms'])} in {place}"


def _plain(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "-"
    if isinstance(value, list | dict):
        import json

        return json.dumps(value)
    return "-" if value is None else value
