"""Whatever a peer states, a node takes it, refuses it or has the peer pay; it never falls over and keeps its bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consensus.evidence import FalseJustification
from ledger import statements, wire
from ledger.statement_types import Moment
from ledger.types import Statement
from lossbook.v1 import block_pb2
from node.statements import SUBJECT_BYTES_MAX, StatementPool
from node.turn import Turn
from tests.support.chain import Chain
from tests.support.evidence import statement
from tests.support.insurers import Ledger

CHAIN = Chain()
BLOCK = CHAIN.block(skipped_views=2)
U64 = (1 << 64) - 1

numbers = st.sampled_from([0, 1, 2, 3, 4, 255, 1 << 31, U64 - 1, U64])
digests = st.sampled_from([b"", bytes(32), b"d" * 32, b"e" * 31])
votes = st.builds(
    block_pb2.Vote,
    kind=st.integers(0, 4),
    epoch=numbers,
    view=numbers,
    parent_view=numbers,
    digest=digests,
    signer=st.sampled_from([0, 3, 4, (1 << 32) - 1]),
    signature=st.sampled_from([bytes(64), b"s" * 64, b""]),
)
certificates = st.builds(
    block_pb2.Certificate,
    kind=st.integers(0, 3),
    epoch=numbers,
    view=numbers,
    parent_view=numbers,
    digest=digests,
    signer_bitmap=st.sampled_from([b"", b"\x07", b"\xff\x01"]),
    signatures=st.lists(st.just(bytes(64)), max_size=4),
)
headers = st.builds(
    lambda view, parent_view, epoch: (
        wire.encode_header(
            **{
                **{
                    name: getattr(BLOCK.header, name)
                    for name in type(BLOCK.header).__dataclass_fields__
                    if name not in ("digest", "raw")
                },
                "view": view,
                "parent_view": parent_view,
                "epoch": epoch,
            }
        ).raw
    ),
    numbers,
    numbers,
    numbers,
)
justifications = st.one_of(
    st.just(BLOCK.justification.raw),
    st.builds(
        lambda parent, skipped: block_pb2.Justification(parent=parent, nullifications=skipped).SerializeToString(),
        st.one_of(st.none(), certificates),
        st.lists(certificates, max_size=3),
    ),
)
stated = st.one_of(
    st.builds(
        lambda pair: block_pb2.Statement(conflicting_votes=block_pb2.ConflictingVotes(first=pair[0], second=pair[1])),
        st.lists(votes, min_size=2, max_size=2).map(lambda both: sorted(both, key=block_pb2.Vote.SerializeToString)),
    ),
    st.builds(
        lambda vote, header, justification: block_pb2.Statement(
            false_justification=block_pb2.FalseJustification(vote=vote, header=header, justification=justification)
        ),
        votes,
        headers,
        justifications,
    ),
)


class Executed:
    """A state that executed nothing but the genesis."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def is_due(self, each: Statement, moment: Moment) -> bool:
        return statements.is_due(each, self.ledger.state, moment)


STATE = Executed()
JUDGE = statements.judge_of(CHAIN.genesis)


@given(messages=st.lists(stated, max_size=4))
def test_hostile_statements_are_taken_refused_or_penalised(messages: list[block_pb2.Statement]) -> None:
    pool, turn = StatementPool(JUDGE, STATE, CHAIN.genesis_header), Turn()
    for message in messages:
        raw = message.SerializeToString(deterministic=True)
        try:
            decoded = wire.decode_statement(raw)
        except wire.WireError:
            assert pool.read([raw]) is None
            continue
        pool.on_statement(decoded, "peer", turn)
        pool.read([raw])
        statements.execute(decoded, STATE.ledger.state, Moment(1, 1, 0, 1))
        STATE.ledger.state.discard()
        if isinstance(decoded.content, FalseJustification):
            assert len(pool) == 0, "no vote here is genuine"
    assert all(penalty.peer == "peer" for penalty in turn.penalties)
    assert len(turn.sends) == len(pool)


@given(views=st.lists(st.integers(1, 50), max_size=20), signer=st.integers(0, 3))
def test_a_pool_holds_no_more_of_one_than_its_share(views: list[int], signer: int) -> None:
    pool, turn = StatementPool(JUDGE, STATE, CHAIN.genesis_header), Turn()
    for view in views:
        pool.on_statement(statement(signer, view), "peer", turn)
    assert len(pool) == len(set(views))
    assert sum(len(each.raw) for each in pool.listable(set())) <= SUBJECT_BYTES_MAX
    assert not turn.penalties
