"""Cards in proposals: what the organisations concerned signed about themselves, and its way into the state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ledger.cards import Card, GenesisError, card_record, check_statement, key_records, organisation_record, read_card
from ledger.codes import Code
from ledger.contract import Context, Refused
from ledger.epochs import current_epoch, membership
from ledger.operations import CardChange
from ledger.organisations import (
    CARDS,
    KEYS,
    ORGANISATIONS,
    ORGANISATIONS_MAX,
    find_key,
    find_organisation,
)
from ledger.registrations import NODE_KEYS, NodeKeyRecord, is_fresh
from ledger.state import StateView

CARDS_BYTES_MAX: Final = 1 << 18  #: of one proposal: its record, cards included, stays far below the largest record


class CardPlan(msgspec.Struct, frozen=True):
    """A member's card is replaced, or an organisation becomes a member."""

    card: Card

    def apply(self, context: Context) -> None:
        """See Plan."""
        put_card(self.card, context.view)


def plan_card_change(change: CardChange, context: Context) -> CardPlan:
    """Refuses BAD_CARD, KIND_CHANGED, KEY_TAKEN, TOO_MANY_ORGANISATIONS."""
    (card,) = check_cards((change.card,), context.view, with_consensus_key=False)
    if not card.body.peer_address and _needs_node(card.id, context.view):
        raise Refused(Code.BAD_CARD)  # the others would let go of a validator's node
    return CardPlan(card)


def _needs_node(organisation: str, view: StateView) -> bool:
    """Whether it has a seat, or will or may have one."""
    standing = membership(view)
    _, epoch = current_epoch(view)
    coming = standing.passed.members if standing.passed is not None else ()
    fixed = () if standing.approved is None else [seat.organisation for seat in standing.approved.members]
    return epoch.seat(organisation) is not None or organisation in (*coming, *fixed, *standing.suspended)


def check_cards(raws: Sequence[bytes], view: StateView, *, with_consensus_key: bool) -> tuple[Card, ...]:
    """The cards of one proposal, each good by itself, and beside the others and the state."""
    if sum(len(raw) for raw in raws) > CARDS_BYTES_MAX:
        raise Refused(Code.BAD_CARD)
    cards = tuple(_read(raw, with_consensus_key) for raw in raws)
    keys = [key for card in cards for key in card.all_keys()]
    if len(frozenset(keys)) != len(keys):
        raise Refused(Code.KEY_TAKEN)
    for card in cards:
        _check_against(card, view)
    newcomers = sum(find_organisation(view, card.id) is None for card in cards)
    if newcomers and newcomers + sum(1 for _ in view.iterate(ORGANISATIONS)) > ORGANISATIONS_MAX:
        raise Refused(Code.TOO_MANY_ORGANISATIONS)
    return cards


def put_card(card: Card, view: StateView) -> None:
    """Make the organisation what its card says; of a member, all signing keys it had go."""
    before = find_organisation(view, card.id)
    if before is not None:
        for public in [key for key, record in view.iterate(KEYS) if record.organisation == card.id]:
            view.delete(KEYS, public)
    record = organisation_record(
        card,
        may_read=before is None or before.may_read,
        may_subscribe=before is None or before.may_subscribe,
    )
    view.put(ORGANISATIONS, card.id.encode(), record)
    view.put(CARDS, card.id.encode(), card_record(card))
    for public, key in key_records(card):
        view.put(KEYS, public, key)
    view.put(NODE_KEYS, card.ledger_key, NodeKeyRecord(card.id, None))


def _read(raw: bytes, with_consensus_key: bool) -> Card:
    try:
        card = read_card(raw)
        check_statement(card)
    except GenesisError as error:
        raise Refused(Code.BAD_CARD) from error
    if card.is_validator != with_consensus_key:
        raise Refused(Code.BAD_CARD)
    return card


def _check_against(card: Card, view: StateView) -> None:
    """Its keys are its own or nobody's; its kind stays."""
    before = find_organisation(view, card.id)
    if before is not None and before.kind != card.kind:
        raise Refused(Code.KIND_CHANGED)
    keeps_ledger_key = before is not None and before.ledger_key == card.ledger_key
    if not keeps_ledger_key and not is_fresh(view, card.ledger_key):
        raise Refused(Code.KEY_TAKEN)
    if card.is_validator and not is_fresh(view, card.consensus_key):
        raise Refused(Code.KEY_TAKEN)
    for public, _ in key_records(card):
        holder = find_key(view, public)
        if view.get(NODE_KEYS, public) is not None or (holder is not None and holder.organisation != card.id):
            raise Refused(Code.KEY_TAKEN)
