"""Which handler executes which operation: what ``ledger.execution`` is given."""

from __future__ import annotations

from typing import Final

from contracts import claim, policy
from ledger import operations as ops
from ledger.contract import Contracts

CONTRACTS: Final[Contracts] = {
    ops.PolicyIssue: policy.issue,
    ops.ClaimNotify: claim.notify,
    ops.ClaimRegister: claim.register,
    ops.ClaimAssess: claim.assess,
    ops.ClaimApprove: claim.approve,
    ops.ClaimDecline: claim.decline,
    ops.ClaimPay: claim.pay,
    ops.ClaimClose: claim.close,
}
