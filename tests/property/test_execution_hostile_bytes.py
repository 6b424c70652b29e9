"""Hostile bytes: a genesis, a card or an envelope that was damaged is refused by a domain error, never a traceback."""

from __future__ import annotations

import contextlib

import hypothesis
import hypothesis.strategies as st

from ledger.cards import CardError, GenesisError, decode_card, encode_card
from ledger.codes import Code
from ledger.genesis import load_genesis
from ledger.types import Envelope
from ledger.wellformed import read_envelope, well_formed
from tests.support.insurers import FIRST, Ledger, claim_notify, market_genesis, policy_issue

CARD = encode_card(FIRST.card())
ENVELOPE = Ledger().envelope([policy_issue(), claim_notify()], desks=["underwriter", "handler"]).raw


def damaged(raw: bytes) -> st.SearchStrategy[bytes]:
    """Bit flips, cuts and insertions."""
    at = st.integers(0, len(raw) - 1)
    return st.one_of(
        st.tuples(at, st.integers(1, 255)).map(lambda p: raw[: p[0]] + bytes([raw[p[0]] ^ p[1]]) + raw[p[0] + 1 :]),
        at.map(lambda cut: raw[:cut]),
        st.tuples(at, st.binary(min_size=1, max_size=9)).map(lambda p: raw[: p[0]] + p[1] + raw[p[0] :]),
        st.binary(max_size=200),
    )


@hypothesis.given(damaged(CARD))
def test_a_damaged_card_is_refused_or_still_says_the_same(raw: bytes) -> None:
    try:
        card = decode_card(raw)
    except CardError:
        return
    assert card.text == FIRST.card().text


@hypothesis.given(damaged(market_genesis().raw))
def test_a_damaged_genesis_is_refused_or_names_another_network(raw: bytes) -> None:
    with contextlib.suppress(GenesisError):
        assert load_genesis(raw).chain_id != market_genesis().chain_id or raw == market_genesis().raw


@hypothesis.given(damaged(ENVELOPE))
def test_a_damaged_envelope_gets_a_code(raw: bytes) -> None:
    chain_id = market_genesis().chain_id
    envelope = read_envelope(raw, chain_id)
    if isinstance(envelope, Envelope) and well_formed(envelope, chain_id) is Code.OK:
        assert envelope.body == read_body()
    else:
        assert isinstance(envelope, Envelope) or envelope is not Code.OK


def read_body() -> bytes:
    envelope = read_envelope(ENVELOPE, market_genesis().chain_id)
    assert isinstance(envelope, Envelope)
    return envelope.body
