"""What a node takes from its home before it starts: network, keys, stores and state, checked against one another.

What is wrong is said in words that an operator can act on. Two things are missing without keeping it from starting: a
vote log that is damaged (it observes) and sealed blobs (it serves none).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contracts.dispatch import CONTRACTS
from ledger.genesis import Genesis, load_genesis
from ledger.registrations import NODE_KEYS
from ledger.state import State
from node.keys import CARD_KEY, KeyFiles
from node.opening import open_state
from services.books import ensure_books
from services.logs import get_logger
from services.own_home import ensure_leaf, known_cards, ledger_key_in_use
from store.errors import SealedDamaged, VoteLogDamaged, VoteLogMissing
from store.home import Home, HomeKind, OpenStores, open_all, open_home
from store.sealed import SealedStore

_log = get_logger("node")


class StartError(Exception):
    """The node cannot start; the text says what to do."""


@dataclass(frozen=True, slots=True)
class OwnHome:
    """A home that is locked and open; ``close`` when done."""

    genesis: Genesis
    keys: KeyFiles
    stores: OpenStores
    state: State
    sealed: SealedStore | None
    """None where it is damaged: no vote rests on it."""
    vote_problem: str
    """Why there is no vote log, if there is none."""
    certificate_ends: datetime
    """Of the TLS certificate."""

    @classmethod
    def open(cls, path: Path, passphrase: str | None) -> OwnHome:
        """Everything from disk; on an error nothing stays open.

        Raises:
            StartError, GenesisError, KeyFileError, TlsIdentityError, NoCertificate, StoreError: each says what to do.
        """
        home = open_home(path, HomeKind.NODE)
        genesis = load_genesis(home.genesis.read_bytes(), home.chain_id)
        keys = KeyFiles(home.keys, passphrase)
        ensure_books(home, genesis, CONTRACTS)
        stores, vote_problem = _open_stores(home)
        try:
            state = open_state(genesis, stores.state, stores.blocks)
            _check_own(home, state, keys)
            ends = ensure_leaf(home, ledger_key_in_use(home, state), passphrase, datetime.now(UTC))
            return cls(genesis, keys, stores, state, _open_sealed(home), vote_problem, ends)
        except BaseException:
            stores.close()
            raise

    def close(self) -> None:
        """Close the stores and release the home.

        Raises:
            StoreError: the last sync failed.
        """
        if self.sealed is not None:
            self.sealed.close()
        self.stores.close()


def _check_own(home: Home, state: State, keys: KeyFiles) -> None:
    """The home is that of an organisation that runs a node, and its card's key is no other's.

    Raises:
        StartError: it is not.
    """
    cards = known_cards(home, state)
    if not any(card.body.peer_address for card in cards):
        raise StartError(f"{home.organisation} runs no node of this network: make the home anew, with its card")
    named = keys.card_key
    holder = state.get(NODE_KEYS, named) if named is not None else None
    registered = holder is not None and holder.organisation == home.organisation
    if named is not None and not registered and all(card.consensus_key != named for card in cards):
        raise StartError(
            f"{home.keys / CARD_KEY} is not the key on the card of {home.organisation}: put the right one there"
        )


def _open_stores(home: Home) -> tuple[OpenStores, str]:
    """The stores, and why this node only observes if it does."""
    try:
        return open_all(home), ""
    except (VoteLogDamaged, VoteLogMissing) as error:
        problem = at_home(error, home.path)
        _log.error("this node only observes", problem=problem)
        return open_all(home, vote=False), problem


def _open_sealed(home: Home) -> SealedStore | None:
    try:
        return SealedStore(home.sealed, home.chain_id)
    except SealedDamaged as error:
        _log.error("this node serves no sealed blobs", problem=str(error))
        return None


def at_home(error: Exception, home: Path) -> str:
    """What it says, with the commands as they are typed for this home."""
    text = str(error)
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}. Nothing was changed; put it right and start again."
    for command in ("lossbook node resync", "lossbook doctor"):
        text = text.replace(f"`{command}`", f"`{command} --home {home}`")
    return text
