"""The operations an envelope can carry, as values.

Field for field the messages of ``proto/lossbook/v1/operation.proto``, which documents units and
ranges; ``ledger.wire`` makes these from bytes. Nothing here is checked: judging an operation is
the contract's work, so that every node answers a bad one with the same code.
"""

from __future__ import annotations

import enum

import msgspec


class Line(enum.IntEnum):
    """Line of business; the wire carries unknown values through and the contract refuses them."""

    HOME = 1
    AUTO = 2


class DeclineReason(enum.IntEnum):
    """Why an insurer refuses a claim."""

    NOT_LIABLE = 1
    BELOW_DEDUCTIBLE = 2


class PolicyIssue(msgspec.Struct, frozen=True, gc=False):
    """A policy comes into being."""

    policy_id: bytes
    subject_id: bytes
    line: int
    currency: str
    limit_minor: int
    deductible_minor: int
    period_start_days: int
    period_end_days: int
    asserted_date_days: int
    premium_minor: int | None = None


class ClaimNotify(msgspec.Struct, frozen=True, gc=False):
    """A loss is reported under a policy."""

    claim_id: bytes
    policy_id: bytes
    loss_date_days: int
    asserted_date_days: int


class ClaimRegister(msgspec.Struct, frozen=True, gc=False):
    """A claim is taken on the books."""

    claim_id: bytes
    asserted_date_days: int


class ClaimAssess(msgspec.Struct, frozen=True, gc=False):
    """A loss is valued."""

    claim_id: bytes
    asserted_date_days: int
    assessed_minor: int


class ClaimApprove(msgspec.Struct, frozen=True, gc=False):
    """Liability is accepted."""

    claim_id: bytes
    asserted_date_days: int
    approved_minor: int


class ClaimDecline(msgspec.Struct, frozen=True, gc=False):
    """Liability is refused."""

    claim_id: bytes
    asserted_date_days: int
    reason: int


class ClaimPay(msgspec.Struct, frozen=True, gc=False):
    """What is due is paid."""

    claim_id: bytes
    asserted_date_days: int
    amount_minor: int
    currency: str


class ClaimClose(msgspec.Struct, frozen=True, gc=False):
    """A claim file is closed."""

    claim_id: bytes
    asserted_date_days: int


class SetChange(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who validates from the next epoch on; without any entry, the same members with new consensus keys."""

    add: tuple[bytes, ...] = ()
    """Card files, each with a consensus key."""
    remove: tuple[str, ...] = ()
    suspend: tuple[str, ...] = ()
    reinstate: tuple[str, ...] = ()


class CardChange(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An organisation's card in place of its present one, or a new organisation's."""

    card: bytes
    """A card file without a consensus key."""


class NumberParameter(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A parameter that is a number."""

    name: str
    value: int


class CurrencyParameter(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A currency that is allowed, and its rule."""

    code: str
    minor_digits: int
    four_eyes_minor: int


class ParameterChange(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Network parameters from a height on; those not named stay as they are."""

    activation_height: int
    verification: str = ""
    """Empty: as it is."""
    numbers: tuple[NumberParameter, ...] = ()
    currencies: tuple[CurrencyParameter, ...] = ()


class GovernancePropose(msgspec.Struct, frozen=True, gc=False):
    """A validator's organisation proposes one change, and votes for it."""

    proposal_id: bytes
    epoch: int
    expires_ms: int
    set_change: SetChange | None = None
    card_change: CardChange | None = None
    parameter_change: ParameterChange | None = None


class GovernanceVote(msgspec.Struct, frozen=True, gc=False):
    """A validator's organisation votes, or a supervisor's consents."""

    proposal_id: bytes
    approve: bool


class OrganisationChangeKey(msgspec.Struct, frozen=True, gc=False):
    """A member adds a signing key, gives one other roles, or drops one."""

    key: bytes = b""
    roles: int = 0
    drop: bytes = b""
    possession: bytes = b""


class OrganisationAuthoriseKey(msgspec.Struct, frozen=True, gc=False):
    """One admin lets another make this very change of a key."""

    key: bytes = b""
    roles: int = 0
    drop: bytes = b""


class OrganisationRegisterConsensusKey(msgspec.Struct, frozen=True, gc=False):
    """The consensus key of the organisation's validator in the next epoch."""

    epoch: int
    consensus_key: bytes
    possession: bytes


class UnknownOperation(msgspec.Struct, frozen=True, gc=False):
    """An operation kind this version does not know; executes as FAILED (UNKNOWN_OPERATION)."""


Operation = (
    PolicyIssue
    | ClaimNotify
    | ClaimRegister
    | ClaimAssess
    | ClaimApprove
    | ClaimDecline
    | ClaimPay
    | ClaimClose
    | GovernancePropose
    | GovernanceVote
    | OrganisationChangeKey
    | OrganisationAuthoriseKey
    | OrganisationRegisterConsensusKey
    | UnknownOperation
)
