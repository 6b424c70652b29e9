"""``lossbook governance propose``: one change each, as an operator thinks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.base import group
from cli.options import FILE, write_options
from cli.output import say

if TYPE_CHECKING:
    from cli.governance.standing import Network
    from lossbook_sdk.governance import Change

F = TypeVar("F", bound=Callable[..., Any])

DAY_MS = 86_400_000


def _proposal_options(function: F) -> F:
    days = click.option(
        "--days",
        type=click.IntRange(1, 30),
        default=14,
        show_default=True,
        help="It can be voted for within so many days of block time.",
    )
    identity = click.option("--id", "proposal_id", metavar="HEX", help="16 bytes. Default: random.")
    return identity(days(write_options(function)))


@group(example="lossbook governance propose parameter block_interval_ms=70 --from-height 5000")
def propose() -> None:
    """Propose a change; it counts as your organisation's vote. Only organisations with a seat propose.

    A change of who validates, and new consensus keys, wait for a quorum of the next validators to be ready, and begin a
    new epoch. Reasons belong into minutes: the ledger keeps what was decided, for ever.
    """


@propose.command(example="lossbook governance propose add epsilon-card.json")
@click.argument("cards", nargs=-1, required=True, type=FILE)
@_proposal_options
def add(cards: tuple[Path, ...], **options: Any) -> None:
    """Give organisations a seat: new ones, or members without one. Each card has a consensus key."""
    _propose_seats(options, add=cards)


@propose.command(example="lossbook governance propose remove delta")
@click.argument("organisations", nargs=-1, required=True)
@_proposal_options
def remove(organisations: tuple[str, ...], **options: Any) -> None:
    """Take seats away. The organisations stay members: they submit through others' nodes."""
    _propose_seats(options, remove=organisations)


@propose.command(example="lossbook governance propose suspend delta")
@click.argument("organisations", nargs=-1, required=True)
@_proposal_options
def suspend(organisations: tuple[str, ...], **options: Any) -> None:
    """Suspend seats, until a vote reinstates them."""
    _propose_seats(options, suspend=organisations)


@propose.command(example="lossbook governance propose reinstate delta")
@click.argument("organisations", nargs=-1, required=True)
@_proposal_options
def reinstate(organisations: tuple[str, ...], **options: Any) -> None:
    """Give suspended seats back; each registers its consensus key first, or stays silent for an epoch.

    A node without a seat cannot register it by itself: its admin does (`lossbook key possess`).
    """
    _propose_seats(options, reinstate=organisations)


@propose.command("set", example="lossbook governance propose set --remove delta --add epsilon-card.json")
@click.option("--add", "cards", multiple=True, type=FILE, metavar="CARD", help="Card of who gets a seat.")
@click.option("--remove", "removed", multiple=True, metavar="ID", help="Who gives up a seat.")
@click.option("--suspend", "suspended", multiple=True, metavar="ID", help="Whose seat is suspended.")
@click.option("--reinstate", "reinstated", multiple=True, metavar="ID", help="Whose seat is given back.")
@_proposal_options
def set_(
    cards: tuple[Path, ...],
    removed: tuple[str, ...],
    suspended: tuple[str, ...],
    reinstated: tuple[str, ...],
    **options: Any,
) -> None:
    """Change several seats at once, for example to replace a validator; each option may be repeated."""
    if not (cards or removed or suspended or reinstated):
        raise click.UsageError("name at least one seat; new keys for all are `lossbook governance propose rotate`")
    _propose_seats(options, add=cards, remove=removed, suspend=suspended, reinstate=reinstated)


@propose.command(example="lossbook governance propose rotate")
@click.argument("card", required=False, type=FILE)
@_proposal_options
def rotate(card: Path | None, **options: Any) -> None:
    """Change keys. Without a card: all validators' consensus keys. With one: that member's own.

    A card replaces its organisation's ledger key, TLS authority, addresses and signing keys; it has no consensus key
    (`lossbook genesis card --no-validator`).
    """
    if card is None:
        _propose_seats(options)
    else:
        _propose_card(options, card)


