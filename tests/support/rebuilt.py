"""A market that lost its network and founds a new one on the old books."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from consensus.types import Certificate
from ledger.cards import Card
from ledger.genesis import Genesis, load_genesis
from ledger.parameters import Parameters
from ledger.predecessor import Predecessor
from ledger.state import State
from ledger.succession import assemble_on, end_of
from store.memory import MemoryStateStore
from tests.support.chains import Chain
from tests.support.insurers import MARKET, Ledger, Organisation, key_of, policy_issue
from tests.support.snapshots import policies


def renewed(organisation: Organisation, generation: str = "rebuilt") -> Organisation:
    """The organisation with a new consensus key, if it had one."""
    again = Organisation(organisation.id, organisation.kind)
    if again.consensus_key is not None:
        again.consensus_key = key_of(organisation.id, "consensus", generation)
    return again


RENEWED = tuple(renewed(organisation) for organisation in MARKET)


def cards(organisations: Sequence[Organisation] = RENEWED) -> list[Card]:
    """Their cards."""
    return [organisation.card() for organisation in organisations]


def lost_chain() -> Chain:
    """Four blocks with some policies, the last one final by itself: what the network before ended with."""
    chain = Chain(Ledger())
    ledger = chain.ledger
    chain.add(ledger.envelope([policy_issue()]))
    chain.add(*policies(ledger, 3))
    chain.add(*policies(ledger, 2, first=3))
    chain.add(finalized=True)
    return chain


def books(chain: Chain) -> State:
    """A copy of its state, to be used up."""
    return State.open(copy.deepcopy(chain.ledger.store))


def ended(chain: Chain) -> Predecessor:
    """How it ended."""
    return end_of(chain.genesis.chain_id, chain.ledger.state, finalization(chain))


def finalization(chain: Chain) -> Certificate:
    """Of its last block."""
    found = chain.headers[-1].finalization
    assert found is not None
    return found


def rebuild(chain: Chain, organisations: Sequence[Card] | None = None, parameters: Parameters | None = None) -> Genesis:
    """The genesis of a network on its books, an hour later."""
    raw = assemble_on(
        cards() if organisations is None else organisations,
        books(chain),
        ended(chain),
        name="rebuilt",
        time_ms=chain.ledger.time_ms + 3_600_000,
        parameters=parameters or Parameters(),
    )
    return load_genesis(raw)


def empty_store() -> MemoryStateStore:
    """A new one."""
    return MemoryStateStore()
