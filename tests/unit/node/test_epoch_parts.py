"""What each part of a validator does when an epoch begins: batches, acknowledgements, records, backfill, names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import msgspec
import pytest

from consensus.records import BuiltBlock, MutedUntil, Record
from consensus.types import Header, Validator, ValidatorSet
from crypto.hashing import TAG_BATCH_SIGNATURE
from crypto.keys import SigningKey, verify
from ledger import wire
from ledger.acks import HELD, ack_message
from ledger.block_port import BatchDrop
from ledger.types import Ack, Batch, Block, JustifiedHeader
from node.catchup import BadBlocks, ChainRules, check_chain
from node.epoch import Epoch, HeldKeys, Signer, no_key
from node.epoch_log import EpochLog
from node.instance import Instance
from node.turn import OriginAnswer, OriginQuery, Turn
from tests.support.epoch_cluster import Cluster
from tests.support.insurers import INSURERS, key_of
from tests.unit.node.test_dissemination import (
    EPOCH,
    GENESIS,
    NONCE,
    OWN,
    WHO,
    Side,
    accepted_in,
    acks_in,
    batches_in,
    blamed_in,
    dropped_in,
    envelopes,
    head_of,
    make_ack,
    make_batch,
)
from tests.unit.node.test_epochs import Market, boundaries, lose_finality_until_there_are_tails


def seat_key(index: int, epoch: int) -> SigningKey:
    if epoch == 0:
        key = INSURERS[index].consensus_key
        assert key is not None
        return key
    return key_of(WHO[index], "consensus", str(epoch))


def validator_set(epoch: int, indexes: Sequence[int] = range(4)) -> ValidatorSet:
    members = tuple(Validator(WHO[index], seat_key(index, epoch).public) for index in indexes)
    return ValidatorSet(epoch, members, 0, bytes(32))


def epoch(number: int, indexes: Sequence[int] = range(4), before: Sequence[int] = range(4)) -> Epoch:
    """An epoch of these insurers after one of those, as validator ``OWN`` takes part in it."""
    own = list(indexes).index(OWN) if OWN in indexes else None
    sign = seat_key(OWN, number).sign if own is not None else no_key
    return Epoch(validator_set(number, indexes), validator_set(number - 1, before), EPOCH.start, own, sign)


def made_in(number: int, origin: int, after: Batch | None = None, incarnation: int = 1) -> Batch:
    """A batch of an epoch."""
    head = head_of(after) if after is not None else None
    arguments = {} if head is None else {"after": head}
    return make_batch(origin, incarnation=incarnation, epoch=number, key=seat_key(origin, number), **arguments)  # type: ignore[arg-type]


def ack_in(number: int, acker: int, batch: Batch) -> Ack:
    header = batch.header
    unsigned = Ack(HELD, number, acker, header.origin, header.incarnation, header.sequence, header.digest, b"")
    signature = seat_key(acker, number).sign(ack_message(GENESIS.chain_id, unsigned))
    return msgspec.structs.replace(unsigned, signature=signature)


def entered(side: Side, into: Epoch) -> Turn:
    side.it.enter(into, side.turn)
    return side.end()


@pytest.fixture
def side() -> Side:
    return Side()


# -- acknowledgements ------------------------------------------------------------------------


def test_what_is_held_is_acknowledged_again_in_the_next_epoch_and_by_its_key(side: Side) -> None:
    batch = make_batch(1)
    side.receive(batch)
    (ack,) = acks_in(entered(side, epoch(1)))
    assert (ack.epoch, ack.acker, ack.digest) == (1, OWN, batch.header.digest)
    assert verify(seat_key(OWN, 1).public, ack_message(GENESIS.chain_id, ack), ack.signature)


def test_acknowledgements_of_the_epoch_before_do_not_list_a_batch(side: Side) -> None:
    batch = make_batch(1)
    side.receive(batch)
    side.acknowledged(make_ack(1, batch), make_ack(2, batch))
    assert side.listable() == [batch.header.digest]
    entered(side, epoch(1))
    assert side.listable() == []
    side.end(after_ms=10_000)
    assert side.listable() == [], "the own one is less than f + 1"
    side.acknowledged(ack_in(1, 1, batch), ack_in(1, 2, batch))
    assert side.listable() == [batch.header.digest]


def test_an_acknowledgement_counts_for_who_has_the_seat_in_its_epoch(side: Side) -> None:
    """Indexes move: without the first insurer, the second one's acknowledgements carry index 0."""
    batch = make_batch(1)
    side.receive(batch)
    entered(side, epoch(1, indexes=(1, 2, 3)))
    wrong = msgspec.structs.replace(ack_in(1, 1, batch), acker=1)  # insurer-3's seat, insurer-2's key
    side.it.on_ack(wrong, WHO[1], side.now, side.turn)
    assert blamed_in(side.end()) == [1]
    for seat, insurer in enumerate((1, 2, 3)):
        unsigned = msgspec.structs.replace(ack_in(1, insurer, batch), acker=seat, signature=b"")
        signature = seat_key(insurer, 1).sign(ack_message(GENESIS.chain_id, unsigned))
        side.it.on_ack(msgspec.structs.replace(unsigned, signature=signature), WHO[insurer], side.now, side.turn)
    side.end()
    assert side.listable() == [batch.header.digest]


