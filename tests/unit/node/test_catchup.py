"""What a peer serves in backfill is believed as a whole or not at all, and never breaks the node."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from consensus.justification import HeaderRules
from consensus.types import Header
from consensus.votes import VoteChecker
from crypto.keys import verify
from ledger import wire
from ledger.genesis_header import genesis_header_of
from ledger.types import Block
from node.catchup import BadBlocks, ChainRules, check_chain
from node.epoch import Signer
from tests.support.cluster import Cluster
from tests.support.notices import proven
from tests.unit.node.test_cluster import policy


class Chain:
    """Some final blocks of a real network, as a peer serves them."""

    def __init__(self) -> None:
        cluster = Cluster(seed=5)
        cluster.start()
        cluster.run(500)
        envelope = policy(cluster, 1)
        cluster.nodes[0].submit(envelope)
        assert cluster.run(5_000, lambda: proven(cluster.nodes[0], envelope))
        node = cluster.nodes[0]
        self.blocks = [node.block(height) for height in range(1, node.validator.finalized_height + 1)]
        validators = cluster.genesis.validator_set()
        self.genesis = genesis_header_of(cluster.genesis)
        chain_id = cluster.genesis.chain_id
        self.rules = ChainRules(
            HeaderRules(1, chain_id, validators, self.genesis),
            VoteChecker(chain_id, validators, Signer(lambda message: bytes(64), verify)),
        )

    def check(self, blocks: list[Block]) -> int:
        """Height reached."""
        accepted, certificate = check_chain(blocks, self.genesis, self.rules)
        assert certificate.digest == accepted[-1].header.digest
        return accepted[-1].header.height


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


def changed(block: Block, **changes: object) -> Block:
    """The block under another header: re-encoded, so that digest and bytes agree."""
    names = [field.name for field in fields(Header) if field.name not in ("digest", "raw")]
    values = {name: getattr(block.header, name) for name in names} | changes
    return Block(wire.encode_header(**values), block.justification, block.payload, block.batches, block.finalization)


def test_a_real_chain_is_believed_up_to_its_last_certificate(chain: Chain) -> None:
    assert chain.check(chain.blocks) == chain.blocks[-1].header.height
    without = [
        *chain.blocks[:-1],
        Block(*[getattr(chain.blocks[-1], n) for n in ("header", "justification", "payload", "batches")]),
    ]
    assert chain.check(without) < chain.blocks[-1].header.height


@pytest.mark.parametrize("view", [1 << 62, 1 << 63, (1 << 64) - 1])
def test_invalid_view_beyond_all_bounds_is_refused_not_counted_up_to(chain: Chain, view: int) -> None:
    with pytest.raises(BadBlocks, match="nullifications"):
        chain.check([changed(chain.blocks[0], view=view), *chain.blocks[1:]])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"chain_id": bytes(32)}, "another chain"),
        ({"height": 7}, "height"),
        ({"parent_digest": bytes(32)}, "does not follow"),
        ({"payload_root": bytes(32)}, "another list of batches"),
        ({"justification_digest": bytes(32)}, "another justification"),
        ({"valset_hash": bytes(32)}, "another validator set"),
        ({"timestamp_ms": 1}, "time"),
        ({"state_root": bytes(32)}, "does not follow|another block"),
    ],
)
def test_invalid_header_in_the_chain(chain: Chain, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(BadBlocks, match=problem):
        chain.check([changed(chain.blocks[0], **changes), *chain.blocks[1:]])


def test_invalid_finalization_signed_by_too_few(chain: Chain) -> None:
    last = chain.blocks[-1]
    assert last.finalization is not None
    certificate = replace(
        last.finalization, signers=last.finalization.signers[:2], signatures=last.finalization.signatures[:2]
    )
    forged = Block(last.header, last.justification, last.payload, last.batches, certificate)
    with pytest.raises(BadBlocks, match="no quorum"):
        chain.check([*chain.blocks[:-1], forged])


def test_invalid_answer_without_any_certificate(chain: Chain) -> None:
    bare = [Block(b.header, b.justification, b.payload, b.batches) for b in chain.blocks]
    with pytest.raises(BadBlocks, match="no Finalization"):
        chain.check(bare)


def test_invalid_batches_that_are_not_those_listed(chain: Chain) -> None:
    listing = next(i for i, block in enumerate(chain.blocks) if block.batches)
    block = chain.blocks[listing]
    emptied = Block(block.header, block.justification, block.payload, (), block.finalization)
    with pytest.raises(BadBlocks, match="not those it lists"):
        chain.check([*chain.blocks[:listing], emptied, *chain.blocks[listing + 1 :]])
