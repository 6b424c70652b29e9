"""Plans that once failed, minimised by ``lossbook sim run --keep``: they hold now.

accepted-beside-the-chain   an origin that had restarted promised what a quorum held; then a batch of its older
    incarnation was listed, and with the origin down for ever nobody could bring the promised one back (I14)
marked-copy-of-an-observer  a node that had joined was restored from a backup of when it still observed: the marker
    went in the old epoch, and in views of the new one in which it had voted, unheard, it voted otherwise (I6)
batch-of-a-later-epoch      all lost power; who started again in the epoch before took a stored batch of the later one
    for one that nobody may list any more, and deleted it; a final block listed it
batch-dropped-in-the-turn-that-lists-it  all lost power; executing again, a node let go of a batch on disk, and in
    the same turn took it back to memory as stored, for a block that listed it: that block was kept without it (I13)
seat-of-an-origin-taken-back  all lost power; a batch on disk was of a member whose seat lay in blocks that were to be
    executed again, and the node ended with a KeyError
catch-up-in-parts           a node further behind than one answer of backfill never caught up
"""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.plan import Plan
from simulator.run import run_plan

PLANS = sorted((Path(__file__).parents[2] / "regressions").glob("*.json"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_what_failed_once_holds(path: Path) -> None:
    assert run_plan(Plan.from_json(path.read_bytes())).failure is None


def test_every_kept_plan_is_explained_here() -> None:
    assert PLANS
    for path in PLANS:
        assert path.stem in (__doc__ or "")
