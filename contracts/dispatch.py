"""Which handler executes which operation: what ``ledger.execution`` is given."""

from __future__ import annotations

from typing import Final

from contracts import claim, organisation, policy
from contracts.governance import voting
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
    ops.GovernancePropose: voting.propose,
    ops.GovernanceVote: voting.vote,
    ops.OrganisationChangeKey: organisation.change_key,
    ops.OrganisationAuthoriseKey: organisation.authorise_key,
    ops.OrganisationRegisterConsensusKey: organisation.register_consensus_key,
}