def test_a_newcomer_logs_what_it_acknowledges_when_it_gets_its_seat() -> None:
    side = Side(voting=False)
    batch = make_batch(1)
    assert side.receive(batch).vote_records == []
    turn = entered(side, epoch(1))
    record = wire.AckedRecord(WHO[1], 1, 1, batch.header.digest)
    assert record in [wire.decode_record(raw) for raw in turn.vote_records]
    assert (None, OriginQuery(NONCE)) in turn.sends, "and asks for its incarnation"


def test_a_peer_that_enters_the_epoch_is_resent_what_was_made_in_it(side: Side) -> None:
    side.open()
    old = side.submit(*envelopes(1))
    entered(side, epoch(1))
    side.acknowledged(ack_in(1, 1, old), ack_in(1, 2, old))
    new = side.submit(*envelopes(1))
    side.it.on_entered(WHO[3], side.turn)
    turn = side.end()
    assert {to for to, _ in turn.sends} == {WHO[3]}
    assert batches_in(turn) == [new], "the older one it got before"
    assert {ack.digest for ack in acks_in(turn)} == {new.header.digest}


# -- batches ---------------------------------------------------------------------------------


def test_an_origin_goes_on_with_its_chain_under_the_new_key(side: Side) -> None:
    side.open()
    old = side.submit(*envelopes(1))
    entered(side, epoch(1))
    assert batches_in(side.acknowledged(ack_in(1, 1, old), ack_in(1, 2, old))) == []
    new = side.submit(*envelopes(1))
    assert (new.header.epoch, new.header.previous) == (1, old.header.digest)
    assert verify(seat_key(OWN, 1).public, TAG_BATCH_SIGNATURE + new.header.raw, new.signature)


def test_an_own_batch_is_accepted_in_either_epoch_by_a_quorum_of_that_epoch(side: Side) -> None:
    side.open()
    batch = side.submit(*envelopes(1))
    side.acknowledged(make_ack(1, batch))
    entered(side, epoch(1))
    assert accepted_in(side.acknowledged(ack_in(1, 2, batch))) == [], "one of each epoch are no quorum with the own"
    assert accepted_in(side.acknowledged(ack_in(1, 3, batch))) == [batch.header.digest]


def test_batches_of_this_epoch_and_the_one_before_are_taken_and_of_no_other(side: Side) -> None:
    entered(side, epoch(1))
    entered(side, epoch(2))
    for number, checks in ((0, 0), (1, 1), (2, 1), (3, 0)):
        side.it.on_batch(made_in(number, 1), WHO[3], side.now, side.turn)
        turn = side.end()
        assert (len(turn.checks), turn.penalties) == (checks, []), number


def test_invalid_batch_under_the_key_of_another_epoch(side: Side) -> None:
    entered(side, epoch(1))
    batch = make_batch(1, epoch=1, key=seat_key(1, 0))
    side.it.on_batch(batch, WHO[3], side.now, side.turn)
    assert blamed_in(side.end()) == [3]


def test_who_left_finishes_what_is_held_and_goes_on_with_nothing(side: Side) -> None:
    held, more = made_in(0, 3), made_in(0, 3, incarnation=2)
    side.receive(held)
    entered(side, epoch(1, indexes=(0, 1, 2)))
    side.acknowledged(*[ack_in(1, acker, held) for acker in (1, 2)])
    assert side.listable() == [held.header.digest]
    assert side.receive(more).checks == []
    side.it.want(more.header.digest, (WHO[1],), side.now)
    assert side.receive(more).checks == [more], "a block lists it"
    side.it.on_batch(made_in(1, 3), WHO[3], side.now, side.turn)
    assert blamed_in(side.end()) == [3], "it has no key of this epoch"