@propose.command(example="lossbook governance propose admit broker-card.json")
@click.argument("card", type=FILE)
@_proposal_options
def admit(card: Path, **options: Any) -> None:
    """Make an organisation a member without a seat. Its card has no consensus key."""
    _propose_card(options, card)


@propose.command(example="lossbook governance propose parameter block_interval_ms=70 --from-height 5000")
@click.argument("pairs", nargs=-1, metavar="NAME=VALUE...")
@click.option("--from-height", type=click.IntRange(1), required=True, help="First block they apply to.")
@click.option("--four-eyes", multiple=True, metavar="AMOUNT", help="An allowed currency, and its four-eyes amount.")
@_proposal_options
def parameter(pairs: tuple[str, ...], from_height: int, four_eyes: tuple[str, ...], **options: Any) -> None:
    """Change network parameters from a block on; leave room for the votes before it.

    `lossbook governance list` shows the first block for which a decision now would do. `verification` also takes a
    supervisor's consent.
    """
    from cli.base import fail
    from lossbook_sdk import governance

    change = governance.parameter_change(pairs, activation_height=from_height, four_eyes=four_eyes)

    def checked(network: Network) -> Change:
        if from_height < network.activation_height_min:
            fail(
                f"block {from_height:,} is too near: parameters decided now apply from block "
                f"{network.activation_height_min:,} on at the earliest, and votes take time. Nothing was sent",
                "Choose a later --from-height",
            )
        return change

    _propose(checked, options)


def _propose_seats(
    options: dict[str, Any],
    *,
    add: Sequence[Path] = (),
    remove: Sequence[str] = (),
    suspend: Sequence[str] = (),
    reinstate: Sequence[str] = (),
) -> None:
    """A change of the set; one that names no seat renews all consensus keys."""
    from lossbook_sdk import governance

    cards = [card.read_bytes() for card in add]
    change = governance.set_change(add=cards, remove=remove, suspend=suspend, reinstate=reinstate)
    _propose(lambda _: change, options, back=reinstate)


def _propose_card(options: dict[str, Any], card: Path) -> None:
    from lossbook_sdk import governance

    change = governance.card_change(card.read_bytes())
    _propose(lambda _: change, options)


def _propose(change_in: Callable[[Network], Change], options: dict[str, Any], *, back: Sequence[str] = ()) -> None:
    """Read the present epoch and block time, make the proposal, submit it."""
    from cli.governance.command import submit
    from cli.governance.reading import read_network
    from cli.session import client
    from lossbook_sdk import governance
    from lossbook_sdk.values import parse_id

    named = parse_id(options["proposal_id"], "proposal id") if options["proposal_id"] else None
    with client(options["profile_name"], options["passphrase_fd"]) as session:
        network = session.run(read_network(session.query, back=back))
        change = change_in(network)
        operation = governance.propose(
            change,
            epoch=network.membership.epoch,
            expires_ms=network.time_ms + options["days"] * DAY_MS,
            proposal_id=named,
        )
        _warn(change, network)
        submit(session, operation, operation.proposal_id, options)


def _warn(change: Change, network: Network) -> None:
    """Of a set that forgives no fault, and of seats that would stay silent."""
    from cli.governance.words import silent_in_words
    from ledger.operations import SetChange

    if not isinstance(change, SetChange):
        return
    silent = [name for name in change.reinstate if name not in network.registered]
    if silent:
        say(f"warning: {silent_in_words(silent, network)}")
    before = len(network.validators)
    after = before + len(change.add) + len(change.reinstate) - len(change.remove) - len(change.suspend)
    if after < 4:
        say(f"warning: {after} of {before} validators would remain; below 4 the network forgives no failure at all.")
