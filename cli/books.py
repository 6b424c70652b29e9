"""What ``lossbook genesis`` does with the books of a network that was lost: hand them on, and found another on them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.base import fail
from cli.output import emit, facts, say
from ledger.cards import Card
from ledger.genesis import Genesis, load_genesis
from ledger.parameters import Parameters, parameters_at
from ledger.succession import assemble_on, succeed
from services.archive_file import ArchiveFile
from services.archive_making import Made, make_archive
from services.archive_reading import Restored, check_predecessor, restore
from services.books import Books
from store.state import LevelStateStore

MISSING_SHOWN = 20
"""Commitments listed for people; ``--json`` has all."""


def books_given(archive: Path | None, old_genesis: Path | None) -> Books | None:
    """From the options of a command, and the checkpoint of the network before that this person accepted.

    Raises:
        GenesisError: one option without the other, or no genesis.
        CheckpointError: what was accepted cannot be read.
    """
    from lossbook_sdk.pins import pin_path, read_pin

    books = Books.given(archive, old_genesis)
    if books is None:
        return None
    chain_id = load_genesis(books.old_genesis.read_bytes()).chain_id
    return replace(books, checkpoint=read_pin(pin_path(chain_id), chain_id))


def hand_on(home: Path, out: Path, as_json: bool) -> None:
    """Make the archive of a surviving home, and say what is in it and what is missing."""
    from contracts.dispatch import CONTRACTS
    from contracts.tables import TABLES

    made = make_archive(home, out, CONTRACTS, TABLES)
    if as_json:
        emit({"archive": str(out), **_document(made)})
        return
    facts(
        [
            ("archive", out),
            ("network", made.chain_id.hex()[:16]),
            ("last final block", made.height),
            ("state root", made.state_root.hex()),
            ("receipts", made.receipts),
            ("executed now", f"{made.executed_here} blocks that were final and not executed in the home"),
            ("sealed fields", f"{made.sealed}, of which {len(made.missing)} have no blob here"),
            ("SHA-256", made.digest.hex()),
        ]
    )
    for each in made.missing[:MISSING_SHOWN]:
        say(f"missing: {each.commitment.hex()} of {each.table} {each.key.hex()}")
    if len(made.missing) > MISSING_SHOWN:
        say(f"... and {len(made.missing) - MISSING_SHOWN} more; --json lists all")
    if made.finalized_height > made.height:
        say(
            f"Blocks {made.height + 1} to {made.finalized_height} are not in it: no certificate of them is stored here."
        )
    say("Hand it to every organisation, with nothing else: it proves itself against the old genesis file.")


def _document(made: Made) -> Mapping[str, Any]:
    return {
        "chain_id": made.chain_id.hex(),
        "organisation": made.organisation,
        "height": made.height,
        "finalized_height": made.finalized_height,
        "executed_here": made.executed_here,
        "state_root": made.state_root.hex(),
        "receipts_root": made.receipts_root.hex(),
        "receipts": made.receipts,
        "sha256": made.digest.hex(),
        "sealed": {
            "referenced": made.sealed,
            "present": made.sealed - len(made.missing),
            "missing": [
                {"commitment": each.commitment.hex(), "table": each.table, "key": each.key.hex()}
                for each in made.missing
            ],
        },
    }


def assemble_on_books(
    books: Books,
    cards: Sequence[Card],
    *,
    name: str,
    time_ms: int,
    change: Callable[[Parameters], Parameters],
) -> bytes:
    """The genesis file of a network on these books, which are verified first.

    Args:
        change: what becomes of the parameters in force when the network before ended.
    """
    with _restored(books) as (_, found):
        height = found.head.height
        parameters = change(parameters_at(found.state, height + 1, height))
        if time_ms <= found.head.timestamp_ms:
            fail(
                "the last block of the network before is dated later than the genesis",
                "Give a later --time, or look at this machine's clock",
            )
        return assemble_on(cards, found.state, found.end, name=name, time_ms=time_ms, parameters=parameters)


def check_on_books(books: Books, genesis: Genesis) -> list[tuple[str, Any]]:
    """Do by oneself all that the genesis claims of the network before; what was found.

    Raises:
        GenesisError: it is not so.
    """
    with _restored(books) as (old_genesis, found):
        check_predecessor(genesis, found)
        root = succeed(genesis, found.state).record.state_root
        return [
            ("carries on", f"{old_genesis.name}, network {old_genesis.chain_id.hex()[:16]}"),
            ("last final block", found.head.height),
            ("its state root", found.head.state_root.hex()),
            ("new state root", root.hex()),
            ("computed here", "every leaf, receipt and later block, from the old genesis file on"),
            ("accepted before", _accepted(books)),
        ]


def _accepted(books: Books) -> str:
    if books.checkpoint is None:
        return "no checkpoint of that network"
    return f"the checkpoint of height {books.checkpoint.body.height}, which they reach"


@contextmanager
def _restored(books: Books) -> Iterator[tuple[Genesis, Restored]]:
    """The books as this machine finds them, in a room of their own."""
    from contracts.dispatch import CONTRACTS

    old_genesis = load_genesis(books.old_genesis.read_bytes())
    archive = ArchiveFile(books.archive)
    with (
        tempfile.TemporaryDirectory(prefix="lossbook-books-") as room,
        closing(LevelStateStore(Path(room) / "state")) as store,
    ):
        yield old_genesis, restore(archive, old_genesis, store, CONTRACTS, checkpoint=books.checkpoint)
