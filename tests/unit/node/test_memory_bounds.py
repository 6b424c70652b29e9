"""What one lying validator can make another one hold, counted in bytes (docs/consensus.md, Bounds).

Everything the liar sends is genuinely signed where it has the key for it. It goes straight into the validator, so
neither reputation nor the mailbox stand before it: the bounds hold without them. Each flood is sent twice as long the
second time; what is held must be below the bound after both, and must not have grown with the length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from consensus.messages import START_ANSWER_VOTES_MAX, Muted, StartAnswer, StartQuery, Want
from consensus.types import Proposal, VoteKind
from ledger import wire
from ledger.acks import HELD
from ledger.types import BATCH_BYTES_MAX, Ack, Batch
from node.batches import ORIGIN_BYTES_MAX
from node.turn import BatchChecked, OriginAnswer, OriginQuery, PeerMessage, PeerMessages
from simulator.adversaries.liar import Liar
from tests.support.cluster import Cluster
from tests.support.memory import held_bytes
from tests.support.pages import read_page
from tests.unit.node.test_cluster import policy

pytestmark = pytest.mark.slow

KB, MB = 1 << 10, 1 << 20
VICTIM, LIAR = 0, 3
U64 = 2**64 - 1


class World:
    """A busy network that stands still, a liar in it, and the bytes that one honest validator holds."""

    def __init__(self) -> None:
        self.cluster = Cluster(seed=1, liars={LIAR: Liar})
        self.cluster.start()
        self.cluster.run(500)
        for number in range(8):
            self.cluster.nodes[number % 4].submit(policy(self.cluster, number, by=number % 4))
            self.cluster.run(200)
        node, liar = self.cluster.nodes[VICTIM], self.cluster.nodes[LIAR]
        assert isinstance(liar, Liar)
        self.node, self.liar = node, liar
        self.sent = 0
        self._without = [node, node.disk, node.disk.blocks, node.disk.states, node.state, self.cluster, node.votes]
        self._without += [self.cluster.market, self.cluster.market.genesis]

    @property
    def held(self) -> int:
        """Bytes held by the validator, without its stores and executed state."""
        return held_bytes(self.node.validator, self._without)

    def send(self, messages: Iterator[PeerMessage], count: int) -> None:
        """The next ``count`` of them, as many as a request holds at a time; each turn is carried out."""
        validator = self.node.validator
        for _ in range(0, count, 64):
            part = [message for _, message in zip(range(64), messages, strict=False)]
            self.sent += len(part)
            for message in part:
                validator.handle(PeerMessages(self.cluster.market.member(LIAR), [message]), self.node.now())
                self._end_turn()

    def _end_turn(self) -> None:
        turn = self.node.validator.take_turn()
        self.node.disk.write_blocks(turn.block_writes, sync=True)
        for batch in turn.checks:
            contents = tuple(wire.decode_envelope(raw) for raw in batch.envelopes)
            self.node.validator.handle(BatchChecked(batch.header.digest, True, contents), self.node.now())


# -- floods ----------------------------------------------------------------------------------


def votes(world: World) -> Iterator[PeerMessage]:
    """All kinds, in views long past, near and far, always for another block."""
    number = 0
    while True:
        number += 1
        digest = number.to_bytes(32, "big")
        for view in (number, number % 80, U64 - number):
            for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
                yield world.liar.vote(kind, view, max(0, view - 1), digest)
            yield world.liar.vote(VoteKind.NULLIFY, view)


def forged(world: World) -> Iterator[PeerMessage]:
    """Votes in others' names and certificates of nobody."""
    number = 0
    while True:
        number += 1
        digest = number.to_bytes(32, "big")
        yield replace(world.liar.vote(VoteKind.NOTARIZE, 1 + number % 70, 0, digest), signer=number % 3)
        yield world.liar.forged_certificate(VoteKind.NOTARIZE, number, digest, (0, 1, 2))
        yield world.liar.forged_certificate(VoteKind.NULLIFY, U64 - number, b"", (0, 1, 3))


def proposals(world: World) -> Iterator[PeerMessage]:
    """Blocks of its own in every view that may still come, the largest there are, listing inventions."""
    core, number = world.node.core, 100
    while LIAR not in (leader := [core._state.validators.leader(core.view + ahead) for ahead in (0, 1)]):
        number += 1
        world.node.submit(policy(world.cluster, number))
        world.cluster.run(400)
    like = genuine(world)
    world.send(iter(()), 64)
    while True:
        number += 1
        digests = [(1000 * number + at).to_bytes(32, "big") for at in range(256)]
        view = core.view + (leader.index(LIAR) if number % 2 else number % 12)
        yield world.liar.proposal(
            like,
            payload=wire.encode_payload(digests).raw,
            view=view,
            parent_view=max(0, core.view - 1 - number % 3),
            timestamp_ms=like.header.timestamp_ms + number,
        )


