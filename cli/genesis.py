"""``lossbook genesis``: the ceremony that founds a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.base import EXIT_UNVERIFIED, Stop, fail, group, require_new
from cli.options import FILE, FOLDER, json_option, old_genesis_option, passphrase_option, unsafe_option
from cli.output import emit, facts, say, table

if TYPE_CHECKING:
    from ledger.cards import Card
    from ledger.genesis import Genesis
    from ledger.parameters import Parameters
    from services.books import Books

KINDS = ("insurer", "reinsurer", "supervisor", "data-source", "adjuster-firm", "provider", "intermediary", "trust")


@group(example="lossbook genesis check genesis.json")
def command() -> None:
    """The ceremony that founds a network.

    Each organisation makes its own keys and a signed public card (`card`) and hands over the card, nothing else.
    Anybody puts the cards together (`assemble`). Everybody checks the file and reads its chain id to the others, aloud
    (`check`). Nobody ever holds another's key.
    """


@command.command(
    example="lossbook genesis card --office ./office --id alpha --name 'Alpha Insurance' --kind insurer \\\n"
    "    --peer-address 10.0.0.1:7100 --public-address 10.0.0.1:7101"
)
@click.option("--office", type=FOLDER, required=True, help="Folder of your keys and card; made if it is not there.")
@click.option("--id", "organisation", required=True, help="Your id on the network: 2 to 32 of a-z, 0-9 and -.")
@click.option("--name", required=True, help="Name of the company.")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What the organisation is.")
@click.option("--validator/--no-validator", default=None, help="Whether it votes. Default: insurers do.")
@click.option("--peer-address", default="", metavar="HOST:PORT", help="Where the other members' nodes reach yours.")
@click.option("--public-address", default="", metavar="HOST:PORT", help="Where clients reach your node or replica.")
@click.option(
    "--role-key",
    "role_keys",
    multiple=True,
    metavar="LABEL=ROLE[,ROLE]",
    help="A signing key and its roles; may be repeated. Default: one or two for each desk.",
)
@unsafe_option
@passphrase_option
@json_option
def card(
    office: Path,
    organisation: str,
    name: str,
    kind: str,
    validator: bool | None,
    peer_address: str,
    public_address: str,
    role_keys: tuple[str, ...],
    unsafe: bool,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Make your keys and your signed card.

    Keys that are there already are kept, so a card can be made again with another address.
    """
    from cli import ceremony
    from cli.session import new_passphrase

    votes = kind == "insurer" if validator is None else validator
    made = ceremony.make_card(
        office,
        organisation=organisation,
        kind=kind,
        name=name,
        validator=votes,
        peer_address=peer_address,
        public_address=public_address,
        role_keys=_role_keys(role_keys) if role_keys else ceremony.default_keys(kind),
        passphrase=new_passphrase(passphrase_fd, unsafe, office),
    )
    path = office / "card.json"
    if as_json:
        emit({"card": str(path), "organisation": made.id, "ledger_key": made.body.ledger_key})
        return
    facts([("card", path), ("organisation", made.id), ("ledger key", made.body.ledger_key)])
    say("Hand over the card. Keep everything else in the office to yourself, and back its keys up.")


@command.command(example="lossbook genesis assemble alpha.json beta.json gamma.json delta.json --name market")
@click.argument("cards", nargs=-1, required=True, type=FILE)
@click.option("--name", required=True, help="What people call the network.")
@click.option("--out", type=FILE, default=Path("genesis.json"), show_default=True, help="File to write.")
@click.option("--time", "time_text", metavar="ISO8601", help="Block time of height 0. Default: now.")
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A network parameter other than its default; may be repeated.",
)
@click.option(
    "--four-eyes",
    "four_eyes",
    multiple=True,
    metavar="AMOUNT",
    help="An allowed currency, and the amount above which two people sign; may be repeated. "
    "Default: '100000.00 USD' and '100000.00 EUR'.",
)
@click.option(
    "--continue",
    "archive",
    type=FILE,
    metavar="ARCHIVE",
    help="Carry on the books of a network that was lost; parameters that are not given stay as they were.",
)
@old_genesis_option
@json_option
def assemble(
    cards: tuple[Path, ...],
    name: str,
    out: Path,
    time_text: str | None,
    parameters: tuple[str, ...],
    four_eyes: tuple[str, ...],
    archive: Path | None,
    old_genesis: Path | None,
    as_json: bool,
) -> None:
    """Put the cards together into the genesis file; the same file whoever does it with the same words."""
    from cli.books import books_given
    from ledger.genesis import assemble as put_together
    from ledger.genesis import load_genesis
    from ledger.parameters import Parameters
    from store.home import write_durably

    require_new(out)
    read = [_read_card(path) for path in cards]
    time_ms, books = _time_ms(time_text), books_given(archive, old_genesis)
    if books is None:
        raw = put_together(
            read, name=name, time_ms=time_ms, parameters=_parameters(parameters, four_eyes, Parameters())
        )
    else:
        from cli.books import assemble_on_books

        raw = assemble_on_books(
            books,
            read,
            name=name,
            time_ms=time_ms,
            change=lambda before: _parameters(parameters, four_eyes, before),
        )
    write_durably(out, raw)
    out.chmod(0o644)
    genesis = load_genesis(raw)
    if as_json:
        emit({"genesis": str(out), "chain_id": genesis.chain_id.hex(), "organisations": len(read)})
        return
    facts([("genesis", out), ("chain id", aloud(genesis.chain_id)), ("organisations", len(read))])
    say("Give it to every organisation; each runs `lossbook genesis check` and reads the chain id aloud.")


