"""Dissemination, as statements: what an origin, an acker and a leader do, and what liars cannot make them do."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from consensus.events import Now
from crypto.hashing import TAG_BATCH_SIGNATURE
from crypto.keys import SigningKey, verify
from crypto.merkle import EMPTY_ROOT
from ledger import wire
from ledger.acks import HELD, ack_message
from ledger.block_port import BatchDrop, BatchWrite, FinalizedWrite
from ledger.genesis_header import genesis_header_of
from ledger.types import Ack, Batch, Envelope
from node import dissemination, origin
from node.batches import NO_HEAD, Head
from node.dissemination import Dissemination
from node.epoch import Epoch, no_key
from node.origin import CLOSE_BYTES, FORGOTTEN_DELAYS, INCARNATION_MAX
from node.turn import AcceptedNotice, FetchBatches, OriginAnswer, OriginQuery, Turn
from node.wanted import LISTED_MAX, TRIES_MAX, WantedBatches
from services.sync import DIGESTS_MAX
from store.memory_blocks import MemoryBlockStore
from tests.support.insurers import INSURERS, Ledger, policy_issue

MAKER = Ledger()
GENESIS = MAKER.genesis
NONCE = bytes(range(32))
DELAY_MS = 100
OWN = 0
WHO = [insurer.id for insurer in INSURERS]


def key_of(index: int) -> SigningKey:
    key = INSURERS[index].consensus_key
    assert key is not None
    return key


EPOCH = Epoch(GENESIS.validator_set(), None, genesis_header_of(GENESIS), OWN, key_of(OWN).sign)


def envelopes(count: int) -> list[Envelope]:
    return [MAKER.envelope([policy_issue(policy_id=bytes([number]) * 16)]) for number in range(count)]


def head_of(batch: Batch) -> Head:
    return Head(batch.header.incarnation, batch.header.sequence, batch.header.digest)


def make_batch(
    origin: int,
    after: Head = NO_HEAD,
    *,
    incarnation: int = 1,
    contents: Sequence[Envelope] = (),
    chain_id: bytes = GENESIS.chain_id,
    epoch: int = 0,
    key: SigningKey | None = None,
) -> Batch:
    """A batch right after ``after``; the first one of its incarnation if that is another's."""
    raws = [envelope.raw for envelope in contents or envelopes(1)]
    header = wire.encode_batch_header(
        chain_id=chain_id,
        epoch=epoch,
        origin=INSURERS[origin].id,
        incarnation=incarnation,
        sequence=after.sequence + 1 if after.incarnation == incarnation else 1,
        previous=after.digest,
        envelopes=raws,
        attachment_root=EMPTY_ROOT,
    )
    signature = (key or key_of(origin)).sign(TAG_BATCH_SIGNATURE + header)
    return wire.decode_batch(wire.encode_batch(header, signature, raws))


def make_chain(origin: int, count: int, after: Head = NO_HEAD, incarnation: int = 1) -> list[Batch]:
    chain: list[Batch] = []
    for _ in range(count):
        chain.append(make_batch(origin, head_of(chain[-1]) if chain else after, incarnation=incarnation))
    return chain


def make_ack(acker: int, batch: Batch, sequence: int | None = None) -> Ack:
    header = batch.header
    at = header.sequence if sequence is None else sequence
    unsigned = Ack(HELD, 0, acker, header.origin, header.incarnation, at, header.digest, b"")
    signature = key_of(acker).sign(ack_message(GENESIS.chain_id, unsigned))
    return msgspec.structs.replace(unsigned, signature=signature)


class Side:
    """One validator's dissemination with its disk; ``end`` is the end of a turn."""

    def __init__(
        self,
        store: MemoryBlockStore | None = None,
        log: Sequence[bytes] = (),
        heads: dict[str, Head] | None = None,
        voting: bool = True,
        close_bytes: int = CLOSE_BYTES,
    ) -> None:
        self.store = store or MemoryBlockStore()
        self.log = list(log)
        self.now_ms = 10_000
        self.turn = Turn()
        self.listable_above: set[bytes] = set()  #: what blocks above the last executed one list
        records = [wire.decode_record(raw) for raw in self.log]
        self.it = Dissemination(
            chain_id=GENESIS.chain_id,
            epoch=EPOCH if voting else Epoch(EPOCH.validators, None, EPOCH.start, None, no_key),
            organisation=WHO[OWN],
            verify=verify,
            stored=self.store,
            heads=heads or {},
            acked={
                record.origin: Head(record.incarnation, record.sequence, record.digest)
                for record in records
                if isinstance(record, wire.AckedRecord)
            },
            incarnation=max((r.incarnation for r in records if isinstance(r, wire.IncarnationRecord)), default=0),
            nonce=NONCE,
            delay_ms=DELAY_MS,
            close_bytes=close_bytes,
        )

    @property
    def now(self) -> Now:
        return Now(self.now_ms, 1_750_000_000_000 + self.now_ms)

    def end(self, after_ms: int = 0) -> Turn:
        self.now_ms += after_ms
        self.it.flush(self.now, self.turn)
        turn, self.turn = self.turn, Turn()
        self.store.commit(turn.block_writes)
        self.log += turn.vote_records
        return turn

    def receive(self, *batches: Batch, sender: int = 1) -> Turn:
        """Batches arrive and their check ends well, all in one turn."""
        for batch in batches:
            self.it.on_batch(batch, WHO[sender], self.now, self.turn)
            contents = tuple(wire.decode_envelope(raw) for raw in batch.envelopes)
            self.it.on_checked(batch.header.digest, True, contents, self.now, self.turn)
        return self.end()

    def acknowledged(self, *acks: Ack) -> Turn:
        for ack in acks:
            self.it.on_ack(ack, WHO[ack.acker], self.now, self.turn)
        return self.end()

    def execute(self, *batches: Batch) -> Turn:
        """Blocks that list these batches were executed."""
        heads = {batch.header.origin: head_of(batch) for batch in batches}
        self.it.on_executed(heads, self.listable_above.__contains__, self.turn)
        return self.end()

    def acked_head(self, origin: int) -> Head:
        return self.it._acked[INSURERS[origin].id]

    def open(self, *incarnations: int) -> Turn:
        """As many peers as it takes answer with the incarnations they have seen."""
        for peer, incarnation in enumerate(incarnations or (0, 0), start=1):
            self.it.origin.on_answer(OriginAnswer(NONCE, incarnation), WHO[peer])
        return self.end()

    def submit(self, *contents: Envelope) -> Batch:
        """These envelopes become one batch."""
        self.it.origin.submit(contents)
        (batch,) = batches_in(self.end())
        return batch

    def restarted(self, heads: dict[str, Head] | None = None) -> Side:
        """From what it stored; memory is gone."""
        return Side(self.store, self.log, heads)

    def listable(self, heads: dict[str, Head] | None = None) -> list[bytes]:
        return [known.batch.header.digest for known in self.it.listable(heads or {}, self.now)]