def test_own_batches_that_can_no_longer_be_listed_are_made_anew(side: Side) -> None:
    side.open()
    some = envelopes(2)
    old = side.submit(*some)
    entered(side, epoch(1))
    (anew,) = batches_in(entered(side, epoch(2)))
    assert anew.header.position == (WHO[OWN], old.header.incarnation + 1, 1)
    assert (anew.header.epoch, anew.envelopes) == (2, tuple(envelope.raw for envelope in some))


def test_what_a_restarted_origin_waits_for_is_made_anew_once_it_can_no_longer_be_listed(side: Side) -> None:
    side.open()
    old = side.submit(*envelopes(2))
    again = side.restarted()
    again.it.on_connected(WHO[1], again.turn)
    again.open(1, 1)
    entered(again, epoch(1))
    assert batches_in(again.open(1, 1)) == [], "it may be listed in this epoch"
    assert dropped_in(entered(again, epoch(2))) == set(), "nobody else keeps it now"
    turn = again.open(1, 1)
    (anew,) = batches_in(turn)
    assert (anew.header.epoch, anew.envelopes) == (2, old.envelopes)
    assert dropped_in(turn) == {old.header.digest}


def test_an_executed_batch_that_came_back_to_memory_holds_nothing_up_in_the_next_epoch(side: Side) -> None:
    side.open()
    some = envelopes(3)
    batch = side.submit(some[0])
    side.execute(batch)
    side.it.pool.get(batch.header.digest)  # for a late block that lists it once more
    assert batches_in(entered(side, epoch(1))) == []
    following = side.submit(some[1])
    assert following.header.previous == batch.header.digest
    assert following.header.position == (WHO[OWN], batch.header.incarnation, 2)
    entered(side, epoch(2))
    assert side.it.origin.unacknowledged(), "the following one is to be acknowledged again"
    side.execute(following)
    assert side.submit(some[2]).header.position == (WHO[OWN], batch.header.incarnation, 3)


def test_others_batches_that_can_no_longer_be_listed_are_dropped(side: Side) -> None:
    batch = make_batch(1)
    side.receive(batch)
    assert dropped_in(entered(side, epoch(1))) == set()
    turn = entered(side, epoch(2))
    assert dropped_in(turn) == {batch.header.digest}
    assert acks_in(turn) == []
    assert BatchDrop(batch.header.digest) in turn.block_writes
    assert side.it.pool.count_of(WHO[1]) == 0


def test_who_is_removed_keeps_nothing_waiting_and_makes_no_batches(side: Side) -> None:
    side.open()
    side.submit(*envelopes(1))
    side.it.origin.submit(envelopes(3)[1:])
    turn = entered(side, epoch(1, indexes=(1, 2, 3)))
    assert turn.sends == []
    assert not side.it.origin.opened
    side.it.origin.submit(envelopes(1))
    assert batches_in(side.end()) == []
    for peer in (1, 2, 3):
        side.it.origin.on_answer(OriginAnswer(NONCE, 0), WHO[peer])
    assert not side.it.origin.opened


def test_only_members_answers_open_an_incarnation(side: Side) -> None:
    side.it.origin.on_answer(OriginAnswer(NONCE, 0), WHO[1])
    side.it.origin.on_answer(OriginAnswer(NONCE, 0), "a-stranger")
    side.it.origin.on_answer(OriginAnswer(NONCE, 0), WHO[OWN])
    side.end()
    assert not side.it.origin.opened


# -- records ---------------------------------------------------------------------------------


def record(number: int, view: int) -> Record:
    return BuiltBlock(number, view, bytes(32))


def test_the_log_keeps_the_last_epoch_before_the_present_and_all_after_it() -> None:
    records = [record(0, 1), record(3, 1), MutedUntil(3, 4), record(5, 1), record(7, 2)]
    log = EpochLog(records)
    assert log.live(5) == [record(3, 1), MutedUntil(3, 4), record(5, 1), record(7, 2)]
    assert log.live(0) == records
    assert log.live(9) == [record(7, 2)]
    assert EpochLog([]).live(4) == []


