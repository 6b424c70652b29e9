"""``lossbook profile``: who you are and where your commands go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.base import fail, group
from cli.options import FILE, FOLDER, json_option, passphrase_option
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from lossbook_sdk.profile import Node


@group(example="lossbook profile show")
def command() -> None:
    """Who you are and where your commands go: organisation, keys, genesis, nodes.

    Which one is used: --profile, else LOSSBOOK_PROFILE, else the one `profile use` chose, else the only one there is.
    """


@command.command(example="lossbook profile create alpha --office ./office --genesis genesis.json")
@click.argument("name")
@click.option("--office", type=FOLDER, required=True, help="Folder with your keys (`lossbook genesis card`).")
@click.option("--genesis", type=FILE, required=True, help="The network's genesis file.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="ORG=HOST:PORT",
    help="A node to talk to, in order of preference. Default: all validators, your own first.",
)
@click.option(
    "--card",
    "card_file",
    type=FILE,
    help="The organisation's card file, where it is not the genesis' but was voted in.",
)
@passphrase_option
@json_option
def create(
    name: str,
    office: Path,
    genesis: Path,
    nodes: tuple[str, ...],
    card_file: Path | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Write a profile, and issue the client certificate it uses with your ledger key.

    What happened since the genesis, who joined and who votes now, the client learns by itself, proved, and keeps beside
    the profile.
    """
    from cli import ceremony
    from cli.session import key_passphrase
    from crypto import keyfile
    from ledger.cards import decode_card
    from ledger.genesis import load_genesis
    from lossbook_sdk import profile as profiles

    network = load_genesis(genesis.read_bytes())
    ledger_key = office / "keys" / "ledger.key"
    public = keyfile.public_key(ledger_key)
    cards = network.organisations if card_file is None else [decode_card(card_file.read_bytes())]
    card = next((one for one in cards if one.ledger_key == public), None)
    if card is None:
        fail(
            f"the ledger key of {office} stands on no card of {card_file or 'this genesis'}",
            "Use the office that made the card, or the genesis.json that contains it; --card if it was voted in later",
        )
    target = profiles.path_of(name)
    if target.exists():
        fail(f"profile {target} exists already", "Choose another name, or remove the file first")
    target.parent.mkdir(parents=True, exist_ok=True)
    ceremony.issue_client(
        office,
        genesis=genesis,
        chain_id=network.chain_id,
        organisation=card.id,
        labels=[key.label for key in card.body.keys if (office / "keys" / f"{key.label}.key").exists()],
        passphrase=key_passphrase(ledger_key, passphrase_fd),
        target=target,
        nodes=[_node(pair) for pair in nodes],
    )
    if as_json:
        emit({"profile": name, "file": str(target), "organisation": card.id})
    else:
        facts([("profile", name), ("file", target), ("organisation", card.id)])


@command.command(example="lossbook profile show alpha")
@click.argument("name", required=False)
@json_option
def show(name: str | None, as_json: bool) -> None:
    """Show a profile (default: the one in use), and what others there are."""
    from lossbook_sdk import profile as profiles
    from lossbook_sdk.trust import Trust

    found = profiles.load(profiles.chosen(name))
    trust = Trust.of_profile(found)
    genesis = trust.genesis
    nodes = found.nodes_of(genesis, trust.cards_of_validators())
    if as_json:
        emit(
            {
                "profile": found.name,
                "file": str(found.path),
                "organisation": found.organisation,
                "network": genesis.name,
                "chain_id": genesis.chain_id.hex(),
                "epoch": trust.latest_epoch,
                "validators": list(trust.validators()),
                "nodes": [{"organisation": node.organisation, "address": node.address} for node in nodes],
                "keys": {label: str(path) for label, path in found.keys.items()},
                "others": [other for other in profiles.names() if other != found.name],
            }
        )
        return
    facts(
        [
            ("profile", f"{found.name} ({found.path})"),
            ("organisation", found.organisation),
            ("network", f"{genesis.name}, chain id {genesis.chain_id.hex()[:16]}"),
            ("proved so far", f"epoch {trust.latest_epoch}: {', '.join(trust.validators())}"),
            ("nodes", ", ".join(str(node) for node in nodes) or "none"),
        ]
    )
    click.echo()
    card = trust.card(found.organisation)
    roles = {key.public: ", ".join(key.roles) for key in (card.body.keys if card is not None else ())}
    table(("key", "roles", "file"), ((label, _roles(path, roles), path) for label, path in found.keys.items()))
    others = [other for other in profiles.names() if other != found.name]
    if others:
        say(f"Others: {', '.join(others)}. `lossbook profile use NAME` chooses one.")


@command.command(example="lossbook profile use beta")
@click.argument("name")
@json_option
def use(name: str, as_json: bool) -> None:
    """Choose the profile that commands use where none is named."""
    from lossbook_sdk import profile as profiles

    path = profiles.choose(name)
    if as_json:
        emit({"profile": path.stem, "file": str(path)})
    else:
        facts([("profile", path.stem), ("file", path)])


def _node(pair: str) -> Node:
    from lossbook_sdk.profile import Node

    organisation, separator, address = pair.partition("=")
    if not separator or ":" not in address:
        raise click.BadParameter(f"{pair!r} is not ORG=HOST:PORT", param_hint="--node")
    return Node(organisation, address)


def _roles(path: Path, roles: dict[str, str]) -> str:
    from crypto import keyfile

    try:
        return roles.get(keyfile.public_key(path).hex(), "not on the card")
    except keyfile.KeyFileError as error:
        return str(error)
