"""Profile, passphrase, client and submission, as the commands need them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.output import emit, facts

if TYPE_CHECKING:
    import msgspec

    from ledger.operations import Operation
    from ledger.organisations import Role
    from ledger.state import Table
    from lossbook_sdk.answers import Status
    from lossbook_sdk.client import Client
    from lossbook_sdk.passphrase import Passphrases

T = TypeVar("T")
R = TypeVar("R", bound="msgspec.Struct")


def passphrases(descriptor: int | None = None) -> Passphrases:
    """The sources of a passphrase; a prompt only where a person sits at the terminal."""
    from lossbook_sdk.passphrase import Passphrases

    return Passphrases(descriptor=descriptor, prompt=_prompt if sys.stdin.isatty() else None)


def _prompt(path: Path) -> str:
    answer: str = click.prompt(f"Passphrase of {path}", hide_input=True, err=True)
    return answer


def new_passphrase(descriptor: int | None, unsafe: bool, path: Path) -> str | None:
    """The passphrase for new key files; None where they are to lie open."""
    if unsafe:
        return None
    from lossbook_sdk.passphrase import Passphrases

    def ask(path: Path) -> str:
        answer: str = click.prompt(
            f"New passphrase for the keys in {path}", hide_input=True, confirmation_prompt=True, err=True
        )
        return answer

    return Passphrases(descriptor=descriptor, prompt=ask if sys.stdin.isatty() else None).get(path)


def key_passphrase(path: Path, descriptor: int | None) -> str | None:
    """The passphrase of an existing key file; None where it needs none."""
    from crypto import keyfile

    return passphrases(descriptor).get(path) if keyfile.is_encrypted(path) else None


@contextmanager
def client(profile_name: str | None, descriptor: int | None = None) -> Iterator[Client]:
    """The client of the profile in use."""
    from lossbook_sdk.client import Client

    made = Client.from_profile(profile_name, passphrases(descriptor))
    try:
        yield made
    finally:
        made.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that has no client of its own."""
    import asyncio

    return asyncio.run(work)


def submit(
    session: Client,
    operations: Sequence[Operation],
    *,
    role: Role,
    keys: Sequence[str],
    wait: str,
    not_after: int,
) -> Status:
    """Sign with the named keys, or the one with the role; submit; wait."""
    from lossbook_sdk.answers import Stage
    from lossbook_sdk.envelopes import now_ms

    signed = session.sign(operations, session.keys_for(role, keys), not_after_ms=now_ms() + not_after * 1000)
    return session.submit(signed, Stage[wait.upper()])


def status_document(status: Status) -> dict[str, Any]:
    """What ``--json`` says of a submitted envelope."""
    from ledger import codes

    document: dict[str, Any] = {
        "envelope_id": status.envelope_id.hex(),
        "stage": status.stage.name.lower(),
        "node": status.node,
    }
    if status.receipt is not None:
        receipt = status.receipt
        document["receipt"] = {
            "height": receipt.height,
            "index": receipt.index,
            "position": receipt.position,
            "block_time_ms": receipt.block_time_ms,
            "code": codes.name(receipt.code),
            "operations": [codes.name(code) for code in receipt.operation_codes],
        }
    return document


def show_status(status: Status, as_json: bool, **extra: object) -> None:
    """Tell what became of a submission."""
    if as_json:
        emit(extra | status_document(status))
        return
    receipt = status.receipt
    facts(
        [
            *((name.replace("_", " "), value) for name, value in extra.items()),
            ("envelope", status.envelope_id.hex()),
            ("stage", f"{status.stage.name.lower()} (said by {status.node})"),
            ("block", receipt.height if receipt else None),
        ]
    )


def today() -> str:
    """This day in UTC, by which the ledger's blocks are dated."""
    import datetime

    return datetime.datetime.now(datetime.UTC).date().isoformat()


def own_business(session: Client) -> str | None:
    """The insurer whose records a list shows by default; None: every insurer's, for who is no insurer."""
    from ledger.organisations import Kind

    card = session.genesis.organisation(session.profile.organisation)
    return card.id if card is not None and card.kind is Kind.INSURER else None


async def listed(session: Client, table: Table[R], limit: int, wanted: Callable[[R], bool]) -> tuple[list[R], bool]:
    """Up to ``limit`` records of a table that are wanted, in order of their keys; whether there are more."""
    from lossbook_sdk.query import read_record

    found: list[R] = []
    async for each in session.query.records(table.prefix):
        record = read_record(table, each)
        if not wanted(record):
            continue
        if len(found) == limit:
            return found, True
        found.append(record)
    return found, False