@command.command(example="lossbook genesis check genesis.json --card office/card.json")
@click.argument("file", type=FILE)
@click.option("--chain-id", metavar="HEX", help="What the others read; must be equal.")
@click.option("--card", "card_file", type=FILE, help="Your own card; must stand in the file unchanged.")
@click.option("--state", type=FILE, metavar="ARCHIVE", help="Of a rebuilt network: the books it carries on.")
@old_genesis_option
@json_option
def check(
    file: Path,
    chain_id: str | None,
    card_file: Path | None,
    state: Path | None,
    old_genesis: Path | None,
    as_json: bool,
) -> None:
    """Check every signature and rule of a genesis file, and show its chain id.

    Of a rebuilt network, everything is verified from the old genesis file on and computed again: no member takes part
    on another's word. Books that end below a checkpoint you accepted of the old network, or contradict it, are refused.
    """
    from cli.books import books_given
    from ledger.genesis import load_genesis
    from lossbook_sdk.values import parse_id

    expected = parse_id(chain_id.replace(" ", ""), "chain id", 32) if chain_id else None
    with _verifying():
        books = books_given(state, old_genesis)
        genesis = load_genesis(file.read_bytes(), expected)
        if card_file is not None:
            _require_card(genesis, file, card_file)
        carried = _carried(genesis, books)
    if as_json:
        shown = {"chain_id": genesis.chain_id.hex(), "name": genesis.name, "organisations": len(genesis.organisations)}
        emit(shown | {name.replace(" ", "_"): value for name, value in carried})
        return
    facts(
        [
            ("network", genesis.name),
            ("chain id", aloud(genesis.chain_id)),
            ("organisations", len(genesis.organisations)),
            ("validators", len(genesis.validators)),
            ("checked", "every card's signature, proof of possession and certificate; no id or key twice"),
            *carried,
        ]
    )


@command.command(example="lossbook genesis archive --home ./node --out market.archive")
@click.option("--home", type=FOLDER, required=True, help="The home that is left, of a node or a replica; stopped.")
@click.option("--out", type=FILE, required=True, help="File to write.")
@json_option
def archive(home: Path, out: Path, as_json: bool) -> None:
    """Hand on the books of the one home that is left, so that the network can be founded anew on them.

    The home is checked as `doctor` does, and not changed. The archive proves itself against the genesis file.
    """
    from cli.books import hand_on

    require_new(out)
    hand_on(home, out, as_json)


