"""``lossbook checkpoint``: what people vouch for, where signatures of validators no longer suffice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import EXIT_UNVERIFIED, fail, group, require_new
from cli.options import FILE, FOLDER, json_option, passphrase_option, profile_option
from cli.output import emit, facts, say

if TYPE_CHECKING:
    from crypto.keys import SigningKey
    from ledger.checkpoints import Anchor, Checkpoint
    from lossbook_sdk.client import Client

KEY_OPTION = click.option(
    "--key", "key_file", type=FILE, required=True, help="Your organisation's ledger key, ledger.key."
)


@group(example="lossbook checkpoint accept checkpoint.json --home ./replica")
def command() -> None:
    """What people vouch for, where signatures of validators no longer suffice.

    Whoever collects old consensus keys could sign a second history. A verifier that was away for longer than the
    trusting period, or begins with an old genesis, therefore takes a checkpoint: a final block that its supervisor and
    f + 1 members of the last set it knows have signed with their ledger keys. The supervisor makes it (`make`), members
    compare it with their own node and sign (`sign`), the verifier accepts it (`accept`) and never goes below it again.
    """


@command.command(example="lossbook checkpoint make --out checkpoint.json --key office/keys/ledger.key")
@click.option("--out", type=FILE, required=True, help="File to write; must not exist.")
@KEY_OPTION
@profile_option
@passphrase_option
@json_option
def make(out: Path, key_file: Path, profile_name: str | None, passphrase_fd: int | None, as_json: bool) -> None:
    """Make a checkpoint of the last block your node or replica proves, and sign it."""
    from cli.checkpoint_making import latest
    from cli.session import client
    from ledger.checkpoints import encode_checkpoint
    from store.home import write_durably

    require_new(out)
    key = _ledger_key(key_file, passphrase_fd)
    with client(profile_name) as session:
        made = latest(session)
        signer = _signer(made, key, session)
    signed = made.signed(signer, key)
    write_durably(out, encode_checkpoint(signed))
    _show(signed, as_json, file=str(out))
    if not as_json:
        say(f"Hand it to the members: each signs it with `lossbook checkpoint sign {out} --key ledger.key`.")


@command.command(example="lossbook checkpoint sign checkpoint.json --key office/keys/ledger.key")
@click.argument("file", type=FILE)
@KEY_OPTION
@profile_option
@passphrase_option
@json_option
def sign(file: Path, key_file: Path, profile_name: str | None, passphrase_fd: int | None, as_json: bool) -> None:
    """Compare a checkpoint with what your own node proves, and add your signature to the file."""
    from cli.checkpoint_making import of_height
    from cli.session import client
    from ledger.checkpoints import encode_checkpoint
    from lossbook_sdk.pins import read_checkpoint
    from store.home import write_durably

    given = read_checkpoint(file)
    with client(profile_name) as session:
        _require_network(file, given, session)
        key = _ledger_key(key_file, passphrase_fd)
        signer = _signer(given, key, session)
        own = of_height(session, given.body.height)
    if own.text != given.text:
        fields = own.body.__struct_fields__
        differing = [name for name in fields if getattr(own.body, name) != getattr(given.body, name)]
        fail(
            f"{file} is not what your own node proves: {', '.join(differing) or 'its text'} differ. It was not signed",
            "If only `confirmers` differ, a member or ledger key has changed since: ask for a newer one. Otherwise "
            "tell your supervisor at once",
            EXIT_UNVERIFIED,
        )
    signed = given.signed(signer, key)
    write_durably(file, encode_checkpoint(signed))
    _show(signed, as_json, file=str(file))


@command.command(example="lossbook checkpoint verify checkpoint.json --genesis genesis.json")
@click.argument("file", type=FILE)
@click.option("--genesis", type=FILE, required=True, help="The network's genesis file.")
@json_option
def verify(file: Path, genesis: Path, as_json: bool) -> None:
    """Check offline whether enough people vouch for a checkpoint, by what you accepted last; nothing is changed.

    Signatures that do not count are named, each with the reason; they do no harm. Exit code 4 if too few count.
    """
    from ledger.genesis import load_genesis
    from ledger.vouching import confirm, judge
    from lossbook_sdk.pins import pin_path, read_checkpoint

    network = load_genesis(genesis.read_bytes())
    given = read_checkpoint(file)
    anchor = anchor_of(pin_path(network.chain_id), network)
    by = confirm(given, anchor)
    idle = {each.organisation: each.why_not for each in judge(given, anchor) if each.why_not}
    _show(given, as_json, confirmed_by=by, not_counted=idle, believed_before=anchor.what)


@command.command(example="lossbook checkpoint accept checkpoint.json --home ./replica")
@click.argument("file", type=FILE)
@click.option("--home", type=FOLDER, help="Home of a stopped replica that is to follow it.")
@click.option("--genesis", type=FILE, help="The network's genesis file: proofs you verify here start from it.")
@json_option
def accept(file: Path, home: Path | None, genesis: Path | None, as_json: bool) -> None:
    """Believe a checkpoint from now on, if enough people vouch for it; there is no way back below it.

    With --home a replica does, with --genesis you do, on this machine: `lossbook proof verify` starts from it.
    """
    from lossbook_sdk.pins import read_checkpoint

    given = read_checkpoint(file)
    if (home is None) == (genesis is None):
        raise click.UsageError("Name who is to believe it: --home of a replica, or --genesis for yourself.")
    path, by = _accept_home(home, given) if home is not None else _accept_here(genesis, given)
    _show(given, as_json, confirmed_by=by, kept_in=str(path))
    if home is not None and not as_json:
        say(f"Start the replica: `lossbook replica start --home {home}`.")


def anchor_of(path: Path, network: Any) -> Anchor:
    """What this person believes of a network: the checkpoint accepted last, else the genesis."""
    from ledger.checkpoints import Anchor
    from lossbook_sdk.pins import read_pin

    pin = read_pin(path, network.chain_id)
    return Anchor.of_checkpoint(pin) if pin is not None else Anchor.of_genesis(network)


def _accept_here(genesis: Path | None, given: Checkpoint) -> tuple[Path, list[str]]:
    from ledger.genesis import load_genesis
    from lossbook_sdk import pins

    network = load_genesis(genesis.read_bytes() if genesis is not None else b"")
    path = pins.pin_path(network.chain_id)
    return path, pins.accept(path, given, anchor_of(path, network))


def _accept_home(home: Path, given: Checkpoint) -> tuple[Path, list[str]]:
    from replica.checkpoint import FILE_NAME, accept_in_home

    return home / FILE_NAME, accept_in_home(home, given)


def _ledger_key(path: Path, descriptor: int | None) -> SigningKey:
    from cli.session import key_passphrase
    from crypto import keyfile

    return keyfile.load(path, key_passphrase(path, descriptor), "ledger")


def _require_network(file: Path, given: Checkpoint, session: Client) -> None:
    """End the command where the file is of another network than the profile."""
    if given.chain_id != session.genesis.chain_id:
        own, other = session.genesis.chain_id.hex()[:16], given.body.chain_id[:16]
        fail(
            f"{file} is of network {other}, and your profile is of {session.genesis.name}, network {own}",
            "Choose the profile of that network with --profile, or ask for the right file",
            EXIT_UNVERIFIED,
        )


def _signer(checkpoint: Checkpoint, key: SigningKey, session: Client) -> str:
    """Whose ledger key it is, among those who may confirm the checkpoint's successors: the profile's organisation.

    It vouches for what its own node proves, not for what another's does.
    """
    public = key.public.hex()
    found = [each.organisation for each in checkpoint.body.confirmers if each.ledger_key == public]
    if not found:
        fail(
            "this key is the ledger key of no supervisor and no validator of that block",
            "Sign with the ledger key on your organisation's card: `lossbook key show FILE` shows a file's public key",
        )
    signer, own = found[0], session.profile.organisation
    if signer != own:
        fail(
            f"this is the ledger key of {signer}, and your profile is {own}'s. Nothing was signed",
            f"Choose {signer}'s profile with --profile: an organisation vouches for what its own node proves",
        )
    return signer


def _show(checkpoint: Checkpoint, as_json: bool, **extra: object) -> None:
    from lossbook_sdk.values import render_time

    body = checkpoint.body
    by = [each.organisation for each in checkpoint.signatures]
    if as_json:
        shown = {name: getattr(body, name) for name in body.__struct_fields__ if name not in ("members", "confirmers")}
        emit(shown | {"members": [each.organisation for each in body.members], "signed_by": by} | extra)
        return
    facts(
        [
            ("network", body.chain_id),
            ("height", body.height),
            ("block", body.header_digest),
            ("time", render_time(body.time_ms)),
            ("epoch", body.epoch),
            ("validator set", body.valset_hash),
            ("members", ", ".join(each.organisation for each in body.members)),
            ("state root", f"{body.state_root} after height {body.state_height}"),
            ("signed by", ", ".join(by) or "nobody"),
            *((name.replace("_", " "), _line(value)) for name, value in extra.items()),
        ]
    )


def _line(value: object) -> object:
    """A list or a map of words, for people; no line where it is empty."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {why}" for name, why in value.items()) or None
    return ", ".join(value) or None if isinstance(value, list) else value