def acks_in(turn: Turn) -> list[Ack]:
    return [message for _, message in turn.sends if isinstance(message, Ack)]


def batches_in(turn: Turn) -> list[Batch]:
    return [message for _, message in turn.sends if isinstance(message, Batch)]


def accepted_in(turn: Turn) -> list[bytes]:
    return [notice.batch_digest for notice in turn.notices if isinstance(notice, AcceptedNotice)]


def asked_in(turn: Turn) -> list[tuple[tuple[int, ...], tuple[bytes, ...]]]:
    fetches = [fetch for fetch in turn.fetches if isinstance(fetch, FetchBatches)]
    return [(tuple(WHO.index(source) for source in fetch.sources), fetch.digests) for fetch in fetches]


def blamed_in(turn: Turn) -> list[int]:
    return [WHO.index(penalty.peer) for penalty in turn.penalties]


def dropped_in(turn: Turn) -> set[bytes]:
    return {write.digest for write in turn.block_writes if isinstance(write, BatchDrop)}


@pytest.fixture
def side() -> Side:
    return Side()


# -- as acker --------------------------------------------------------------------------------


def test_a_batch_is_acknowledged_only_after_its_check_and_with_its_record_and_its_bytes(side: Side) -> None:
    batch = make_batch(1)
    side.it.on_batch(batch, WHO[1], side.now, side.turn)
    turn = side.end()
    assert turn.checks == [batch]
    assert not turn.block_writes
    assert not acks_in(turn)
    side.it.on_checked(batch.header.digest, True, (), side.now, side.turn)
    turn = side.end()
    (ack,) = acks_in(turn)
    assert (ack.acker, ack.origin, ack.sequence, ack.digest) == (OWN, INSURERS[1].id, 1, batch.header.digest)
    assert verify(key_of(OWN).public, ack_message(GENESIS.chain_id, ack), ack.signature)
    assert turn.block_writes == [BatchWrite(batch.header.digest, batch.raw)]
    assert turn.sync_blocks
    record = wire.AckedRecord(ack.origin, 1, 1, ack.digest)
    assert [wire.decode_record(raw) for raw in turn.vote_records] == [record]


def test_one_digest_is_acknowledged_for_a_position_also_after_a_restart(side: Side) -> None:
    first, second = make_batch(1), make_batch(1)
    assert [ack.digest for ack in acks_in(side.receive(first))] == [first.header.digest]
    assert acks_in(side.receive(second)) == []
    again = side.restarted()
    assert {ack.digest for ack in acks_in(again.receive(second))} <= {first.header.digest}
    after_second = make_batch(1, head_of(second))
    assert acks_in(again.receive(after_second)) == []
    after_first = make_batch(1, head_of(first))
    assert [ack.digest for ack in acks_in(again.receive(after_first))] == [after_first.header.digest]


def test_acknowledgements_follow_the_chain_and_one_stands_for_all_before_it(side: Side) -> None:
    first, second, third = make_chain(1, 3)
    assert acks_in(side.receive(third, second)) == []
    (ack,) = acks_in(side.receive(first))
    assert (ack.sequence, ack.digest) == (3, third.header.digest)


def test_a_new_incarnation_is_acknowledged_from_the_executed_head_only(side: Side) -> None:
    first, second = make_chain(1, 2)
    side.receive(first, second)
    anew = make_batch(1, head_of(first), incarnation=2)
    assert acks_in(side.receive(anew)) == []
    (ack,) = acks_in(side.execute(first))
    assert (ack.incarnation, ack.digest) == (2, anew.header.digest)
    late = make_batch(1, head_of(second))
    assert acks_in(side.receive(late)) == [], "a lower incarnation gets none any more"


def test_what_is_executed_no_longer_depends_on_what_was_acknowledged(side: Side) -> None:
    mine, theirs = make_batch(1), make_batch(1)
    side.receive(mine, theirs)
    side.execute(theirs)
    after = make_batch(1, head_of(theirs))
    assert [ack.digest for ack in acks_in(side.receive(after))] == [after.header.digest]


def test_an_ill_formed_batch_is_never_acknowledged_and_its_digest_is_bad(side: Side) -> None:
    batch = make_batch(1)
    side.it.on_batch(batch, WHO[2], side.now, side.turn)
    side.it.on_checked(batch.header.digest, False, (), side.now, side.turn)
    turn = side.end()
    assert blamed_in(turn) == [1], "its origin, who signed it, whoever passed it on"
    assert side.it.is_bad(batch.header.digest)
    assert not turn.block_writes
    turn = side.receive(batch, make_batch(1, head_of(batch)))
    assert batch not in turn.checks
    assert acks_in(turn) == []
    assert asked_in(side.acknowledged(make_ack(2, batch))) == []
    assert asked_in(side.end(after_ms=DELAY_MS)) == []


