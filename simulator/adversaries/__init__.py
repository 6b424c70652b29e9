"""Byzantine nodes, one a file. Their keys are genuine; what they sign, send and serve is up to them.

Missing until its mode exists: the false attester (``verification = "attested"``).
"""

from __future__ import annotations

from simulator.adversaries.antedater import Antedater
from simulator.adversaries.double_voter import DoubleVoter
from simulator.adversaries.false_acker import FalseAcker
from simulator.adversaries.flooder import Flooder
from simulator.adversaries.forger import Forger
from simulator.adversaries.lying_leader import LyingLeader
from simulator.adversaries.lying_server import LyingServer
from simulator.adversaries.root_liar import RootLiar
from simulator.adversaries.selective_sender import SelectiveSender
from simulator.adversaries.serves_few import ServesFew
from simulator.adversaries.stale_replayer import StaleReplayer
from simulator.adversaries.stripper import Stripper
from simulator.adversaries.twins import Twins
from simulator.adversaries.two_batches import TwoBatches
from simulator.adversaries.two_blocks import TwoBlocks
from simulator.adversaries.two_votes import TwoVotes
from simulator.adversaries.withheld_body import WithheldBody
from simulator.node import Node

LIARS: dict[str, type[Node]] = {
    "antedater": Antedater,
    "double-voter": DoubleVoter,
    "false-acker": FalseAcker,
    "flooder": Flooder,
    "forger": Forger,
    "lying-leader": LyingLeader,
    "lying-server": LyingServer,
    "root-liar": RootLiar,
    "selective-sender": SelectiveSender,
    "serves-few": ServesFew,
    "stale-replayer": StaleReplayer,
    "stripper": Stripper,
    "twins": Twins,
    "two-batches": TwoBatches,
    "two-blocks": TwoBlocks,
    "two-votes": TwoVotes,
    "withheld-body": WithheldBody,
}
"""By the name a plan gives them."""
