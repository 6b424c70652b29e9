"""``lossbook tx``: envelopes made offline, co-signed, submitted, looked up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import fail, group
from cli.options import FILE, json_option, passphrase_option, profile_option
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from lossbook_sdk.envelopes import Draft


@group(example="lossbook tx show 5f0c...e2")
def command() -> None:
    """Envelopes made offline, co-signed by several people, submitted, looked up.

    build writes a file; each signer runs sign on it; anybody submits it. The signer keys are fixed when it is built:
    they are part of what is signed.
    """


@command.command(example="lossbook tx build operations.json --key handler-1 --key handler-2 --out claim.tx")
@click.argument("operations", type=click.File("rb"))
@click.option("--key", "keys", multiple=True, metavar="LABEL|FILE", help="A key here that will sign; may be repeated.")
@click.option("--signer", "signers", multiple=True, metavar="HEX", help="Public key of a signer elsewhere.")
@click.option(
    "--not-after",
    metavar="SECONDS",
    type=click.IntRange(1, 30 * 86_400),
    default=3600,
    show_default=True,
    help="It executes within so many seconds or never.",
)
@click.option("--atomic", is_flag=True, help="All operations take effect or none.")
@click.option("--out", type=FILE, required=True, help="File to write.")
@profile_option
@json_option
def build(
    operations: Any,
    keys: tuple[str, ...],
    signers: tuple[str, ...],
    not_after: int,
    atomic: bool,
    out: Path,
    profile_name: str | None,
    as_json: bool,
) -> None:
    """Build an envelope from operations in JSON (a list; - reads stdin); nothing is signed or sent.

    An operation names its kind and the fields of operation.proto: ids in hex, dates as ISO 8601 or days, line and
    reason by name, amounts in minor units:

    [{"kind": "claim_close", "claim_id": "00112233445566778899aabbccddeeff", "asserted_date_days": "2025-01-31"}]
    """
    from crypto import keyfile
    from lossbook_sdk import envelopes
    from lossbook_sdk import profile as profiles
    from lossbook_sdk.operation_json import read_operations
    from lossbook_sdk.values import parse_id
    from lossbook_sdk.wallet import Wallet
    from store.home import write_durably

    profile = profiles.load(profiles.chosen(profile_name))
    genesis = profile.load_genesis_of()
    files = [Wallet(profile.keys).path(name) for name in keys]
    signer_keys = [keyfile.public_key(file) for file in files] + [parse_id(key, "public key", 32) for key in signers]
    if not signer_keys:
        raise click.UsageError("name at least one signer with --key or --signer")
    body = envelopes.build(
        chain_id=genesis.chain_id,
        organisation=profile.organisation,
        signer_keys=signer_keys,
        operations=read_operations(operations.read()),
        not_after_ms=envelopes.now_ms() + not_after * 1000,
        atomic=atomic,
    )
    draft = envelopes.Draft(body)
    write_durably(out, draft.encode())
    _tell(out, draft, as_json)


@command.command(example="lossbook tx sign claim.tx --key handler-2")
@click.argument("file", type=FILE)
@click.option("--key", "keys", multiple=True, required=True, metavar="LABEL|FILE", help="Key to sign with.")
@profile_option
@passphrase_option
@json_option
def sign(file: Path, keys: tuple[str, ...], profile_name: str | None, passphrase_fd: int | None, as_json: bool) -> None:
    """Look at an envelope file and add your signature to it."""
    from cli.session import passphrases
    from lossbook_sdk import profile as profiles
    from lossbook_sdk.envelopes import Draft
    from lossbook_sdk.errors import ProfileError
    from lossbook_sdk.wallet import Wallet
    from store.home import write_durably

    draft = Draft.decode(file.read_bytes())
    try:
        labels = dict(profiles.load(profiles.chosen(profile_name)).keys)
    except ProfileError:
        if profile_name is not None:
            raise
        labels = {}  # a signer on a machine of his own needs his key file only
    for key in Wallet(labels, passphrases(passphrase_fd)).keys(keys):
        draft.sign(key)
    write_durably(file, draft.encode())
    _tell(file, draft, as_json)


@command.command(example="lossbook tx submit claim.tx --wait proven")
@click.argument("file", type=FILE)
@click.option(
    "--wait",
    type=click.Choice(["accepted", "final", "proven"]),
    default="final",
    show_default=True,
    help="What to wait for.",
)
@profile_option
@json_option
def submit(file: Path, wait: str, profile_name: str | None, as_json: bool) -> None:
    """Submit a completely signed envelope file. Doing it again is safe: it executes at most once."""
    from cli.session import client, show_status
    from lossbook_sdk.answers import Stage
    from lossbook_sdk.envelopes import Draft

    signed = Draft.decode(file.read_bytes()).signed()
    with client(profile_name) as session:
        show_status(session.submit(signed, Stage[wait.upper()]), as_json)


@command.command(example="lossbook tx show 5f0c...e2 --prove receipt.proof")
@click.argument("envelope_id")
@click.option("--prove", "out", type=FILE, help="Write the receipt's proof to this file.")
@profile_option
@json_option
def show(envelope_id: str, out: Path | None, profile_name: str | None, as_json: bool) -> None:
    """Find what became of an envelope, for example after a time-out."""
    from cli.session import client
    from ledger import codes
    from ledger.wire.proofs import encode_proof
    from lossbook_sdk.values import parse_id, render_time
    from store.home import write_durably

    wanted = parse_id(envelope_id, "envelope id", 32)
    with client(profile_name) as session:
        found = session.run(session.query.receipt(wanted, prove=out is not None))
    if found is None:
        fail(
            f"no receipt of envelope {wanted.hex()[:16]} is known there",
            "It may still be on its way, have expired, or be long past: try again, or ask the supervisor's replica",
        )
    receipt, proof = found
    if out is not None and proof is not None:
        write_durably(out, encode_proof(proof))
    if as_json:
        emit(
            {
                "envelope_id": wanted.hex(),
                "height": receipt.height,
                "index": receipt.index,
                "position": receipt.position,
                "block_time_ms": receipt.block_time_ms,
                "code": codes.name(receipt.code),
                "operations": [codes.name(code) for code in receipt.operation_codes],
                "proof": str(out) if out is not None else None,
            }
        )
        return
    facts(
        [
            ("envelope", wanted.hex()),
            ("block", receipt.height),
            ("place in block", receipt.index),
            ("time", render_time(receipt.block_time_ms)),
            ("outcome", f"{codes.name(receipt.code)}: {codes.text(receipt.code)}"),
            ("proof", out),
        ]
    )
    refused = [(at + 1, codes.name(code), codes.text(code)) for at, code in enumerate(receipt.operation_codes) if code]
    if refused:
        click.echo()
        table((">operation", "code", "why"), refused)


def _tell(file: Path, draft: Draft, as_json: bool) -> None:
    from lossbook_sdk.values import render_time

    envelope = draft.envelope
    missing = [key.hex() for key in draft.missing]
    if as_json:
        emit(
            {
                "file": str(file),
                "envelope_id": draft.id.hex(),
                "organisation": envelope.organisation,
                "operations": len(envelope.operations),
                "not_after_ms": envelope.not_after_ms,
                "missing": missing,
            }
        )
        return
    facts(
        [
            ("file", file),
            ("envelope", draft.id.hex()),
            ("organisation", envelope.organisation),
            ("operations", ", ".join(type(operation).__name__ for operation in envelope.operations[:8])),
            ("not after", render_time(envelope.not_after_ms)),
            ("missing", ", ".join(key[:16] for key in missing) or "no signature"),
        ]
    )
    if missing:
        say(f"Have each of them sign: `lossbook tx sign {file} --key KEY`.")
    else:
        say(f"Complete: `lossbook tx submit {file}`.")
