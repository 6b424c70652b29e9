"""Proposals in words and as documents: what would change, what it waits for, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cli.base import names_of
from cli.governance.standing import Network, Standing
from contracts.governance.records import ProposalRecord
from ledger.cards import Card, GenesisError, read_card
from ledger.money import render
from ledger.operations import ParameterChange, SetChange
from lossbook_sdk import operation_json
from lossbook_sdk.values import render_time


def change_in_words(proposal: ProposalRecord) -> str:
    """One line: what it would do."""
    if proposal.set_change is not None:
        return _set_in_words(proposal.set_change)
    if proposal.card_change is not None:
        return f"card of {card_name(proposal.card_change.card)}"
    if proposal.parameter_change is not None:
        return _parameters_in_words(proposal.parameter_change)
    return "nothing"


def _set_in_words(change: SetChange) -> str:
    parts = [
        ("add", [card_name(raw) for raw in change.add]),
        ("remove", change.remove),
        ("suspend", change.suspend),
        ("reinstate", change.reinstate),
    ]
    said = [f"{verb} {names_of(list(names))}" for verb, names in parts if names]
    return ", ".join(said) or "new consensus keys for all"


def _parameters_in_words(change: ParameterChange) -> str:
    said = [f"{one.name} = {one.value}" for one in change.numbers]
    said += [f"verification = {change.verification}"] if change.verification else []
    said += [f"four eyes above {render(one.four_eyes_minor, one.code)}" for one in change.currencies]
    return f"{', '.join(said)} from block {change.activation_height:,}"


def card_name(raw: bytes) -> str:
    """Whose card it is."""
    card = card_of(raw)
    return card.id if card is not None else "an unreadable card"


def card_of(raw: bytes) -> Card | None:
    """The card of a file that the ledger took."""
    try:
        return read_card(raw)
    except GenesisError:
        return None


def cards_of(proposal: ProposalRecord) -> list[Card]:
    """The cards that the proposal brings."""
    raws = proposal.set_change.add if proposal.set_change is not None else ()
    if proposal.card_change is not None:
        raws = (proposal.card_change.card,)
    return [card for raw in raws if (card := card_of(raw)) is not None]


def waits_for(standing: Standing) -> str:
    """A few words for a table; a dash where nothing further happens."""
    if standing.state == "open":
        wanted = standing.needed - len(standing.yes)
        if wanted <= 0:
            return "a supervisor's consent"
        return f"{wanted} of {', '.join(standing.missing)}"
    if standing.state == "readiness":
        return f"{standing.ready_needed - len(standing.ready)} of {', '.join(standing.not_ready)} to be ready"
    if standing.state == "boundary":
        return "the end of the epoch"
    if standing.state == "activation":
        return f"block {standing.from_height:,}"
    return "-"


def next_in_words(proposal: ProposalRecord, standing: Standing, network: Network) -> str:
    """What happens next, and who has to do what."""
    until = render_time(proposal.expires_ms)
    if standing.state == "open":
        return _open_in_words(proposal, standing, network, until)
    if standing.state == "readiness":
        return _readiness_in_words(standing, network, until)
    again = "To have it all the same, propose it again."
    told = {
        "boundary": "Its members are ready. The epoch ends within a few blocks, and open proposals lapse with it.",
        "activation": f"It is decided and takes effect by itself with block {standing.from_height or 0:,}.",
        "in-force": f"It is in force since block {standing.from_height or 0:,}." if standing.from_height else "",
        "rejected": "It was voted down.",
        "lapsed": f"Epoch {proposal.epoch} ended before it was decided. {again}",
        "superseded": "Another change of the set took its place before its members were ready.",
        "not-ready": f"Too few members of the next set were ready by {until}. {again}",
        "expired": f"It was not decided by {until}. {again}",
    }
    if standing.state == "expired" and standing.last_height is not None and network.time_ms <= proposal.expires_ms:
        return (
            f"Its activation height cannot be met any more: propose it again, "
            f"from block {network.activation_height_min:,} on or later."
        )
    return told[standing.state]


def _open_in_words(proposal: ProposalRecord, standing: Standing, network: Network, until: str) -> str:
    name = proposal.proposal_id.hex()
    wanted = standing.needed - len(standing.yes)
    parts = []
    if wanted > 0:
        votes = "1 more vote" if wanted == 1 else f"{wanted} more votes"
        parts.append(f"{votes} of {names_of(standing.missing)}")
    if proposal.asks_consent and not standing.consents:
        parts.append("a supervisor's consent")
    limit = f" and block {standing.last_height:,}" if standing.last_height is not None else ""
    text = f"It takes {names_of(parts)} by {until}{limit}: `lossbook governance vote {name} yes`."
    return f"{text} {silent_in_words(standing.without_key, network)}" if standing.without_key else text


def silent_in_words(names: Sequence[str], network: Network) -> str:
    """Who has to register a key before the vote passes, or cannot sign for a whole epoch."""
    epoch = network.membership.epoch + 1
    have, seats = ("has", "its seat stays") if len(names) == 1 else ("have", "their seats stay")
    return (
        f"{names_of(names)} {have} no key for epoch {epoch}: before the vote passes an admin registers it "
        f"(`lossbook key possess HOME/keys/consensus-{epoch}.key --epoch {epoch}`), or {seats} silent in that epoch."
    )


def _readiness_in_words(standing: Standing, network: Network, until: str) -> str:
    wanted = standing.ready_needed - len(standing.ready)
    text = (
        f"It passed. {len(standing.ready)} of {standing.ready_needed} members of the next set are ready; {wanted} of "
        f"{names_of(standing.not_ready)} must follow by {until}."
    )
    own = [name for name in standing.without_key if name in network.validators]
    if own:
        have = "has" if len(own) == 1 else "have"
        text += (
            f" {names_of(own)} {have} no key for epoch {network.membership.epoch + 1} yet: a running node registers it."
        )
    others = [name for name in standing.without_key if name not in network.validators]
    return f"{text} {silent_in_words(others, network)}" if others else text


# -- documents -------------------------------------------------------------------------------------


def document(proposal: ProposalRecord, standing: Standing, network: Network) -> dict[str, Any]:
    """A proposal and how it stands, as JSON."""
    return {
        "proposal": proposal.proposal_id.hex(),
        "change": _change(proposal),
        "text": change_in_words(proposal),
        "epoch": proposal.epoch,
        "proposer": proposal.ballots[0].organisation,
        "proposed_ms": proposal.ballots[0].time_ms,
        "expires_ms": proposal.expires_ms,
        "state": standing.state,
        "over": standing.over,
        "votes": {
            "needed": standing.needed,
            "yes": list(standing.yes),
            "no": list(standing.no),
            "missing": list(standing.missing),
        },
        "consent": {
            "asked": proposal.asks_consent,
            "yes": list(standing.consents),
            "no": list(standing.refusals),
        },
        "readiness": {
            "needed": standing.ready_needed,
            "ready": list(standing.ready),
            "not_ready": list(standing.not_ready),
            "without_key": list(standing.without_key),
        },
        "from_height": standing.from_height,
        "last_height": standing.last_height,
        "next": next_in_words(proposal, standing, network),
    }


def _change(proposal: ProposalRecord) -> dict[str, Any]:
    for name in ("set_change", "card_change", "parameter_change"):
        change = getattr(proposal, name)
        if change is not None:
            return {name: operation_json.plain(change)}
    return {}


def network_document(network: Network) -> dict[str, Any]:
    """Who votes, and since when, as JSON."""
    return {
        "epoch": network.membership.epoch,
        "validators": list(network.validators),
        "suspended": list(network.membership.suspended),
        "height": network.height,
        "time_ms": network.time_ms,
        "from_height_min": network.activation_height_min,
    }


def card_facts(card: Card) -> list[tuple[str, object]]:
    """What a voter compares with what the organisation said of itself."""
    keys: Sequence[tuple[str, object]] = [
        (f"  key {key.label}".rstrip(), f"{key.public[:16]} {', '.join(key.roles)}") for key in card.body.keys
    ]
    return [
        ("card of", f"{card.id}, {card.body.name} ({card.body.kind})"),
        ("  ledger key", card.body.ledger_key),
        ("  consensus key", card.body.consensus_key or None),
        ("  peer address", card.body.peer_address or None),
        ("  public address", card.body.public_address or None),
        *keys,
    ]