def test_other_envelopes_under_a_genuine_header_are_the_senders_fault_and_spoil_nothing(side: Side) -> None:
    one, two = envelopes(2)
    batch = make_batch(1, contents=[one, two])
    garbled = wire.decode_batch(wire.encode_batch(batch.header.raw, batch.signature, [two.raw, one.raw]))
    assert garbled.header.digest == batch.header.digest
    side.it.on_batch(garbled, WHO[3], side.now, side.turn)
    turn = side.end()
    assert blamed_in(turn) == [3]
    assert turn.checks == []
    assert not side.it.is_bad(batch.header.digest)
    assert [ack.digest for ack in acks_in(side.receive(batch))] == [batch.header.digest]


@pytest.mark.parametrize(
    "batch",
    [
        make_batch(1, chain_id=bytes(32)),
        make_batch(1, key=key_of(2)),
    ],
    ids=["network", "signature"],
)
def test_a_batch_that_no_origin_made_costs_its_sender(side: Side, batch: Batch) -> None:
    side.it.on_batch(batch, WHO[3], side.now, side.turn)
    turn = side.end()
    assert blamed_in(turn) == [3]
    assert turn.checks == []


def test_unexecuted_bytes_of_an_origin_are_capped_unless_a_block_lists_them(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = make_chain(1, 3)
    monkeypatch.setattr(dissemination, "ORIGIN_BYTES_MAX", first.header.envelope_bytes + 1)
    assert acks_in(side.receive(first))
    assert side.receive(second).checks == []
    side.acknowledged(make_ack(1, second))
    assert side.receive(second).checks == [], "its acknowledgement is no reason to take it"
    side.it.want(third.header.digest, (WHO[1],), side.now)
    assert side.receive(third).checks == [third]
    assert side.it.pool.in_memory(second.header.digest) is None
    side.it.pool.drop(third.header.digest)
    side.execute(first)
    assert [ack.digest for ack in acks_in(side.receive(second))] == [second.header.digest]


def test_batches_of_an_origin_are_capped_in_number(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dissemination, "ORIGIN_BATCHES_MAX", 5)
    monkeypatch.setattr(origin, "ORIGIN_BATCHES_MAX", 5)
    siblings = [make_batch(1, incarnation=number + 1) for number in range(20)]
    side.receive(*siblings)
    assert side.it.pool.count_of(INSURERS[1].id) == 5
    side.open()
    for envelope in envelopes(20):
        side.it.origin.submit([envelope])
        side.it.origin._unacked = 0  # as if a quorum had it
        side.end()
    assert side.it.pool.count_of(INSURERS[OWN].id) == 2, "the own ones wait for room, too"
    assert side.it.origin.backlog_bytes == sum(len(envelope.raw) for envelope in envelopes(20))


def test_what_leaders_list_of_an_origin_cannot_fill_the_memory_and_stays_on_disk(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dissemination, "ORIGIN_BATCHES_MAX", 5)
    chain = make_chain(1, 3, incarnation=100)
    side.receive(*chain)
    listed = [make_batch(1, incarnation=number + 2) for number in range(20)]
    for batch in listed:
        side.it.want(batch.header.digest, (WHO[3],), side.now)
        side.receive(batch)
    assert side.it.pool.count_of(INSURERS[1].id) <= 6
    assert all(side.it.pool.in_memory(batch.header.digest) for batch in chain), "what is acknowledged stays"
    assert all(side.it.pool.get(batch.header.digest) for batch in listed), "what a block lists is at hand"


def test_nobody_looks_for_the_batches_of_an_invalid_block(side: Side) -> None:
    first, second = make_batch(1), make_batch(2)
    for batch in (first, second):
        side.it.want(batch.header.digest, (WHO[3],), side.now, at_once=True)
    side.acknowledged(make_ack(2, second))
    side.it.unwant([first.header.digest, second.header.digest, b"unknown"])
    asked = [digests for _, digests in asked_in(side.end(after_ms=DELAY_MS))]
    assert asked == [(second.header.digest,)], "a peer says it holds it"


def test_what_was_refused_for_want_of_room_is_looked_for_when_there_is_room(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_chain(1, 2)
    monkeypatch.setattr(dissemination, "ORIGIN_BYTES_MAX", first.header.envelope_bytes + 1)
    side.receive(first, second)
    side.acknowledged(make_ack(1, second))
    for _ in range(TRIES_MAX + 1):
        side.end(after_ms=DELAY_MS)
    assert asked_in(side.end(after_ms=DELAY_MS)) == [], "given up"
    side.execute(first)
    assert asked_in(side.end(after_ms=DELAY_MS)) == [((1,), (second.header.digest,))]


def test_executed_batches_that_are_sent_again_stay_out_of_memory(side: Side) -> None:
    old = make_chain(1, 3)
    side.receive(*old)
    side.execute(old[-1])
    for batch in old:
        side.it.on_batch(batch, WHO[3], side.now, side.turn)
    assert side.it.pool.bytes_of(INSURERS[1].id) == 0
    assert side.end().checks == []


def test_an_observer_stores_and_says_nothing() -> None:
    side = Side(voting=False)
    batch = make_batch(1)
    turn = side.receive(batch)
    assert turn.block_writes == [BatchWrite(batch.header.digest, batch.raw)]
    assert turn.sends == []
    assert turn.vote_records == []


# -- as origin -------------------------------------------------------------------------------


def test_a_start_asks_and_opens_the_incarnation_above_the_answers_of_a_quorum(side: Side) -> None:
    assert (None, OriginQuery(NONCE)) in side.end().sends
    assert side.it.deadline_ms() == side.now_ms + 2 * DELAY_MS
    side.it.origin.on_answer(OriginAnswer(bytes(32), 9), WHO[1])
    side.it.origin.on_answer(OriginAnswer(NONCE, 6), WHO[2])
    side.it.origin.on_answer(OriginAnswer(NONCE, 6), WHO[2])
    side.it.origin.submit(envelopes(1))
    assert batches_in(side.end()) == []
    assert not side.it.origin.opened
    assert (None, OriginQuery(NONCE)) in side.end(after_ms=2 * DELAY_MS).sends
    side.it.origin.on_answer(OriginAnswer(NONCE, 0), WHO[3])
    turn = side.end()
    assert [batch.header.position for batch in batches_in(turn)] == [(INSURERS[0].id, 7, 1)]
    assert wire.IncarnationRecord(7) in [wire.decode_record(raw) for raw in turn.vote_records]


def test_no_answer_can_use_up_the_incarnations(side: Side) -> None:
    side.open(2**64 - 1, 0)
    batch = side.submit(*envelopes(1))
    assert batch.header.incarnation == INCARNATION_MAX + 1
    again = side.restarted({WHO[OWN]: head_of(batch)})
    again.open(2**64 - 1, INCARNATION_MAX + 1)
    assert again.submit(*envelopes(1)).header.incarnation == INCARNATION_MAX + 2


def test_an_answer_names_the_highest_incarnation_seen(side: Side) -> None:
    side.receive(make_batch(1, incarnation=3))
    side.it.on_origin_query(OriginQuery(NONCE), WHO[1], side.turn)
    side.it.on_origin_query(OriginQuery(NONCE), WHO[2], side.turn)
    answers = [(to, message) for to, message in side.end().sends if isinstance(message, OriginAnswer)]
    assert answers == [(WHO[1], OriginAnswer(NONCE, 3)), (WHO[2], OriginAnswer(NONCE, 0))]


def test_an_idle_origin_closes_at_once_a_busy_one_by_size() -> None:
    some = envelopes(5)
    side = Side(close_bytes=3 * len(some[0].raw))
    side.open()
    first = side.submit(some[0])
    side.it.origin.submit(some[1:3])
    assert batches_in(side.end()) == []
    side.it.origin.submit(some[3:4])
    (second,) = batches_in(side.end())
    assert second.header.previous == first.header.digest
    assert second.envelopes == tuple(envelope.raw for envelope in some[1:4])
    side.it.origin.submit(some[4:])
    assert batches_in(side.end()) == []
    assert len(batches_in(side.acknowledged(make_ack(1, second), make_ack(2, second)))) == 1


def test_a_quorum_of_acknowledgements_is_accepted_once(side: Side) -> None:
    side.open()
    envelope = envelopes(1)[0]
    batch = side.submit(envelope)
    assert accepted_in(side.acknowledged(make_ack(1, batch))) == [], "own and one other: one short of a quorum"
    turn = side.acknowledged(make_ack(2, batch))
    assert turn.notices == [AcceptedNotice(batch.header.digest, (envelope.id,))]
    assert side.acknowledged(make_ack(3, batch), make_ack(2, batch)).notices == []


def test_a_cumulative_acknowledgement_marks_the_predecessors() -> None:
    some = envelopes(3)
    side = Side(close_bytes=1)
    side.open()
    side.it.origin.submit(some)
    batches = batches_in(side.end())
    assert len(batches) == 3
    turn = side.acknowledged(make_ack(1, batches[2]), make_ack(2, batches[1]))
    assert accepted_in(turn) == [batches[1].header.digest, batches[0].header.digest]
    assert side.listable() == [batch.header.digest for batch in batches[:2]]


def test_a_restart_lets_what_was_made_be_listed_before_it_makes_anything(side: Side) -> None:
    """What is made anew would leave it beside the chain, and only this origin has the rest of what it makes anew."""
    some = envelopes(4)
    side.open()
    batches = [side.submit(some[0])]
    side.acknowledged(make_ack(1, batches[0]), make_ack(2, batches[0]))
    batches.append(side.submit(some[1], some[2]))
    again = side.restarted({WHO[OWN]: head_of(batches[0])})
    again.it.origin.submit(some[3:])
    again.it.on_connected(WHO[1], again.turn)
    turn = again.open(1, 1)
    assert batches_in(turn) == [batches[1]], "pushed to whoever has not acknowledged it in this life"
    assert not again.it.origin.opened
    assert batches_in(again.end(after_ms=100 * DELAY_MS)) == [], "however long that takes"
    turn = again.acknowledged(make_ack(1, batches[1]), make_ack(2, batches[1]))
    assert accepted_in(turn) == [batches[1].header.digest], "nothing can take its place"
    assert again.listable({WHO[OWN]: head_of(batches[0])}) == [batches[1].header.digest]
    (rest,) = batches_in(again.execute(batches[1]))
    assert rest.header.position == (WHO[OWN], 2, 1)
    assert (rest.header.previous, rest.envelopes) == (batches[1].header.digest, (some[3].raw,))


def test_a_restart_makes_anew_what_can_no_longer_be_listed_at_once_and_before_anything_else(side: Side) -> None:
    some = envelopes(4)
    side.open(1, 0)
    beside = side.submit(*some[:2])
    again = side.restarted({WHO[OWN]: head_of(make_batch(OWN))})
    again.it.origin.submit(some[3:])
    turn = again.open(2, 2)
    (anew,) = batches_in(turn)
    assert anew.envelopes == beside.envelopes
    assert anew.header.position == (WHO[OWN], 3, 1)
    records = [wire.decode_record(raw) for raw in turn.vote_records]
    assert wire.IncarnationRecord(3) in records
    assert wire.AckedRecord(WHO[OWN], 3, 1, anew.header.digest) in records
    (rest,) = batches_in(again.acknowledged(make_ack(1, anew), make_ack(2, anew)))
    assert rest.envelopes == (some[3].raw,)


def test_one_liar_hurries_no_origin_that_waits(side: Side) -> None:
    side.open()
    made = side.submit(*envelopes(1))
    again = side.restarted()
    again.open(1, 9)
    assert not again.it.origin.opened
    again.execute(made)
    assert again.submit(*envelopes(1)).header.position == (WHO[OWN], 10, 1)


def test_an_origin_whose_state_ends_before_the_epoch_of_what_it_made_waits_for_that(side: Side) -> None:
    """A power cut took executed state: the epoch before is none in which those batches could not be listed any more."""
    made = make_batch(OWN, epoch=1)
    side.store.commit([BatchWrite(made.header.digest, made.raw)])
    own = (wire.IncarnationRecord(1), wire.AckedRecord(WHO[OWN], 1, 1, made.header.digest))
    side.log += [wire.encode_record(each) for each in own]
    again = side.restarted()
    turn = again.open(1, 1)
    assert not again.it.origin.opened
    assert dropped_in(turn) == set()


def test_an_origin_whose_state_ends_before_it_opened_its_incarnation_waits_until_that_is_executed_again() -> None:
    """A power failure took executed state. What was promised follows a head that is about to be reached once more."""
    before = make_batch(OWN, incarnation=2)
    listed, promised = make_chain(OWN, 2, head_of(before), incarnation=3)
    store = MemoryBlockStore()
    store.commit([BatchWrite(each.header.digest, each.raw) for each in (before, listed, promised)])
    own = (wire.IncarnationRecord(3), wire.AckedRecord(WHO[OWN], 3, 2, promised.header.digest))
    side = Side(store, [wire.encode_record(each) for each in own])
    side.end()
    side.open(3, 3)
    assert not side.it.origin.opened
    for each in (before, listed):
        assert batches_in(side.execute(each)) == []
    assert not side.it.origin.opened, "the promised one may still be listed"
    side.execute(promised)
    assert side.submit(*envelopes(1)).header.position == (WHO[OWN], 4, 1)


def test_an_origin_that_has_forgotten_waits_for_what_others_hold_and_not_for_ever(side: Side) -> None:
    """Its records are gone: what peers acknowledge of its earlier life is listed first, where they list it in time."""
    held, later = make_chain(OWN, 2, incarnation=4)
    side.end()
    side.open(4, 4)
    assert not side.it.origin.opened
    side.receive(held, later)
    side.end(after_ms=FORGOTTEN_DELAYS * DELAY_MS - 1)
    side.execute(held)
    assert not side.it.origin.opened
    (anew,) = batches_in(side.end(after_ms=1))
    assert anew.header.position == (WHO[OWN], 5, 1)
    assert (anew.header.previous, anew.envelopes) == (held.header.digest, later.envelopes)


def test_who_finds_itself_executed_beyond_its_records_has_forgotten() -> None:
    side = Side(heads={WHO[OWN]: head_of(make_batch(OWN, incarnation=3))})
    side.end()
    side.open(0, 0)
    assert not side.it.origin.opened
    side.end(after_ms=FORGOTTEN_DELAYS * DELAY_MS)
    assert side.submit(*envelopes(1)).header.position == (WHO[OWN], 4, 1)


def test_a_head_off_the_own_chain_opens_the_next_incarnation_with_what_was_not_listed(side: Side) -> None:
    """A batch of a forgotten life is listed after all: of the incarnation after it everything is made anew."""
    forgotten = make_batch(OWN)
    side.open(1, 0)
    first = side.submit(*envelopes(1))
    side.acknowledged(make_ack(1, first), make_ack(2, first))
    second = side.submit(*envelopes(2)[1:])
    side.it.want(forgotten.header.digest, (WHO[1],), side.now)
    side.receive(forgotten)
    (third,) = batches_in(side.execute(forgotten))
    assert third.header.position == (WHO[OWN], 3, 1)
    assert third.header.previous == forgotten.header.digest
    assert third.envelopes == first.envelopes + second.envelopes


def test_after_a_restart_nothing_is_accepted_before_the_new_incarnation_is_listed(side: Side) -> None:
    """Else a batch of the incarnation before, listed after all, would leave it where only this origin finds it."""
    some = envelopes(3)
    side.open(1, 0)
    first = side.submit(some[0])
    assert accepted_in(side.acknowledged(make_ack(1, first), make_ack(2, first))) == []
    follower = side.submit(some[1])
    assert accepted_in(side.acknowledged(make_ack(1, follower), make_ack(2, follower))) == []
    short_of_a_quorum = side.submit(some[2])
    assert accepted_in(side.execute(first)) == [follower.header.digest]
    turn = side.acknowledged(make_ack(1, short_of_a_quorum), make_ack(2, short_of_a_quorum))
    assert accepted_in(turn) == [short_of_a_quorum.header.digest]


def test_what_an_older_incarnation_left_beside_the_chain_was_never_accepted(side: Side) -> None:
    some = envelopes(2)
    side.open(1, 0)
    first = side.submit(some[0])
    side.acknowledged(make_ack(1, first), make_ack(2, first))
    lost = side.submit(some[1])
    assert accepted_in(side.acknowledged(make_ack(1, lost), make_ack(2, lost))) == []
    turn = side.execute(make_batch(OWN))
    assert accepted_in(turn) == []
    assert [batch.envelopes for batch in batches_in(turn)] == [first.envelopes + lost.envelopes]


def test_a_connection_brings_what_the_peer_may_have_missed(side: Side) -> None:
    side.open()
    theirs = make_batch(1)
    side.receive(theirs)
    mine = side.submit(*envelopes(1))
    side.acknowledged(make_ack(1, mine))
    for peer, missed in ((1, []), (2, [mine])):
        side.it.on_connected(WHO[peer], side.turn)
        turn = side.end()
        assert {to for to, _ in turn.sends} == {WHO[peer]}
        assert batches_in(turn) == missed
        assert {ack.digest for ack in acks_in(turn)} == {mine.header.digest, theirs.header.digest}
    side.execute(theirs, mine)
    side.it.on_connected(WHO[2], side.turn)
    assert side.end().sends == [], "what is executed needs no acknowledgement"


def test_after_a_restart_the_acknowledged_heads_are_said_and_counted_again(side: Side) -> None:
    chain = make_chain(1, 3)
    side.receive(*chain)
    again = side.restarted()
    again.it.on_connected(WHO[2], again.turn)
    assert [ack.digest for ack in acks_in(again.end())] == [chain[2].header.digest] * 2, "to all, and to the new one"
    again.acknowledged(make_ack(1, chain[2]), make_ack(2, chain[2]))
    assert again.listable() == [batch.header.digest for batch in chain]


# -- as leader -------------------------------------------------------------------------------


def test_a_quorum_makes_a_batch_listable_and_f_plus_1_after_two_delays(side: Side) -> None:
    batch = make_batch(1)
    side.receive(batch)
    assert side.listable() == []
    side.open()
    side.acknowledged(make_ack(1, batch))
    assert side.listable() == [], "f + 1 hold it, but only since now"
    assert side.it.deadline_ms() == side.now_ms + 2 * DELAY_MS
    side.end(after_ms=2 * DELAY_MS - 1)
    assert side.listable() == []
    side.end(after_ms=1)
    assert side.listable() == [batch.header.digest]
    assert side.it.deadline_ms() is None, "a deadline that is over is none"
    other = make_batch(2)
    side.receive(other)
    side.acknowledged(make_ack(1, other), make_ack(2, other))
    assert side.listable() == [batch.header.digest, other.header.digest]


def test_the_own_acknowledgement_may_be_the_one_that_makes_f_plus_1(side: Side) -> None:
    batch = make_batch(1)
    side.acknowledged(make_ack(1, batch))
    side.receive(batch)
    side.end(after_ms=2 * DELAY_MS)
    assert side.listable() == [batch.header.digest]


def test_a_batch_that_comes_after_its_followers_gets_their_holders(side: Side) -> None:
    chain = make_chain(1, 4)
    side.receive(chain[0], chain[3])
    side.acknowledged(make_ack(1, chain[3]), make_ack(2, chain[3]))
    assert asked_in(side.end(after_ms=DELAY_MS)) == [((1, 2), (chain[2].header.digest,))]
    side.receive(chain[2])
    assert asked_in(side.end(after_ms=DELAY_MS)) == [((1, 2), (chain[1].header.digest,))]
    side.receive(chain[1])
    assert side.listable() == [batch.header.digest for batch in chain]


def test_a_gap_that_was_given_up_is_looked_for_at_the_next_acknowledgement(side: Side) -> None:
    chain = make_chain(1, 4)
    side.open()
    side.receive(chain[2])
    side.acknowledged(make_ack(1, chain[2]))
    for _ in range(TRIES_MAX + 1):
        side.end(after_ms=DELAY_MS)
    assert side.it.deadline_ms() is None
    side.receive(chain[3])
    side.acknowledged(make_ack(1, chain[3]))
    assert asked_in(side.end(after_ms=DELAY_MS)) == [((1,), (chain[1].header.digest,))]


# -- what liars say --------------------------------------------------------------------------


def test_an_acknowledgement_that_cannot_be_costs_its_sender(side: Side) -> None:
    batch = make_batch(1)
    good = make_ack(2, batch)
    replace = msgspec.structs.replace
    for bad in (
        replace(good, kind=HELD + 1),
        replace(good, epoch=1),
        replace(good, acker=4),
        replace(good, origin="nobody"),
        replace(good, acker=1),
        replace(good, sequence=2),
    ):
        side.it.on_ack(bad, WHO[3], side.now, side.turn)
        assert blamed_in(side.end()) == [3], bad


def test_an_acknowledgement_of_a_batch_elsewhere_brings_nothing_into_memory(side: Side) -> None:
    old = make_chain(1, 3)
    side.receive(*old)
    side.execute(old[-1])
    for at, batch in enumerate(old):
        turn = side.acknowledged(make_ack(2, batch, sequence=100 + at))
        assert blamed_in(turn) == [2]
    assert side.it.pool.bytes_of(INSURERS[1].id) == 0
    assert asked_in(side.end(after_ms=DELAY_MS)) == []


def test_a_block_that_lists_what_was_executed_is_known_to_be_invalid_and_fills_no_memory(side: Side) -> None:
    old = make_chain(1, 2)
    side.receive(*old, make_batch(1, head_of(old[1])))
    side.execute(old[1])
    assert [side.it.is_bad(batch.header.digest) for batch in old] == [True, True]
    held = side.it.pool.of_origin(INSURERS[1].id)
    assert [known.batch.header.sequence for known in held] == [3]
    assert not side.it.is_bad(held[0].batch.header.digest)
    assert not side.it.is_bad(bytes(32))


# -- what disk keeps -------------------------------------------------------------------------


def test_what_the_executed_head_left_beside_its_chain_goes_from_disk_and_what_was_listed_stays(side: Side) -> None:
    chain = make_chain(1, 3)
    beside = [make_batch(1), make_batch(1, head_of(chain[0]))]
    ahead = make_batch(1, head_of(chain[2]))
    side.receive(*chain, *beside, ahead)
    turn = side.execute(chain[2])
    assert dropped_in(turn) == {batch.header.digest for batch in beside}
    assert not turn.sync_blocks, "nothing waits for it"
    assert [side.store.has_batch(batch.header.digest) for batch in (*chain, *beside, ahead)] == [True] * 3 + [
        False
    ] * 2 + [True]


def test_listed_batches_that_came_back_into_memory_stay_on_disk(side: Side) -> None:
    chain = make_chain(1, 3)
    side.receive(*chain)
    side.execute(chain[1])
    for batch in chain[:2]:
        side.it.pool.get(batch.header.digest)
    assert dropped_in(side.execute(chain[2])) == set()
    assert all(side.store.has_batch(batch.header.digest) for batch in chain)


def test_a_new_incarnation_lets_the_unlisted_rest_of_the_old_one_go(side: Side) -> None:
    old = make_chain(1, 3)
    anew = make_batch(1, head_of(old[0]), incarnation=2)
    side.receive(*old, anew)
    assert dropped_in(side.execute(old[0])) == set()
    assert dropped_in(side.execute(anew)) == {batch.header.digest for batch in old[1:]}
    assert side.store.has_batch(old[0].header.digest)


def test_nothing_goes_where_it_cannot_be_told_what_was_listed(side: Side) -> None:
    chain = make_chain(1, 3)
    beside = make_batch(1)
    side.receive(*chain, beside)
    side.it.pool.drop(chain[1].header.digest)
    assert dropped_in(side.execute(chain[2])) == set()


def pushed_out(side: Side, batches: Sequence[Batch]) -> list[Batch]:
    """A leader lists these: they are taken without room; those that no memory holds afterwards."""
    for batch in batches:
        side.it.want(batch.header.digest, (WHO[3],), side.now)
        side.receive(batch)
    return [batch for batch in batches if side.it.pool.in_memory(batch.header.digest) is None]


def test_what_leaders_listed_goes_from_disk_once_no_block_can_list_it(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dissemination, "ORIGIN_BATCHES_MAX", 5)
    side.receive(*make_chain(1, 3, incarnation=100))
    aside = pushed_out(side, [make_batch(1, incarnation=number + 2) for number in range(20)])
    assert len(aside) > 10
    other = make_batch(2)
    side.receive(other)
    kept = {batch.header.digest for batch in aside[:4]}
    side.listable_above = set(kept)
    assert dropped_in(side.execute(other)) == {batch.header.digest for batch in aside[4:]}
    assert all(side.store.has_batch(digest) for digest in kept), "a block that may become final needs them"
    after = make_batch(2, head_of(other))
    side.receive(after)
    side.listable_above.clear()
    assert dropped_in(side.execute(after)) == kept


def test_what_is_taken_from_disk_again_in_the_turn_in_which_it_would_go_stays(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dissemination, "ORIGIN_BATCHES_MAX", 5)
    side.receive(*make_chain(1, 3, incarnation=100))
    aside = pushed_out(side, [make_batch(1, incarnation=number + 2) for number in range(20)])
    other = make_batch(2)
    side.receive(other)
    listed = aside[7].header
    side.it.on_executed({other.header.origin: head_of(other)}, lambda _: False, side.turn)
    assert side.it.pool.get(listed.digest), "a block that arrives now lists it"
    assert dropped_in(side.end()) == {batch.header.digest for batch in aside} - {listed.digest}
    assert side.store.has_batch(listed.digest), "memory holds it as stored, and nobody would store it again"


def test_what_waits_of_an_origin_that_executed_state_does_not_know_yet_goes_like_that_of_others(side: Side) -> None:
    other, unknown = make_batch(2), make_batch(1)
    side.it._aside.add(unknown.header, promised=False)
    side.receive(other)
    del side.it.executed[unknown.header.origin]
    assert dropped_in(side.execute(other)) == {unknown.header.digest}


def test_what_was_acknowledged_stays_on_disk_until_the_chain_has_passed_it(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dissemination, "ORIGIN_BATCHES_MAX", 3)
    side.open()
    promised = make_chain(1, 3)
    side.receive(*promised)
    assert side.acked_head(1) == head_of(promised[-1])
    anew = make_chain(1, 3, incarnation=2)
    assert pushed_out(side, anew) == []
    held = [batch for batch in promised if side.it.pool.in_memory(batch.header.digest)]
    assert len(held) < 3, "they stand beside the chain now"
    other = make_batch(2)
    side.receive(other)
    assert dropped_in(side.execute(other)) == set(), "it promised to keep them"
    assert dropped_in(side.execute(anew[0])) == {batch.header.digest for batch in promised}


def test_an_origin_whose_promises_fill_the_disk_gets_no_further_ones(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = make_batch(1).header.envelope_bytes
    monkeypatch.setattr(dissemination, "ORIGIN_BATCHES_MAX", 3)
    monkeypatch.setattr(dissemination, "ORIGIN_BYTES_MAX", 7 * size)
    side.open()
    side.receive(*make_chain(1, 3))
    for incarnation in range(2, 20):
        pushed_out(side, make_chain(1, 3, incarnation=incarnation))
    acknowledged = side.acked_head(1).incarnation
    assert acknowledged < 6
    assert side.it._aside.acknowledged_bytes(INSURERS[1].id) < (7 + 3) * size
    passing = make_batch(1, incarnation=30)
    pushed_out(side, [passing])
    side.execute(passing)
    assert side.it._aside.acknowledged_bytes(INSURERS[1].id) == 0
    following = make_batch(1, head_of(passing), incarnation=30)
    side.receive(following)
    assert side.acked_head(1) == head_of(following), "the chain has passed them: it is trusted again"


def test_what_was_pushed_out_and_then_executed_stays_on_disk(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dissemination, "ORIGIN_BATCHES_MAX", 5)
    side.receive(*make_chain(1, 3, incarnation=100))
    aside = pushed_out(side, [make_batch(1, incarnation=number + 2) for number in range(20)])
    chosen = aside[7]
    assert side.it.pool.get(chosen.header.digest), "execution brings it back"
    assert chosen.header.digest not in dropped_in(side.execute(chosen))
    assert side.store.has_batch(chosen.header.digest)
    later = make_batch(1, head_of(chosen), incarnation=chosen.header.incarnation)
    side.receive(later)
    assert chosen.header.digest not in dropped_in(side.execute(later))


def test_a_start_finds_what_lies_on_disk_beside_the_acknowledged_chain(side: Side) -> None:
    """What the chain has passed goes at once, the rest when it is passed; what was listed or is acknowledged stays."""
    chain = make_chain(1, 3)
    passed, beside = make_batch(1, contents=envelopes(2)), make_batch(1, incarnation=2, contents=envelopes(3))
    side.receive(*chain)
    listed = chain[0].header.digest
    side.store.commit([BatchWrite(each.header.digest, each.raw) for each in (passed, beside)])
    side.store.commit([FinalizedWrite(1, bytes(32), b"", (listed,))])
    again = side.restarted({WHO[1]: head_of(chain[0])})
    assert dropped_in(again.end()) == {passed.header.digest}
    assert dropped_in(again.end()) == set()
    again.it.pool.get(chain[1].header.digest)
    assert dropped_in(again.execute(chain[1])) == set(), "it may have been acknowledged"
    third = make_batch(1, head_of(chain[1]), incarnation=3)
    again.receive(third)
    assert dropped_in(again.execute(third)) == {beside.header.digest, chain[2].header.digest}
    assert set(again.store.waiting()) == {chain[1].header.digest, third.header.digest}, "no final block lists these"
    assert again.store.batch(listed) is not None


def test_a_start_keeps_a_batch_of_an_epoch_that_is_to_be_executed_again(side: Side) -> None:
    """A power cut took executed state and left the batch: the node starts in an epoch before the batch's."""
    later = make_batch(1, epoch=EPOCH.number + 1)
    side.store.commit([BatchWrite(later.header.digest, later.raw)])
    again = side.restarted()
    assert dropped_in(again.end()) == set()
    assert again.store.batch(later.header.digest) is not None


def test_what_starts_find_of_an_origin_that_lies_is_bounded(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    litter = [make_batch(1, incarnation=number + 1) for number in range(8)]
    size = litter[0].header.envelope_bytes
    side.store.commit([BatchWrite(each.header.digest, each.raw) for each in litter])
    monkeypatch.setattr(dissemination, "ORIGIN_BYTES_MAX", 3 * size)
    again = side.restarted()
    assert acks_in(again.receive(make_batch(1, incarnation=20))) == [], "it is promised no more"
    assert len(dropped_in(again.execute(make_batch(2)))) == 5, "what was not promised goes once no block lists it"
    assert len(list(again.store.waiting())) == 4


def test_an_observer_keeps_nothing_that_no_block_lists(side: Side) -> None:
    batch = make_batch(1)
    side.receive(batch)
    again = Side(side.store, voting=False)
    assert dropped_in(again.execute(make_batch(2))) == {batch.header.digest}


# -- looking for batches ---------------------------------------------------------------------


def test_two_holders_are_asked_first_then_everybody_in_turn_and_in_the_end_nobody(side: Side) -> None:
    side.open()
    batch = make_batch(1)
    turn = side.acknowledged(make_ack(3, batch), make_ack(2, batch), make_ack(1, batch))
    assert asked_in(turn) == [], "it may still be on its way"
    asked = [asked_in(side.end(after_ms=DELAY_MS)) for _ in range(TRIES_MAX)]
    digests = (batch.header.digest,)
    assert asked[:4] == [[(sources, digests)] for sources in ((1, 2), (3, 1, 2), (1, 2, 3), (2, 3, 1))]
    assert all(sorted(sources) == [1, 2, 3] for ((sources, _),) in asked[1:])
    assert asked_in(side.end(after_ms=DELAY_MS)) == []
    assert side.it.deadline_ms() is None


def test_what_a_block_lists_is_asked_for_at_once_if_it_is_not_on_its_way() -> None:
    wanted = WantedBatches(WHO[1:], DELAY_MS)
    wanted.listed(b"1", (WHO[2],), Now(0, 0), at_once=True)
    wanted.listed(b"2", (WHO[2],), Now(0, 0), at_once=False)
    assert wanted.due(Now(0, 0)) == [FetchBatches((WHO[2],), (b"1",))]
    wanted.acknowledged(WHO[3], "origin", b"3", Now(0, 0))
    wanted.listed(b"3", (WHO[1],), Now(0, 0), at_once=True)
    assert wanted.due(Now(0, 0)) == [FetchBatches((WHO[1], WHO[3]), (b"3",))]
    wanted.found(b"1")
    wanted.found(b"1")
    assert b"1" not in wanted
    assert wanted.deadline_ms() == DELAY_MS


def test_a_peer_makes_this_node_look_for_one_batch_of_each_origin() -> None:
    wanted = WantedBatches(WHO[1:], DELAY_MS)
    for number in range(1000):
        wanted.acknowledged(WHO[3], "origin", b"%d" % number, Now(0, 0))
    wanted.acknowledged(WHO[2], "origin", b"7", Now(0, 0))
    wanted.acknowledged(WHO[2], "origin", b"999", Now(0, 0))
    (fetch,) = wanted.due(Now(DELAY_MS, 0))
    assert fetch == FetchBatches((WHO[2], WHO[3]), (b"999",))


def test_no_request_is_larger_than_those_who_are_asked_allow() -> None:
    wanted = WantedBatches(WHO[1:], DELAY_MS)
    for number in range(LISTED_MAX):
        wanted.listed(b"bogus %d" % number, (WHO[3],), Now(0, 0), at_once=True)
    for acker in (1, 2):
        wanted.acknowledged(WHO[acker], "origin", b"genuine %d" % acker, Now(0, 0))
    wanted.due(Now(0, 0))
    fetches = wanted.due(Now(DELAY_MS, 0)) + wanted.due(Now(2 * DELAY_MS, 0))
    assert all(len(fetch.digests) <= DIGESTS_MAX for fetch in fetches)
    assert {b"genuine 1", b"genuine 2"} <= {digest for fetch in fetches for digest in fetch.digests}


def test_a_leaders_inventions_leave_room_for_others_blocks() -> None:
    wanted = WantedBatches(WHO[1:], DELAY_MS)
    for number in range(LISTED_MAX + 10):
        wanted.listed(b"bogus %d" % number, (WHO[3],), Now(0, 0), at_once=True)
    wanted.listed(b"genuine", (WHO[2],), Now(0, 0), at_once=True)
    assert wanted.is_listed(b"genuine")
    assert not wanted.is_listed(b"bogus %d" % LISTED_MAX)
    wanted.found(b"bogus 0")
    wanted.listed(b"bogus %d" % LISTED_MAX, (WHO[3],), Now(0, 0), at_once=True)
    assert wanted.is_listed(b"bogus %d" % LISTED_MAX)
