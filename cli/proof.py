"""``lossbook proof``: check proofs offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import fail, group
from cli.options import FILE, json_option
from cli.output import emit, facts

if TYPE_CHECKING:
    from ledger.checkpoints import Anchor
    from ledger.genesis import Genesis
    from ledger.known_epochs import KnownEpochs
    from ledger.proofs import Proven


FRESH = (
    "Take a fresh checkpoint from your supervisor and f + 1 members: "
    "`lossbook checkpoint accept FILE --genesis GENESIS`"
)


@group(example="lossbook proof verify policy.proof --genesis genesis.json")
def command() -> None:
    """Check proofs offline: from the genesis file alone, without network and without anybody's word."""


@command.command(example="lossbook proof verify policy.proof --genesis genesis.json")
@click.argument("file", type=FILE)
@click.option("--genesis", type=FILE, required=True, help="The network's genesis file.")
@click.option("--chain-id", metavar="HEX", help="Must be the genesis' chain id, as read aloud at the ceremony.")
@click.option("--checkpoint", type=FILE, help="Start from this checkpoint, if what you accepted last confirms it.")
@click.option(
    "--trusting-period",
    "days",
    metavar="DAYS",
    type=click.IntRange(1, 3650),
    default=30,
    show_default=True,
    help="How old what you start from may be by this machine's clock.",
)
@click.option("--unsafe-old-anchor", is_flag=True, help="Start from what is older all the same: an archive's proofs.")
@json_option
def verify(
    file: Path,
    genesis: Path,
    chain_id: str | None,
    checkpoint: Path | None,
    days: int,
    unsafe_old_anchor: bool,
    as_json: bool,
) -> None:
    """Check a proof file; exit code 4 if it does not show what it claims.

    It starts from the checkpoint you accepted last (`lossbook checkpoint accept`), else from the genesis, and refuses
    where that is too old to believe signatures of validators from there.
    """
    from ledger.genesis import load_genesis
    from lossbook_sdk.values import parse_id

    expected = parse_id(chain_id.replace(" ", ""), "chain id", 32) if chain_id else None
    network = load_genesis(genesis.read_bytes(), expected)
    proven, anchor = verified(file, network, checkpoint, None if unsafe_old_anchor else days)
    if as_json:
        emit(
            {
                "verified": True,
                "chain_id": network.chain_id.hex(),
                "height": proven.header.height,
                "state_height": proven.header.state_height,
                "signatures": proven.signatures,
                "from": anchor.what,
            }
            | _document(proven)
        )
        return
    facts(
        [
            ("verified", f"on network {network.name}, chain id {network.chain_id.hex()[:16]}"),
            ("block", proven.header.height),
            ("signatures", f"{proven.signatures} checked, from {anchor.what}"),
            *((name.replace("_", " "), value) for name, value in _flat(_document(proven))),
        ]
    )


def verified(file: Path, network: Genesis, checkpoint: Path | None, days: int | None) -> tuple[Proven, Anchor]:
    """What a proof file shows, and from where on it was followed.

    Args:
        checkpoint: to start from, if what was accepted last confirms it.
        days: the trusting period; None: whatever it starts from may be of any age.
    """
    from ledger.checkpoints import check_age
    from ledger.proofs import verify_bytes
    from ledger.wire.proofs import PROOF_BYTES_MAX
    from lossbook_sdk.envelopes import now_ms

    if file.stat().st_size > PROOF_BYTES_MAX:
        fail(f"{file} has more than {PROOF_BYTES_MAX:,} bytes: it is no proof", "Name the right file", 4)
    known, anchor = _start(network, checkpoint)
    proven = verify_bytes(file.read_bytes(), network, known=known)
    if days is not None:
        advice = f"{FRESH}, or say --unsafe-old-anchor where nobody can have collected old keys"
        check_age(anchor.what, anchor.time_ms, now_ms(), days, advice=advice)
    return proven, anchor


def _start(network: Genesis, checkpoint: Path | None) -> tuple[KnownEpochs, Anchor]:
    """What is believed before the proof is looked at: a checkpoint, else the genesis."""
    from cli.checkpoint import anchor_of
    from ledger.checkpoints import Anchor
    from ledger.known_epochs import KnownEpochs
    from ledger.vouching import confirm
    from lossbook_sdk.pins import pin_path, read_checkpoint, read_pin

    path = pin_path(network.chain_id)
    start = read_pin(path, network.chain_id)
    if checkpoint is not None:
        given = read_checkpoint(checkpoint)
        confirm(given, anchor_of(path, network))
        start = given
    if start is None:
        return KnownEpochs.of_genesis(network), Anchor.of_genesis(network)
    return start.known_epochs(network), Anchor.of_checkpoint(start)


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
