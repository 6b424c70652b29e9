"""``lossbook key``: private keys in encrypted files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import fail, group
from cli.options import FILE, json_option, passphrase_option, profile_option, unsafe_option, write_options
from cli.output import emit, facts, say

if TYPE_CHECKING:
    from crypto.keys import SigningKey
    from ledger.operations import OrganisationChangeKey, OrganisationRegisterConsensusKey


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
        say("Back it up with its passphrase kept elsewhere. It acts once it is registered: `lossbook key possess`.")


@command.command(example="lossbook key show office/keys/underwriter.key")
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show the public key of a key file; needs no passphrase."""
    _show(file, as_json)


@command.command(
    example="lossbook key possess finance-3.key --role finance --genesis genesis.json --organisation alpha \\\n"
    "    --out add-key.json"
)
@click.argument("file", type=FILE)
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="What a signing key may do; may be repeated.")
@click.option("--drop", metavar="HEX", help="Signing key of the organisation that goes when this one comes.")
@click.option("--epoch", type=click.IntRange(min=1), help="Of a consensus key: the epoch it is for, the next one.")
@click.option("--organisation", help="Whose key it is to be. Default: the profile's.")
@click.option("--genesis", type=FILE, help="The network's genesis file. Default: the profile's.")
@click.option("--out", type=FILE, required=True, help="File to write: the operation, for `lossbook tx build`.")
@click.option(
    "--authorise",
    type=FILE,
    help="Also write what another admin submits within five minutes before, instead of co-signing.",
)
@profile_option
@passphrase_option
@json_option
def possess(
    file: Path,
    roles: tuple[str, ...],
    drop: str | None,
    epoch: int | None,
    organisation: str | None,
    genesis: Path | None,
    out: Path,
    authorise: Path | None,
    profile_name: str | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Let a new key sign that it is the organisation's, and write the operation that registers it.

    Its holder does this where the key lies, offline; an admin builds, signs and submits the operation. A signing key
    names its roles. A consensus key names its epoch; a node that still has its present key does this by itself.
    """
    import json

    from cli.session import passphrases
    from crypto import keyfile
    from ledger.genesis import load_genesis
    from ledger.operations import OrganisationChangeKey
    from lossbook_sdk import governance, operation_json
    from lossbook_sdk import profile as profiles
    from lossbook_sdk.wallet import Wallet
    from store.home import write_durably

    if genesis is None or organisation is None:
        profile = profiles.load(profiles.chosen(profile_name))
        genesis, organisation = genesis or profile.genesis, organisation or profile.organisation
    chain_id = load_genesis(genesis.read_bytes()).chain_id
    kind = keyfile.kind_of(file)
    key = Wallet({}, passphrases(passphrase_fd)).key(str(file))
    operation = _operation(kind, key, chain_id, organisation, roles=roles, drop=drop, epoch=epoch)
    document = operation_json.document(operation)
    if authorise is not None:
        if not isinstance(operation, OrganisationChangeKey):
            raise click.UsageError("--authorise is for signing keys: two admins co-sign a consensus key's registration")
        other = operation_json.document(governance.authorise_key(operation))
        write_durably(authorise, json.dumps([other], indent=2).encode() + b"\n")
    write_durably(out, json.dumps([document], indent=2).encode() + b"\n")
    if as_json:
        emit({"file": str(out), "organisation": organisation, "chain_id": chain_id.hex(), "operation": document})
        return
    facts(
        [
            ("file", out),
            ("organisation", organisation),
            ("network", chain_id.hex()[:16]),
            ("operation", document["kind"].replace("_", " ")),
            ("public key", key.public.hex()),
            ("roles", ", ".join(roles) or None),
            ("epoch", epoch),
            ("drops", drop),
            ("authorisation", authorise),
        ]
    )
    say(f"It holds no secret. An admin goes on: `lossbook tx build {out} --key admin --out {out.stem}.tx`.")


@command.command(
    example="lossbook key drop 3b1c5e0f9a2d4c7788a0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566 --key admin"
)
@click.argument("key", metavar="HEX|LABEL|FILE")
@write_options
def drop(key: str, **options: Any) -> None:
    """Take a signing key away from your organisation, for example a stolen one. Role: admin; two, from three admins on.

    From the block that executes it on the key signs nothing more. The last admin key cannot be dropped.
    """
    from cli.session import client, show_status, submit
    from crypto import keyfile
    from ledger.organisations import Role
    from lossbook_sdk import governance

    with client(options["profile_name"], options["passphrase_fd"]) as session:
        try:
            public = bytes.fromhex(key)
        except ValueError:
            public = keyfile.public_key(session.wallet.path(key))
        if len(public) != 32:
            raise click.BadParameter(f"{key[:80]!r} is no public key: 64 hex digits", param_hint="HEX|LABEL|FILE")
        operation = governance.change_key(session.genesis.chain_id, session.profile.organisation, drop=public)
        status = submit(
            session,
            [operation],
            role=Role.ADMIN,
            keys=options["keys"],
            wait=options["wait"],
            not_after=options["not_after"],
        )
    show_status(status, options["as_json"], dropped=public.hex())


def _operation(
    kind: str,
    key: SigningKey,
    chain_id: bytes,
    organisation: str,
    *,
    roles: tuple[str, ...],
    drop: str | None,
    epoch: int | None,
) -> OrganisationChangeKey | OrganisationRegisterConsensusKey:
    from ledger.organisations import ORGANISATION_ID
    from lossbook_sdk import governance
    from lossbook_sdk.values import parse_id, parse_roles

    if not ORGANISATION_ID.fullmatch(organisation):
        raise click.BadParameter(f"{organisation[:40]!r} is no organisation id", param_hint="--organisation")
    if kind == "consensus":
        if epoch is None or roles or drop:
            raise click.UsageError("a consensus key takes --epoch, and neither --role nor --drop")
        return governance.register_consensus_key(chain_id, organisation, epoch=epoch, key=key)
    if kind != "role":
        fail(
            f"a {kind} key is no signing key: it changes with the organisation's card",
            "Make a card with it and have it voted for: `lossbook governance propose rotate CARD.json`",
        )
    if not roles or epoch is not None:
        raise click.UsageError("a signing key takes --role, and no --epoch")
    dropped = parse_id(drop, "public key", 32) if drop else b""
    return governance.change_key(chain_id, organisation, key=key, roles=parse_roles(roles), drop=dropped)


def _show(file: Path, as_json: bool) -> None:
    from crypto import keyfile

    public, encrypted, kind = keyfile.public_key(file), keyfile.is_encrypted(file), keyfile.kind_of(file)
    if as_json:
        emit({"file": str(file), "kind": kind, "public_key": public.hex(), "encrypted": encrypted})
    else:
        facts([("file", file), ("kind", kind), ("public key", public.hex()), ("encrypted", encrypted)])