def test_what_an_epoch_needs_replaces_what_was_read_of_it() -> None:
    log = EpochLog([record(0, 1), record(1, 1)])
    log.replace(1, [record(1, 9)])
    log.replace(2, [])
    assert log.of(1) == [record(1, 9)]
    assert log.live(2) == [record(1, 9)], "an epoch in which nothing was signed is none"


# -- names -----------------------------------------------------------------------------------


def test_peers_without_a_seat_have_numbers_above_the_seats() -> None:
    instance = Instance(epoch(1, indexes=(0, 2, 3)), core=None)  # type: ignore[arg-type]
    assert [instance.peer(WHO[index]) for index in range(4)] == [0, 3, 1, 2]
    assert instance.peer("a-replica") == 4
    assert [instance.organisation(peer) for peer in range(5)] == [WHO[0], WHO[2], WHO[3], WHO[1], "a-replica"]


def test_a_keyring_has_the_keys_it_was_given() -> None:
    keys = HeldKeys({b"k" * 32: seat_key(0, 0).sign})
    assert keys.sign_for(0, b"k" * 32) is not None
    assert keys.sign_for(0, b"o" * 32) is None
    assert keys.sign_for(0, b"") is None


# -- backfill --------------------------------------------------------------------------------


class EndedEpoch:
    """The blocks of an epoch that was ended with tails, as a peer serves them."""

    def __init__(self) -> None:
        market = Market()
        market.rotate()
        cluster: Cluster = market.cluster
        lose_finality_until_there_are_tails(market, 3)
        market.reach(1)
        market.load(2)
        (boundary,) = boundaries(market.settle())
        self.blocks = [market.nodes[0].block(height) for height in range(1, boundary.height + 1)]
        self.after = [market.nodes[0].block(boundary.height + 1)]
        validators = cluster.genesis.validator_set()
        first = Epoch(validators, None, market.nodes[0].genesis_header, None, no_key)
        self.rules = ChainRules.of(first, cluster.genesis.chain_id, Signer(no_key, verify))
        self.start = first.start

    def check(self, blocks: Sequence[Block]) -> int:
        accepted, certificate = check_chain(blocks, self.start, self.rules)
        last = accepted[-1]
        assert certificate.digest == (last.tails[-1].header.digest if last.tails else last.header.digest)
        return last.header.height


@pytest.fixture(scope="module")
def ended() -> EndedEpoch:
    made = EndedEpoch()
    assert len(made.blocks[-1].tails) >= 2
    return made


def test_a_chain_is_believed_to_the_end_of_its_epoch_and_no_further(ended: EndedEpoch) -> None:
    assert ended.check(ended.blocks) == ended.blocks[-1].header.height
    assert ended.check([*ended.blocks, *ended.after]) == ended.blocks[-1].header.height


def with_tails(block: Block, *tails: JustifiedHeader) -> Block:
    return Block(block.header, block.justification, block.payload, block.batches, block.finalization, tails)


def test_invalid_tails_are_not_believed(ended: EndedEpoch) -> None:
    *before, boundary = ended.blocks
    first, *rest = boundary.tails
    other = JustifiedHeader(first.header, rest[0].justification)
    for tails in ((), (first,), tuple(rest), (first, *rest, rest[-1]), (other, *rest)):
        with pytest.raises(BadBlocks):
            ended.check([*before, with_tails(boundary, *tails)])


def test_invalid_tail_that_changes_what_it_repeats(ended: EndedEpoch) -> None:
    *before, boundary = ended.blocks
    last = boundary.tails[-1]
    values = {field.name: getattr(last.header, field.name) for field in fields(Header)}
    del values["digest"], values["raw"]
    changed = wire.encode_header(**(values | {"timestamp_ms": last.header.timestamp_ms + 1}))
    tails = (*boundary.tails[:-1], JustifiedHeader(changed, last.justification))
    with pytest.raises(BadBlocks, match="repeats"):
        ended.check([*before, with_tails(boundary, *tails)])


def test_invalid_tails_of_a_block_that_does_not_end_its_epoch(ended: EndedEpoch) -> None:
    block = next(block for block in ended.blocks if block.finalization is not None)
    if block is not ended.blocks[-1]:
        with pytest.raises(BadBlocks, match="does not end"):
            ended.check([*ended.blocks[: block.header.height - 1], with_tails(block, *ended.blocks[-1].tails)])
