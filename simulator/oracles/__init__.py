"""Invariants over everything ever signed, sent and decided. Nothing here imports the product: a fault in its own
arithmetic would hide itself.

    votes          I6                  what one honest node may sign
    certificates   I1 I3 I4 I5 I8      what quorums may exist
    chain          I2 I7               one chain, nothing final skipped
    position       I9                  no way back
    state          I10, roots          what execution gives, and headers say
    batches        listing             what an honest leader lists
    acks           acks                what an honest node says that it holds
    clocks         clock               whose block time an honest vote accepts
    durable        durable             on disk before it is said, and never gone
    promises       I14                 ACCEPTED is kept
    retries        retry               what is said again
    membership     set                 who votes in which epoch, with which keys
    limits         limit               what is listed far above the state
    blame          I11, penalty, alarm, memory  nobody honest is accused, or forgets
"""

from __future__ import annotations

from simulator.oracles.acks import Acks
from simulator.oracles.base import Oracle, World
from simulator.oracles.batches import Listing
from simulator.oracles.blame import Blame
from simulator.oracles.certificates import Certificates
from simulator.oracles.chain import Chain
from simulator.oracles.clocks import Clocks
from simulator.oracles.durable import Durable
from simulator.oracles.limits import Limits
from simulator.oracles.membership import Membership
from simulator.oracles.position import Position
from simulator.oracles.promises import Promises
from simulator.oracles.retries import Retries
from simulator.oracles.state import Roots
from simulator.oracles.votes import HonestVotes

ORACLES: tuple[type[Oracle], ...] = (
    HonestVotes,
    Certificates,
    Chain,
    Position,
    Roots,
    Listing,
    Acks,
    Clocks,
    Durable,
    Promises,
    Retries,
    Membership,
    Limits,
    Blame,
)
"""In this order: ``Certificates`` fills the boxes that ``Chain`` reads."""


def all_oracles(world: World) -> list[Oracle]:
    """One of each."""
    return [kind(world) for kind in ORACLES]
