"""Operations: ``operation.proto`` to ``ledger.operations`` and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ledger import operations as ops
from ledger.wire.checks import WireError
from lossbook.v1 import operation_pb2


def _policy_issue(m: Any) -> ops.Operation:
    return ops.PolicyIssue(
        m.policy_id,
        m.subject_id,
        m.line,
        m.currency,
        m.limit_minor,
        m.deductible_minor,
        m.period_start_days,
        m.period_end_days,
        m.asserted_date_days,
        m.premium_minor if m.HasField("premium_minor") else None,
    )


def _governance_propose(m: Any) -> ops.Operation:
    set_change = card_change = parameter_change = None
    if m.HasField("set_change"):
        s = m.set_change
        set_change = ops.SetChange(tuple(s.add), tuple(s.remove), tuple(s.suspend), tuple(s.reinstate))
    if m.HasField("card_change"):
        card_change = ops.CardChange(m.card_change.card)
    if m.HasField("parameter_change"):
        p = m.parameter_change
        parameter_change = ops.ParameterChange(
            p.activation_height,
            p.verification,
            tuple(ops.NumberParameter(one.name, one.value) for one in p.numbers),
            tuple(ops.CurrencyParameter(one.code, one.minor_digits, one.four_eyes_minor) for one in p.currencies),
        )
    return ops.GovernancePropose(m.proposal_id, m.epoch, m.expires_ms, set_change, card_change, parameter_change)


DECODE_OPERATION: dict[str | None, Callable[[Any], ops.Operation]] = {
    "policy_issue": lambda o: _policy_issue(o.policy_issue),
    "claim_notify": lambda o: ops.ClaimNotify(
        (m := o.claim_notify).claim_id, m.policy_id, m.loss_date_days, m.asserted_date_days
    ),
    "claim_register": lambda o: ops.ClaimRegister((m := o.claim_register).claim_id, m.asserted_date_days),
    "claim_assess": lambda o: ops.ClaimAssess((m := o.claim_assess).claim_id, m.asserted_date_days, m.assessed_minor),
    "claim_approve": lambda o: ops.ClaimApprove(
        (m := o.claim_approve).claim_id, m.asserted_date_days, m.approved_minor
    ),
    "claim_decline": lambda o: ops.ClaimDecline((m := o.claim_decline).claim_id, m.asserted_date_days, m.reason),
    "claim_pay": lambda o: ops.ClaimPay((m := o.claim_pay).claim_id, m.asserted_date_days, m.amount_minor, m.currency),
    "claim_close": lambda o: ops.ClaimClose((m := o.claim_close).claim_id, m.asserted_date_days),
    "governance_propose": lambda o: _governance_propose(o.governance_propose),
    "governance_vote": lambda o: ops.GovernanceVote((m := o.governance_vote).proposal_id, m.approve),
    "organisation_change_key": lambda o: ops.OrganisationChangeKey(
        (m := o.organisation_change_key).key, m.roles, m.drop, m.possession
    ),
    "organisation_authorise_key": lambda o: ops.OrganisationAuthoriseKey(
        (m := o.organisation_authorise_key).key, m.roles, m.drop
    ),
    "organisation_register_consensus_key": lambda o: ops.OrganisationRegisterConsensusKey(
        (m := o.organisation_register_consensus_key).epoch, m.consensus_key, m.possession
    ),
    None: lambda _: ops.UnknownOperation(),
}

_OPERATION_FIELD: dict[type, str] = {
    ops.PolicyIssue: "policy_issue",
    ops.ClaimNotify: "claim_notify",
    ops.ClaimRegister: "claim_register",
    ops.ClaimAssess: "claim_assess",
    ops.ClaimApprove: "claim_approve",
    ops.ClaimDecline: "claim_decline",
    ops.ClaimPay: "claim_pay",
    ops.ClaimClose: "claim_close",
    ops.GovernancePropose: "governance_propose",
    ops.GovernanceVote: "governance_vote",
    ops.OrganisationChangeKey: "organisation_change_key",
    ops.OrganisationAuthoriseKey: "organisation_authorise_key",
    ops.OrganisationRegisterConsensusKey: "organisation_register_consensus_key",
}


def encode_operation(operation: ops.Operation) -> operation_pb2.Operation:
    """Make the message of one operation.

    Raises:
        WireError: a number does not fit its field, or the kind cannot be sent.
    """
    field = _OPERATION_FIELD.get(type(operation))
    if field is None:
        raise WireError("Operation", f"{type(operation).__name__} cannot be sent")
    message = operation_pb2.Operation()
    try:
        _fill(getattr(message, field), operation)
    except (ValueError, TypeError) as error:
        raise WireError(field, str(error)) from error
    return message


def _fill(part: Any, value: Any) -> None:
    """Set the fields of a message from a struct of the same names, messages inside it included."""
    part.SetInParent()
    for name in value.__struct_fields__:
        content = getattr(value, name)
        if isinstance(content, msgspec.Struct):
            _fill(getattr(part, name), content)
        elif isinstance(content, tuple):
            repeated = getattr(part, name)
            for one in content:
                if isinstance(one, msgspec.Struct):
                    _fill(repeated.add(), one)
                else:
                    repeated.append(one)
        elif content is not None:
            setattr(part, name, content)
