"""``lossbook proof``: check proofs offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import fail, group
from cli.options import FILE, json_option
from cli.output import emit, facts

if TYPE_CHECKING:
    from ledger.proofs import Proven


@group(example="lossbook proof verify policy.proof --genesis genesis.json")
def command() -> None:
    """Check proofs offline: from the genesis file alone, without network and without anybody's word."""


@command.command(example="lossbook proof verify policy.proof --genesis genesis.json")
@click.argument("file", type=FILE)
@click.option("--genesis", type=FILE, required=True, help="The network's genesis file.")
@click.option("--chain-id", metavar="HEX", help="Must be the genesis' chain id, as read aloud at the ceremony.")
@json_option
def verify(file: Path, genesis: Path, chain_id: str | None, as_json: bool) -> None:
    """Check a proof file; exit code 4 if it does not show what it claims."""
    from ledger.genesis import load_genesis
    from ledger.proofs import verify_bytes
    from ledger.wire.proofs import PROOF_BYTES_MAX
    from lossbook_sdk.values import parse_id

    expected = parse_id(chain_id.replace(" ", ""), "chain id", 32) if chain_id else None
    network = load_genesis(genesis.read_bytes(), expected)
    if file.stat().st_size > PROOF_BYTES_MAX:
        fail(f"{file} has more than {PROOF_BYTES_MAX:,} bytes: it is no proof", "Name the right file", 4)
    proven = verify_bytes(file.read_bytes(), network)
    if as_json:
        emit(
            {
                "verified": True,
                "chain_id": network.chain_id.hex(),
                "height": proven.header.height,
                "state_height": proven.header.state_height,
                "signatures": proven.signatures,
            }
            | _document(proven)
        )
        return
    facts(
        [
            ("verified", f"on network {network.name}, chain id {network.chain_id.hex()[:16]}"),
            ("block", proven.header.height),
            ("signatures", f"{proven.signatures} checked"),
            *((name.replace("_", " "), value) for name, value in _flat(_document(proven))),
        ]
    )


def _document(proven: Proven) -> dict[str, Any]:
    from cli.record import decode
    from ledger import codes

    if proven.receipt is not None:
        receipt = proven.receipt
        return {
            "subject": "receipt",
            "envelope_id": receipt.envelope_id.hex(),
            "executed_at": receipt.height,
            "code": codes.name(receipt.code),
            "operations": [codes.name(code) for code in receipt.operation_codes],
        }
    if proven.envelope is not None:
        envelope = proven.envelope
        return {
            "subject": "envelope",
            "envelope_id": envelope.id.hex(),
            "organisation": envelope.organisation,
            "signer_keys": [key.hex() for key in envelope.signer_keys],
            "operations": [type(operation).__name__ for operation in envelope.operations],
        }
    return {
        "subject": "record",
        "key": proven.key.hex(),
        "written_at": proven.written_at,
        "stands_at": proven.header.state_height,
        "fields": decode(proven.key, proven.value),
    }


def _flat(document: dict[str, Any]) -> list[tuple[str, object]]:
    import json

    from cli.record import shown

    found: list[tuple[str, object]] = []
    for name, value in document.items():
        if name == "fields":
            found += [(f"  {field}", inner) for field, inner in shown(value)]
        else:
            found.append((name, json.dumps(value) if isinstance(value, list | dict) else value))
    return found