@command.command(example="lossbook genesis show genesis.json")
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show who takes part, with keys, roles and addresses, and the parameters."""
    from ledger.genesis import load_genesis

    genesis = load_genesis(file.read_bytes())
    if as_json:
        emit(_document(genesis))
        return
    from lossbook_sdk.values import render_time

    facts(
        [
            ("network", genesis.name),
            ("chain id", aloud(genesis.chain_id)),
            ("time", render_time(genesis.time_ms)),
            *_predecessor(genesis),
        ]
    )
    click.echo()
    table(
        ("organisation", "kind", "votes", "reads", "follows", "peers", "clients"),
        (
            (
                one.id,
                one.body.kind,
                one.is_validator,
                genesis.may_read(one.id),
                genesis.may_subscribe(one.id),
                one.body.peer_address or "-",
                one.body.public_address or "-",
            )
            for one in genesis.organisations
        ),
    )
    click.echo()
    table(
        ("organisation", "key", "roles", "public key"),
        (
            (one.id, key.label, ", ".join(key.roles), key.public)
            for one in genesis.organisations
            for key in one.body.keys
        ),
    )


@contextmanager
def _verifying() -> Iterator[None]:
    """Whatever is wrong with a file that is being checked: the verification failed."""
    from ledger.cards import GenesisError
    from services.books import BooksIncomplete

    try:
        yield
    except BooksIncomplete:
        raise
    except GenesisError as error:
        raise Stop(error.problem, error.advice, EXIT_UNVERIFIED) from error


def _read_card(path: Path) -> Card:
    """The card in a file; of one that is no card, the file is named."""
    from ledger.cards import UnreadableCard, decode_card

    try:
        return decode_card(path.read_bytes())
    except UnreadableCard as error:
        raise Stop(f"{path}: {error.problem}", error.advice, EXIT_UNVERIFIED) from error


def _require_card(genesis: Genesis, file: Path, card_file: Path) -> None:
    own = _read_card(card_file)
    found = genesis.organisation(own.id)
    if found is None or found.text != own.text:
        fail(
            f"the card of {own.id} does not stand in {file} as it is in {card_file}",
            "Hand your card over again and have the genesis assembled anew",
            EXIT_UNVERIFIED,
        )


def _carried(genesis: Genesis, books: Books | None) -> list[tuple[str, Any]]:
    """What was found of the books that a rebuilt network carries on."""
    if books is not None:
        from cli.books import check_on_books

        return check_on_books(books, genesis)
    if genesis.predecessor is not None:
        before = genesis.predecessor.chain_id.hex()[:16]
        fail(
            f"{genesis.name} carries on the books of network {before}, and they were not checked",
            "Give the archive and the genesis of that network: --state ARCHIVE --old-genesis FILE",
            EXIT_UNVERIFIED,
        )
    return []


def aloud(chain_id: bytes) -> str:
    """Hex in groups of four, as people read it to each other."""
    text = chain_id.hex()
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _document(genesis: Genesis) -> dict[str, Any]:
    import msgspec

    return {
        "name": genesis.name,
        "chain_id": genesis.chain_id.hex(),
        "time_ms": genesis.time_ms,
        "predecessor": msgspec.to_builtins(genesis.predecessor.file()) if genesis.predecessor is not None else None,
        "parameters": msgspec.to_builtins(genesis.parameters),
        "organisations": [
            msgspec.to_builtins(one.body)
            | {"may_read": genesis.may_read(one.id), "may_subscribe": genesis.may_subscribe(one.id)}
            for one in genesis.organisations
        ],
    }


def _predecessor(genesis: Genesis) -> list[tuple[str, Any]]:
    before = genesis.predecessor
    if before is None:
        return []
    return [
        ("carries on", aloud(before.chain_id)),
        ("last block", f"{before.height}, epoch {before.epoch}, {before.header_digest.hex()}"),
        ("its state root", before.state_root.hex()),
        ("first height", genesis.height + 1),
    ]


def _role_keys(pairs: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        label, separator, roles = pair.partition("=")
        if (
            not separator
            or not label
            or not roles
            or "/" in label
            or label in ("ledger", "consensus")
            or label in found
        ):
            raise click.BadParameter(
                f"{pair!r} is not LABEL=ROLE[,ROLE] with a label of its own", param_hint="--role-key"
            )
        found[label] = tuple(role.strip() for role in roles.split(","))
    return found


def _time_ms(text: str | None) -> int:
    import datetime
    import time

    if text is None:
        return time.time_ns() // 1_000_000
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a time like 2025-01-31T12:00:00Z", param_hint="--time") from error
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} names no time zone: end it with Z for UTC", param_hint="--time")
    return int((moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(milliseconds=1))


def _parameters(pairs: tuple[str, ...], four_eyes: tuple[str, ...], before: Parameters) -> Parameters:
    """``before`` with what is given."""
    import msgspec

    from ledger.money import MINOR_DIGITS
    from ledger.parameters import Parameters
    from lossbook_sdk.values import parse_amount

    given: dict[str, Any] = msgspec.to_builtins(before)
    amounts = [parse_amount(text) for text in four_eyes]
    if amounts:
        given["currencies"] = {
            amount.currency: {"minor_digits": MINOR_DIGITS[amount.currency], "four_eyes_minor": amount.minor}
            for amount in amounts
        }
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--parameter")
        given[name] = value
    try:
        return msgspec.convert(given, Parameters, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(Parameters.__struct_fields__)
        raise click.BadParameter(f"{error}; parameters: {known}", param_hint="--parameter") from error
