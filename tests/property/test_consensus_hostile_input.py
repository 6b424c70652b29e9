"""Any events in any order: the core never raises, never signs against its rules, and keeps to its bounds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.events import (
    BlockFetched,
    CertificateReceived,
    Event,
    HeadersStored,
    MutedReceived,
    PeerConnected,
    ProposalReceived,
    StartAnswerReceived,
    StartQueryReceived,
    Tick,
    Verdict,
    Verified,
    VoteReceived,
    WantReceived,
    Work,
)
from consensus.messages import Muted, StartAnswer, StartQuery, Want
from consensus.types import Certificate, Header, Proposal, Vote, VoteKind
from tests.unit.consensus.oracle import Oracle
from tests.unit.consensus.solo import NONCE, Solo
from tests.unit.consensus.support import X, certificate, genesis, rehash, validators, vote

SOLO = Solo()
U64 = (1 << 64) - 1

senders = st.integers(0, 3)
kinds = st.sampled_from(VoteKind)
views = st.integers(1, 6)
wild = st.sampled_from([0, 1, 2, 3, 7, 1_000, U64 - 1, U64])


@st.composite
def blocks(draw: st.DrawFn) -> Proposal:
    """Blocks over one another, many of them wrong somewhere."""
    view = draw(views)
    parent = genesis()
    for parent_view in sorted(draw(st.sets(st.integers(1, view - 1), max_size=2)) if view > 1 else []):
        parent = SOLO.proposal(parent_view, parent, nullified=range(parent.view + 1, parent_view)).header
    skipped = draw(st.one_of(st.just(list(range(parent.view + 1, view))), st.lists(views, max_size=3)))
    proposal = SOLO.proposal(view, parent, skipped, payload=draw(st.sampled_from([b"", b"a"])))
    if draw(st.integers(0, 3)):
        return proposal
    field, value = draw(st.tuples(st.sampled_from(FIELDS), wild))
    header = rehash(replace(proposal.header, **{field: value}))  # type: ignore[arg-type]
    return replace(proposal, header=header, vote=vote(VoteKind.NOTARIZE, view, proposal.vote.signer, header))


FIELDS = ["version", "epoch", "height", "view", "parent_view", "timestamp_ms", "state_height"]


@st.composite
def votes(draw: st.DrawFn) -> Vote:
    kind = draw(kinds)
    header: Header | None = None if kind is X else draw(blocks()).header
    made = vote(kind, draw(views), draw(senders), header)
    if draw(st.integers(0, 4)):
        return made
    change = draw(
        st.sampled_from(
            [
                {"signature": bytes(64)},
                {"signature": b""},
                {"signer": 9},
                {"signer": -1},
                {"digest": b"x"},
                {"epoch": 3},
            ]
        )
    )
    return replace(made, view=draw(wild), **change)  # type: ignore[arg-type]


@st.composite
def certificates(draw: st.DrawFn) -> Certificate:
    kind = draw(kinds)
    header = None if kind is X else draw(blocks()).header
    signers = draw(st.sets(senders, min_size=1, max_size=4))
    made = certificate(kind, header.view if header else draw(views), header, signers, validators(4))
    if draw(st.integers(0, 3)):
        return made
    return replace(made, **draw(st.sampled_from(CERTIFICATE_CHANGES)))  # type: ignore[arg-type]


CERTIFICATE_CHANGES: list[dict[str, object]] = [
    {"signers": ()},
    {"signers": (0, 0, 1)},
    {"signers": (0, 1, 77)},
    {"signatures": ()},
    {"view": U64},
    {"view": 0},
    {"digest": b""},
]

answers = st.builds(
    StartAnswer,
    st.sampled_from([NONCE, bytes(32)]),
    wild,
    st.lists(votes(), max_size=3).map(lambda found: tuple(found)),
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(ProposalReceived, senders, blocks()),
    st.builds(VoteReceived, senders, votes()),
    st.builds(CertificateReceived, senders, certificates()),
    st.builds(BlockFetched, senders, blocks()),
    st.builds(WantReceived, senders, st.builds(Want, st.just(0), wild)),
    st.builds(StartQueryReceived, senders, st.builds(StartQuery, st.integers(0, 1), st.just(NONCE))),
    st.builds(StartAnswerReceived, senders, answers),
    st.builds(MutedReceived, senders, st.builds(Muted, st.just(0), wild)),
    st.builds(PeerConnected, senders),
    st.builds(HeadersStored, st.just(bytes(32))),
    st.builds(Work, st.booleans()),
    st.just(Tick()),
)


@settings(max_examples=150)
@given(
    script=st.lists(st.tuples(events, st.integers(0, 400)), max_size=40),
    ready=st.booleans(),
    own_index=st.sampled_from([0, 1, 2, None]),
)
def test_hostile_input_never_breaks_a_core(script: list[tuple[Event, int]], ready: bool, own_index: int | None) -> None:
    node = Solo(own_index, ready=ready)
    seen: list[bytes] = []
    for event, wait_ms in script:
        if isinstance(event, ProposalReceived | BlockFetched):
            seen.append(event.proposal.header.digest)
        node.do(event)
        for digest in seen:  # the application is as erratic
            if digest[0] % 3:
                node.do(Verified(digest, Verdict.VALID if digest[1] % 4 else Verdict.INVALID))
        node.wait(wait_ms)
        node.core.status()
    _check_signed(node)
    _check_bounds(node)
    again = node.restarted()
    again.signatures.made |= node.signatures.made
    assert (again.core.view, again.core.floor) == (node.core.view, node.core.floor)
    again.wait(5_000)
    _check_signed(again)


def _check_signed(node: Solo) -> None:
    """I6 on everything that this node signed itself (the script also makes votes in its name)."""
    if node.index is None:
        assert not node.signatures.made
        return
    oracle = Oracle(node.validators, node.genesis, {node.index})
    for cast in node.signed():
        if cast.signature in node.signatures.made:
            oracle.signed(cast)


def _check_bounds(node: Solo) -> None:
    state = node.core._state
    assert len(list(state.rounds.ascending())) <= 64 + 16
    assert len(list(state.blocks.ascending())) <= 3 * 16
