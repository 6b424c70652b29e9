"""One fixed history through every contract, accepted and refused: ``python -m tests.support.contract_run``."""

from __future__ import annotations

import sys

from ledger import operations as ops
from ledger.execution import BlockResult
from ledger.organisations import key_possession_message
from ledger.parameters import CurrencyRule, Parameters
from tests.support.insurers import (
    FIRST,
    INSURERS,
    LOSS,
    Ledger,
    claim_notify,
    claim_path,
    key_of,
    make_genesis,
    policy_issue,
)
from tests.support.voting import NEWCOMER, Assembly, next_key, plain_card, proposal_id, seat_card

CURRENCIES = ("USD", "EUR", "JPY", "GBP", "CHF")


def _operations(number: int) -> list[ops.Operation]:
    policy_id, claim_id = (tag + number.to_bytes(15, "big") for tag in (b"p", b"c"))
    currency = CURRENCIES[number % len(CURRENCIES)]
    notify = claim_notify(claim_id=claim_id, policy_id=policy_id)
    path = claim_path(1_000 * number, claim_id, approved_minor=900 * number)
    if number % 3 == 1:
        path[2:4] = [ops.ClaimDecline(claim_id, LOSS + 4, 1 + number % 3)]
    if number % 4 == 2:
        path.reverse()
    issue = policy_issue(policy_id=policy_id, currency=currency, limit_minor=30_000, deductible_minor=9)
    bad: list[ops.Operation] = [
        policy_issue(policy_id=bytes(16), line=9),
        policy_issue(policy_id=b"", currency=currency),
        policy_issue(policy_id=bytes(16), currency=currency, limit_minor=-number),
        claim_notify(claim_id=bytes(16), policy_id=bytes(16)),
        claim_notify(claim_id=bytes(16), policy_id=policy_id, loss_date_days=LOSS - 10_000),
        ops.ClaimClose(bytes(16), LOSS),
        issue,
    ]
    return [issue, notify, *path, *path[:2], bad[number % len(bad)]]


def history() -> list[BlockResult]:
    """Twelve blocks of four insurers' envelopes; some atomic, some by one pair of eyes, some with wrong roles."""
    rules = {currency: CurrencyRule(0 if currency == "JPY" else 2, 5_000) for currency in CURRENCIES}
    ledger = Ledger(make_genesis(parameters=Parameters(rules)))
    results = []
    for height in range(12):
        batches = []
        for at, insurer in enumerate(INSURERS):
            number = 4 * height + at
            desks = [["underwriter", "handler", "finance"], ["underwriter", "handler"], [*insurer.desks]][number % 3]
            batches.append([ledger.envelope(_operations(number), by=insurer, desks=desks, atomic=number % 7 == 0)])
        results.append(ledger.block(*batches))
    return results + _administration(ledger)


def _administration(ledger: Ledger) -> list[BlockResult]:
    """Proposals of every kind and their votes, keys that are registered, authorised, added and dropped."""
    house = Assembly(ledger)
    card = seat_card(NEWCOMER)
    yen = ops.CurrencyParameter("JPY", 0, 9)
    done: list[ops.Operation] = [
        house.proposal("set", ops.SetChange(add=(card,), remove=(INSURERS[2].id,))),
        house.proposal("card", ops.CardChange(plain_card(INSURERS[1]))),
        house.proposal("parameters", ops.ParameterChange(900, "", (ops.NumberParameter("k_max", 9),), (yen,))),
        house.proposal("both", ops.SetChange(remove=("nobody",))),
        house.registration_by_admin(FIRST, next_key(FIRST.id, 1)),
    ]
    votes: list[ops.Operation] = [
        ops.GovernanceVote(proposal_id(name), name != "both") for name in ("set", "card", "parameters", "both")
    ]
    new = key_of("added")
    possession = new.sign(key_possession_message(ledger.genesis.chain_id, FIRST.id))
    keys: list[ops.Operation] = [
        ops.OrganisationAuthoriseKey(new.public, 5, FIRST.desks["auditor"].public),
        ops.OrganisationChangeKey(new.public, 5, FIRST.desks["auditor"].public, possession),
        ops.OrganisationChangeKey(drop=new.public),
        ops.OrganisationChangeKey(drop=new.public),
    ]
    blocks = [(FIRST, done), *[(insurer, votes) for insurer in INSURERS], (FIRST, keys)]
    return [ledger.block([ledger.envelope(operations, by=by, desks=["admin"])]) for by, operations in blocks]


def reached() -> tuple[set[type], set[int]]:
    """Operation types that were accepted at least once, and all codes that were given."""
    done: set[type] = set()
    codes: set[int] = set()
    for result in history():
        for outcome in result.outcomes:
            for operation, code in zip(outcome.envelope.operations, outcome.receipt.operation_codes, strict=True):
                codes.add(code)
                if code == 0:
                    done.add(type(operation))
    return done, codes


def roots() -> str:
    """State and receipts root of every height."""
    return "".join(f"{r.height} {r.state_root.hex()} {r.receipts_root.hex()}\n" for r in history())


if __name__ == "__main__":
    sys.stdout.write(roots())
