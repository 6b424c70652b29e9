"""The simple way in: one object, ordinary blocking calls.

    with Client.from_profile() as client:
        policy = client.issue_policy(line="home", limit="300000.00 USD", deductible="500 USD",
                                     start="2025-01-01", end="2025-12-31")
        print(policy.policy_id.hex(), policy.status.receipt.height)

Every call runs on an event loop of the client's own, so it must not be used inside another one: there, use
``Gateway``, ``BulkSubmitter`` and ``Query`` directly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from ledger import operations as ops
from ledger.genesis import Genesis
from ledger.operations import Operation
from ledger.organisations import KEYS, Role
from lossbook_sdk import profile as profiles
from lossbook_sdk import values
from lossbook_sdk.answers import Stage, Status
from lossbook_sdk.channel import Connector
from lossbook_sdk.envelopes import Signed, build_and_sign
from lossbook_sdk.errors import BadInput
from lossbook_sdk.gateway import Gateway
from lossbook_sdk.nodes import Nodes
from lossbook_sdk.passphrase import Passphrases
from lossbook_sdk.profile import Profile
from lossbook_sdk.query import Found, Query
from lossbook_sdk.wallet import Wallet

T = TypeVar("T")


class IssuedPolicy(msgspec.Struct, frozen=True):
    """What became of ``issue_policy``."""

    policy_id: bytes
    subject_id: bytes
    status: Status


class Client:
    """An insurer's system on the network.

    Args:
        profile: who and where.
        passphrases: for the key files; default: LOSSBOOK_PASSPHRASE_FILE.
    """

    def __init__(self, profile: Profile, passphrases: Passphrases | None = None) -> None:
        self.profile = profile
        connector = Connector.of_profile(profile)
        self.trust = connector.trust
        self.genesis: Genesis = connector.genesis
        self.wallet = Wallet(profile.keys, passphrases)
        self._runner = asyncio.Runner()
        self._nodes = Nodes(connector, profile.nodes_of(self.genesis, self.trust.cards_of_validators()))
        self.gateway = Gateway(self._nodes)
        self.query = Query(self._nodes)

    @classmethod
    def from_profile(cls, name: str | None = None, passphrases: Passphrases | None = None) -> Self:
        """The client of a profile; see ``lossbook_sdk.profile`` for which one.

        Raises:
            ProfileError, GenesisError: it cannot be used.
        """
        return cls(profiles.load(profiles.chosen(name)), passphrases)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and loop."""
        self.run(self._nodes.close())
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one of the asynchronous clients' calls on this client's loop."""
        return self._runner.run(work)

    # -- writing -----------------------------------------------------------------------------

    def sign(
        self,
        operations: Sequence[Operation],
        keys: Sequence[str],
        *,
        atomic: bool = False,
        not_after_ms: int | None = None,
    ) -> Signed:
        """An envelope of these operations, signed by these keys of the wallet (labels or files)."""
        return build_and_sign(
            chain_id=self.genesis.chain_id,
            organisation=self.profile.organisation,
            keys=self.wallet.keys(keys),
            operations=operations,
            not_after_ms=not_after_ms,
            atomic=atomic,
        )

    def submit(self, signed: Signed, wait: Stage = Stage.FINAL, **times: float) -> Status:
        """Submit and wait for the stage; ``times`` as ``Gateway.submit``.

        Raises:
            Rejected, Expired, Failed: it was refused.
            NothingReachable, Undecided, NodeRefused, VerificationFailed: see ``Gateway.submit``.
        """
        return self.run(self.gateway.submit(signed, wait, **times)).raise_for_failure()

    def keys_for(self, role: Role, named: Sequence[str] = ()) -> tuple[str, ...]:
        """The keys named, or else the profile's first key that has the role by the card, or by the ledger.

        Raises:
            BadInput: none is named and the profile has none with the role.
            NothingReachable: the card gives it to none, and no node could be asked.
        """
        if named:
            return tuple(named)
        label = self.wallet.with_role(role, self.trust.card(self.profile.organisation))
        label = label or self.run(self._registered(role))
        if label is None:
            raise BadInput(
                f"no key of profile {self.profile.name!r} has the role {role.slug}",
                unchanged="Nothing was sent",
                advice="Name a key with --key; `lossbook profile show` and `lossbook record show key/HEX` show roles",
            )
        return (label,)

    async def _registered(self, role: Role) -> str | None:
        """The first key that the ledger, proved, gives the role: of who joined, or changed its keys, since its card."""
        for label, public in self.wallet.public_keys():
            found = await self.query.record(KEYS.prefix + public, prove=True)
            record = KEYS.decode(found.value) if found is not None else None
            if record is not None and record.organisation == self.profile.organisation and record.roles & role:
                return label
        return None

    def issue_policy(
        self,
        *,
        line: str,
        limit: str,
        deductible: str,
        start: str,
        end: str,
        date: str | None = None,
        premium: str | None = None,
        keys: Sequence[str] = (),
        wait: Stage = Stage.FINAL,
    ) -> IssuedPolicy:
        """Issue a policy with a new random id; amounts as ``1234.56 USD``, dates as ISO 8601 (``date``: default start).

        Raises:
            BadInput: an amount, date or key cannot be used; anything ``submit`` raises.
        """
        operation = policy_issue(
            line=line, limit=limit, deductible=deductible, start=start, end=end, date=date or start, premium=premium
        )
        signed = self.sign([operation], self.keys_for(Role.UNDERWRITER, keys))
        return IssuedPolicy(operation.policy_id, operation.subject_id, self.submit(signed, wait))

    # -- reading -----------------------------------------------------------------------------

    def record(self, key: bytes, *, prove: bool = False) -> Found | None:
        """As ``Query.record``."""
        return self.run(self.query.record(key, prove=prove))


def policy_issue(
    *,
    line: str,
    limit: str,
    deductible: str,
    start: str,
    end: str,
    date: str,
    premium: str | None = None,
    policy_id: bytes | None = None,
    subject_id: bytes | None = None,
) -> ops.PolicyIssue:
    """The operation, from what people write; ids are random where none is given.

    Raises:
        BadInput: a value cannot be used, or the amounts are of different currencies.
    """
    limit_amount, deductible_amount = values.parse_amount(limit), values.parse_amount(deductible)
    premium_amount = values.parse_amount(premium) if premium is not None else None
    amounts = [amount for amount in (limit_amount, deductible_amount, premium_amount) if amount is not None]
    if len({amount.currency for amount in amounts}) != 1:
        raise BadInput("limit, deductible and premium are of different currencies", advice="Use one for a policy")
    return ops.PolicyIssue(
        policy_id=policy_id or values.new_id(),
        subject_id=subject_id or values.new_id(),
        line=values.parse_line(line),
        currency=limit_amount.currency,
        limit_minor=limit_amount.minor,
        deductible_minor=deductible_amount.minor,
        period_start_days=values.parse_date(start),
        period_end_days=values.parse_date(end),
        asserted_date_days=values.parse_date(date),
        premium_minor=premium_amount.minor if premium_amount is not None else None,
    )
