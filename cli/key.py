"""``lossbook key``: private keys in encrypted files."""

from __future__ import annotations

from pathlib import Path

import click

from cli.base import group
from cli.options import FILE, json_option, passphrase_option, unsafe_option
from cli.output import emit, facts, say


@group(example="lossbook key show office/keys/underwriter.key")
def command() -> None:
    """Private keys in files of mode 0600, encrypted under a passphrase (Argon2id, XChaCha20-Poly1305)."""


@command.command(example="lossbook key create handler-3.key")
@click.argument("file", type=FILE)
@click.option(
    "--kind",
    type=click.Choice(["role", "ledger", "consensus"]),
    default="role",
    show_default=True,
    help="What it is for: signing as a person or system, the organisation itself, or voting.",
)
@unsafe_option
@passphrase_option
@json_option
def create(file: Path, kind: str, unsafe: bool, passphrase_fd: int | None, as_json: bool) -> None:
    """Make a new key; an existing file is never written over."""
    from cli.session import new_passphrase
    from crypto import keyfile
    from crypto.keys import SigningKey

    key = SigningKey.generate()
    if file.exists():
        raise keyfile.KeyFileExists(file, "exists already, and a key is never overwritten: give another name")
    passphrase = new_passphrase(passphrase_fd, unsafe, file)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    keyfile.save(file, key, kind, passphrase, unsafe_plaintext=unsafe)
    _show(file, as_json)
    if not as_json:
        say("Back it up with its passphrase kept elsewhere. It acts once it stands on a card in the genesis.")


@command.command(example="lossbook key show office/keys/underwriter.key")
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show the public key of a key file; needs no passphrase."""
    _show(file, as_json)


def _show(file: Path, as_json: bool) -> None:
    import json

    from crypto import keyfile

    public, encrypted = keyfile.public_key(file), keyfile.is_encrypted(file)
    kind = json.loads(file.read_bytes())["kind"]
    if as_json:
        emit({"file": str(file), "kind": kind, "public_key": public.hex(), "encrypted": encrypted})
    else:
        facts([("file", file), ("kind", kind), ("public key", public.hex()), ("encrypted", encrypted)])
