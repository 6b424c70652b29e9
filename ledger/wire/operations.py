"""Operations: ``operation.proto`` to ``ledger.operations`` and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    part = getattr(message, field)
    try:
        part.SetInParent()
        for name in operation.__struct_fields__:
            value = getattr(operation, name)
            if value is not None:
                setattr(part, name, value)
    except (ValueError, TypeError) as error:
        raise WireError(field, str(error)) from error
    return message
