"""Operations that change the network itself: proposals, votes, and an organisation's own keys.

    propose(change, epoch=..., expires_ms=...)    a proposal; it counts as the proposer's vote
        set_change(add=..., remove=...)           who validates; without any entry: new consensus keys for all
        card_change(card)                         a member's keys and addresses, or a new member without a vote
        parameter_change(["k_max=30"], ...)       parameters, from a height on
    vote(proposal_id, approve)
    change_key(...), authorise_key(...)           signing keys of one's own organisation
    register_consensus_key(...)                   the key of one's validator in the next epoch, where its node cannot

What can be refused here is refused here, with words for whoever typed it; the ledger judges all of it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crypto.keys import SigningKey
from ledger import operations as ops
from ledger.cards import Card, GenesisError, decode_card
from ledger.money import MINOR_DIGITS
from ledger.organisations import ORGANISATION_ID, key_possession_message
from ledger.parameters import NUMBER_PARAMETERS, Parameters
from ledger.registrations import possession_message
from lossbook_sdk import values
from lossbook_sdk.errors import BadInput

Change = ops.SetChange | ops.CardChange | ops.ParameterChange

_NUMBER_MAX: Final = (1 << 64) - 1


def propose(change: Change, *, epoch: int, expires_ms: int, proposal_id: bytes | None = None) -> ops.GovernancePropose:
    """A proposal of one change.

    Args:
        epoch: the present one; the proposal lapses with it.
        expires_ms: last block time at which it can be voted for, at most 30 days ahead.
        proposal_id: 16 bytes; default: random.
    """
    return ops.GovernancePropose(
        proposal_id=proposal_id or values.new_id(),
        epoch=epoch,
        expires_ms=expires_ms,
        set_change=change if isinstance(change, ops.SetChange) else None,
        card_change=change if isinstance(change, ops.CardChange) else None,
        parameter_change=change if isinstance(change, ops.ParameterChange) else None,
    )


def vote(proposal_id: bytes, approve: bool) -> ops.GovernanceVote:
    """A validator's vote, or a supervisor's consent; the first one stands."""
    return ops.GovernanceVote(proposal_id, approve)


# -- changes -------------------------------------------------------------------------------------


def set_change(
    *,
    add: Sequence[bytes] = (),
    remove: Sequence[str] = (),
    suspend: Sequence[str] = (),
    reinstate: Sequence[str] = (),
) -> ops.SetChange:
    """Who validates from the next epoch on; without any entry the same members with new consensus keys.

    Args:
        add: card files, each with a consensus key.

    Raises:
        BadInput: a card cannot be used or has no consensus key; an id is none; one organisation is named twice.
    """
    joining = [read_card(raw, seat=True).id for raw in add]
    named = [*joining, *remove, *suspend, *reinstate]
    for name in named:
        if not ORGANISATION_ID.fullmatch(name):
            raise BadInput(f"{name[:40]!r} is no organisation id", advice="`lossbook governance list` names them")
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"{twice} is named twice", advice="Name each organisation once")
    return ops.SetChange(tuple(add), tuple(remove), tuple(suspend), tuple(reinstate))


def card_change(raw: bytes) -> ops.CardChange:
    """A member's keys, addresses and TLS authority become those of this card; or its organisation becomes a member.

    Raises:
        BadInput: the card cannot be used, or has a consensus key.
    """
    read_card(raw, seat=False)
    return ops.CardChange(raw)


def read_card(raw: bytes, *, seat: bool) -> Card:
    """A card file, checked as its readers will check it, certificate included.

    Raises:
        BadInput: it cannot be used, or is not of the kind the change takes.
    """
    try:
        card = decode_card(raw)
    except GenesisError as error:
        raise BadInput(error.problem, advice=error.advice) from error
    if card.is_validator and not seat:
        raise BadInput(
            f"the card of {card.id} has a consensus key",
            advice="Have it made with `lossbook genesis card --no-validator`, or propose a seat with it",
        )
    if seat and not card.is_validator:
        raise BadInput(
            f"the card of {card.id} has no consensus key",
            advice="Have it made with `lossbook genesis card --validator --peer-address HOST:PORT`",
        )
    return card


def parameter_change(
    pairs: Sequence[str], *, activation_height: int, four_eyes: Sequence[str] = ()
) -> ops.ParameterChange:
    """Network parameters from a height on; those not named stay as they are.

    Args:
        pairs: ``NAME=VALUE``, names as in the genesis file.
        four_eyes: amounts: a currency that is allowed from then on, and above how much two people sign.

    Raises:
        BadInput: not of that form, an unknown parameter, one named twice, nothing named.
    """
    numbers: list[ops.NumberParameter] = []
    verification = ""
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise BadInput(f"{pair[:80]!r} is not NAME=VALUE", advice="Write for example block_interval_ms=70")
        if name == "verification":
            if verification or not value:
                raise BadInput("verification is named twice, or without a value")
            verification = value
        elif name in NUMBER_PARAMETERS:
            numbers.append(ops.NumberParameter(name, _natural(name, value)))
        else:
            raise BadInput(f"there is no parameter {name[:40]!r}", advice=f"Parameters: {', '.join(_parameters())}")
    amounts = [values.parse_amount(text) for text in four_eyes]
    named = [number.name for number in numbers] + [amount.currency for amount in amounts]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"{twice} is named twice", advice="Name each parameter and currency once")
    if not named and not verification:
        raise BadInput("no parameter is named", advice="Write for example block_interval_ms=70")
    currencies = tuple(
        ops.CurrencyParameter(amount.currency, MINOR_DIGITS[amount.currency], amount.minor) for amount in amounts
    )
    return ops.ParameterChange(activation_height, verification, tuple(numbers), currencies)


def _parameters() -> list[str]:
    return [name for name in Parameters.__struct_fields__ if name != "currencies"]


def _natural(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= _NUMBER_MAX):
        raise BadInput(f"{name} is {text[:40]!r}, not a whole number", advice=f"Write for example {name}=20")
    return int(text)


# -- an organisation's own keys --------------------------------------------------------------------


def change_key(
    chain_id: bytes, organisation: str, *, key: SigningKey | None = None, roles: int = 0, drop: bytes = b""
) -> ops.OrganisationChangeKey:
    """Add a signing key, which proves that its holder wants it there, or drop one, or both at once."""
    if key is None:
        return ops.OrganisationChangeKey(drop=drop)
    possession = key.sign(key_possession_message(chain_id, organisation))
    return ops.OrganisationChangeKey(key.public, roles, drop, possession)


def authorise_key(change: ops.OrganisationChangeKey) -> ops.OrganisationAuthoriseKey:
    """What another admin submits at most five minutes before this very change, instead of co-signing it."""
    return ops.OrganisationAuthoriseKey(change.key, change.roles, change.drop)


def register_consensus_key(
    chain_id: bytes, organisation: str, *, epoch: int, key: SigningKey
) -> ops.OrganisationRegisterConsensusKey:
    """The key of the organisation's validator in ``epoch``, the one after the present, with its proof of possession."""
    message = possession_message(chain_id, epoch, organisation, key.public)
    return ops.OrganisationRegisterConsensusKey(epoch, key.public, key.sign(message))