def genuine(world: World) -> Proposal:
    """A block that the liar once proposed, or another one."""
    blocks = world.node.disk.blocks
    raw = blocks.proposal(blocks.digest_at(blocks.finalized_height() or 1) or b"")
    assert raw is not None
    return wire.decode_stored_proposal(raw)


def acknowledgements(world: World) -> Iterator[PeerMessage]:
    """Of batches that do not exist, at every position of every origin."""
    number = 0
    while True:
        number += 1
        for card in world.cluster.genesis.validators:
            yield world.liar.ack(Ack(HELD, 0, LIAR, card.id, 1 + number, number, number.to_bytes(32, "big"), b""))


def questions(world: World) -> Iterator[PeerMessage]:
    """And answers to questions nobody asked."""
    vote = world.liar.vote(VoteKind.NULLIFY, 1)
    number = 0
    while True:
        number += 1
        nonce = number.to_bytes(32, "big")
        yield Want(0, number)
        yield StartQuery(0, nonce)
        yield StartAnswer(nonce, number, (vote,) * START_ANSWER_VOTES_MAX)
        yield OriginQuery(nonce)
        yield OriginAnswer(nonce, number)
        yield Muted(0, number)


def batches(world: World) -> Iterator[PeerMessage]:
    """Well-formed ones of its own, the largest there are, in ever new incarnations."""
    liar = world.liar
    envelope = policy(world.cluster, 99, by=LIAR).raw
    full = (envelope,) * min(4096, BATCH_BYTES_MAX // (len(envelope) + 8))
    like = first_batch(world)
    number = 0
    while True:
        number += 1
        yield liar.batch(like, full, incarnation=1_000 + number, sequence=1, previous=number.to_bytes(32, "big"))


def small_batches(world: World) -> Iterator[PeerMessage]:
    """As many as there may be, of one envelope each."""
    like = first_batch(world)
    envelope = policy(world.cluster, 99, by=LIAR).raw
    number = 0
    while True:
        number += 1
        yield world.liar.batch(like, [envelope], incarnation=1_000 + number, sequence=1)


def first_batch(world: World) -> Batch:
    blocks = world.node.disk.blocks
    for height in range(1, (blocks.finalized_height() or 0) + 1):
        for batch in world.node.block(height).batches:
            if batch.header.origin == world.liar.id:
                return batch
    raise AssertionError("the liar made a batch once")


FLOODS: dict[str, tuple[Callable[[World], Iterator[PeerMessage]], int, int]] = {
    # name: (messages, how many, bound in bytes)
    "votes": (votes, 1_500, 512 * KB),
    "forgeries": (forged, 900, 16 * KB),
    "proposals": (proposals, 300, 2 * MB),
    "acknowledgements": (acknowledgements, 2_000, 64 * KB),
    "questions": (questions, 1_800, 16 * KB),
    "batches": (batches, 20, 96 * MB),
    "small batches": (small_batches, 1_300, 16 * MB),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_from_one_validator_stays_below_its_bound(name: str) -> None:
    make, count, bound = FLOODS[name]
    world = World()
    before = world.held
    messages = make(world)
    world.send(messages, count)
    first = world.held - before
    world.send(messages, 2 * count)
    second = world.held - before
    print(f"{name}: {first:,} then {second:,} of {bound:,} bytes")  # noqa: T201 - shown with -s
    assert first <= bound
    assert second <= bound
    assert second <= 1.1 * first + 8 * KB, "it does not grow with the flood"


def test_the_page_states_these_bounds() -> None:
    page = read_page("consensus.md")
    table = page.partition("### In bytes")[2].partition("\n## ")[0]
    stated = {
        name: int(size) * (KB if unit == "KiB" else MB)
        for name, size, unit in re.findall(r"^\| ([a-z ]+?) \| (\d+) (KiB|MiB) \|", table, re.MULTILINE)
    }
    assert stated == {name: bound for name, (_, _, bound) in FLOODS.items()}


def test_the_bound_on_batches_follows_from_what_an_origin_may_have_in_memory() -> None:
    assert FLOODS["batches"][2] == 6 * ORIGIN_BYTES_MAX, "decoded, an envelope takes five times its bytes"
