"""Clients as an insurer's own system would be one, through the SDK: read a claim, decide, write, and again.

Several clients of one insurer work on the same few claims, each at another node first, so that what one decided on is
often no longer so when its write is executed. Every write is asked for once, under one envelope id, whatever happens;
a client that hears nothing for a while goes on with something else, and what it asked for stays open until somebody
says what became of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import msgspec

from chaos.casework import DESKS, UNDERWRITER, claim_of, operations_of, policy_of
from chaos.claim_model import ABSENT, Claim, Kind, Request, Stage
from chaos.history import EXPIRED, Accepted, Executed, Failed, History, Invoked, Proven, Read, Unknown
from contracts.records import CLAIMS
from crypto.keys import SigningKey
from ledger import codes
from ledger.codes import Code
from ledger.operations import Operation
from ledger.types import Receipt
from lossbook_sdk import values
from lossbook_sdk.answers import Stage as Answered
from lossbook_sdk.answers import Status
from lossbook_sdk.channel import Connector
from lossbook_sdk.envelopes import Signed, build_and_sign, now_ms
from lossbook_sdk.errors import ClientError, VerificationFailed
from lossbook_sdk.gateway import Gateway
from lossbook_sdk.nodes import Backoff, Nodes
from lossbook_sdk.passphrase import Passphrases
from lossbook_sdk.profile import Node, Profile
from lossbook_sdk.query import Found, Query
from lossbook_sdk.stream import BulkSubmitter
from lossbook_sdk.wallet import Wallet

CASES: Final = 2
"""Claims of one insurer in work at a time: as many as it has clients, so that they meet."""
CLIENTS: Final = 2
"""Of one insurer."""
OPERATIONS_MAX: Final = 60
"""On one claim; then another is taken up, so that the search for an order stays short."""

PATIENCE_S: Final = 6.0
"""For FINAL; then the client does something else."""
SILENCE_S: Final = 3.0
"""A node that owes answers and says nothing for so long is left for the next one."""
NOT_AFTER_MS: Final = 30_000
"""After this an envelope that was not executed never will be: bounds how long an outcome can stay open."""
SHORT_MS: Final = 1_500
SHORT_SHARE: Final = 0.1
"""Some envelopes may execute for so long only: under faults they expire, and must then be provably so."""
READ_S: Final = 1.0
FOREVER_S: Final = 86_400.0
"""A client never gives up its stream: networks heal."""

AMOUNTS: Final = (0, 1_000, 2_000, 3_000)
"""Few, so that different clients' wishes agree sometimes and differ often."""


class Insurer:
    """What all clients of one insurer share: keys, certificate, policy, and the claims in work."""

    def __init__(self, profile: Profile) -> None:
        self.organisation = profile.organisation
        self.policy_id = values.new_id()
        self.cases = [values.new_id() for _ in range(CASES)]
        self.asked: dict[bytes, int] = {}
        """Operations asked for, by claim."""
        genesis = profile.load_genesis_of()
        self.connector = Connector.from_files(genesis, profile.certificate, profile.key)
        self.nodes = profile.nodes_of(genesis)
        self._chain_id = genesis.chain_id
        self._wallet = Wallet(profile.keys, Passphrases(environment={}))

    def sign(
        self, operations: Sequence[Operation], desks: Sequence[str] = DESKS, lives_ms: int = NOT_AFTER_MS
    ) -> Signed:
        """An envelope of these operations, which may execute for so long."""
        keys: tuple[SigningKey, ...] = self._wallet.keys(desks)
        return build_and_sign(
            chain_id=self._chain_id,
            organisation=self.organisation,
            keys=keys,
            operations=operations,
            not_after_ms=now_ms() + lives_ms,
        )

    async def begin(self) -> None:
        """Issue the policy.

        Raises:
            ClientError: no node took it, or the ledger refused it.
        """
        nodes = Nodes(self.connector, self.nodes)
        try:
            signed = self.sign((policy_of(self.policy_id),), UNDERWRITER)
            (await Gateway(nodes).submit(signed, Answered.PROVEN)).raise_for_failure()
        finally:
            await nodes.close()

    def ask(self, claim_id: bytes) -> None:
        """Count an operation on a claim."""
        self.asked[claim_id] = self.asked.get(claim_id, 0) + 1

    def put_away(self, claim_id: bytes) -> None:
        """Take up another claim instead of this one."""
        if claim_id in self.cases:
            self.cases[self.cases.index(claim_id)] = values.new_id()


class Readers:
    """Questions to one node each.

    Args:
        connector: whose certificate is shown.
        nodes: to be asked.
        history: takes every read.
    """

    def __init__(self, connector: Connector, nodes: Sequence[Node], history: History) -> None:
        self.lies: list[str] = []
        """Answers that did not verify."""
        self.names = tuple(node.organisation for node in nodes)
        self._history = history
        self._nodes = {node.organisation: Nodes(connector, [node], backoff=lambda: Backoff(0.1, 0.5)) for node in nodes}

    def query(self, node: str, give_up_s: float = READ_S) -> Query:
        """For other questions."""
        return Query(self._nodes[node], give_up_s=give_up_s)

    async def read(self, client: str, node: str, claim_id: bytes, *, prove: bool = False) -> Claim | None:
        """The claim as the node shows it, recorded; None where it does not answer."""
        began_us = self._history.now_us()
        try:
            found = await self.query(node).record(CLAIMS.prefix + claim_id, prove=prove)
        except VerificationFailed as error:
            self.lies.append(str(error))
            return None
        except ClientError:  # not reachable, or it cannot prove this record yet: nothing was read
            return None
        self._history.record(self._seen(client, node, claim_id, began_us, found))
        return ABSENT if found is None else claim_of(CLAIMS.decode(found.value))[0]

    def _seen(self, client: str, node: str, claim_id: bytes, began_us: int, found: Found | None) -> Read:
        claim, places = (None, ()) if found is None else claim_of(CLAIMS.decode(found.value))
        return Read(
            at_us=self._history.now_us(),
            began_us=began_us,
            client=client,
            node=node,
            record=claim_id.hex(),
            height=0 if found is None else found.height,
            claim=None if claim is None else tuple(claim),
            places=places,
            proven=found is not None and found.proven is not None,
        )

    async def close(self) -> None:
        """Close all connections."""
        for nodes in self._nodes.values():
            await nodes.close()


class _Asked(msgspec.Struct, gc=False):
    op: int
    answered: asyncio.Event
    node: str = ""
    receipt: Receipt | None = None


class Client:
    """One client: one stream of writes, one thing at a time.

    Args:
        name: in the history.
        at: which of the nodes it prefers.
        readers: for its reads.
        rng: its decisions.
    """

    def __init__(
        self, name: str, insurer: Insurer, at: int, readers: Readers, history: History, rng: random.Random
    ) -> None:
        self.name = name
        self.moves = 0
        """How often it went to another node."""
        self.lies: list[str] = []
        self._insurer = insurer
        self._readers = readers
        self._history = history
        self._rng = rng
        self._asked: dict[bytes, _Asked] = {}
        self._last_node = ""
        order = [*insurer.nodes[at:], *insurer.nodes[:at]]
        self._nodes = Nodes(insurer.connector, order, backoff=lambda: Backoff(0.1, 1.0))

    @property
    def open(self) -> int:
        """Operations nobody has said the last word of yet."""
        return len(self._asked)

    async def run(self, stop: asyncio.Event, give_up: asyncio.Event) -> None:
        """Work until ``stop``, then wait for what is open until ``give_up``.

        Raises:
            ClientError: a node refused the client itself.
        """
        try:
            async with BulkSubmitter(
                self._nodes,
                Answered.PROVEN,
                silence_s=SILENCE_S,
                give_up_s=FOREVER_S,
                on_stage=self._heard,
                on_answer=lambda status, _: self._heard(status),
                on_move=self._moved,
            ) as bulk:
                while not stop.is_set():
                    await self._once(bulk)
                await _drained(bulk, give_up)
        except _TimeIsUp:
            pass
        finally:
            await self._nodes.close()

    async def _once(self, bulk: BulkSubmitter) -> None:
        claim_id = self._rng.choice(self._insurer.cases)
        node = (
            self._last_node if self._last_node and self._rng.random() < 0.4 else self._rng.choice(self._readers.names)
        )
        claim = await self._readers.read(self.name, node, claim_id, prove=self._rng.random() < 0.05)
        if claim is not None and claim.stage is Stage.CLOSED and self._rng.random() < 0.5:
            self._insurer.put_away(claim_id)
            return
        if self._insurer.asked.get(claim_id, 0) >= OPERATIONS_MAX:
            self._insurer.put_away(claim_id)
            return
        await self._write(bulk, claim_id, decide(self._rng, claim or ABSENT))
        await asyncio.sleep(self._rng.uniform(0.0, 0.15))

    async def _write(self, bulk: BulkSubmitter, claim_id: bytes, request: Request) -> None:
        lives_ms = SHORT_MS if self._rng.random() < SHORT_SHARE else NOT_AFTER_MS
        operations = operations_of(request, claim_id, self._insurer.policy_id)
        signed = self._insurer.sign(operations, lives_ms=lives_ms)
        asked = self._asked[signed.id] = _Asked(self._history.next_operation(), asyncio.Event())
        self._insurer.ask(claim_id)
        self._history.record(
            Invoked(
                at_us=self._history.now_us(),
                op=asked.op,
                client=self.name,
                record=claim_id.hex(),
                kind=request.kind,
                amount=request.amount,
                envelope=signed.id.hex(),
                not_after_ms=signed.not_after_ms,
                lives_ms=lives_ms,
            )
        )
        _proven = await bulk.submit(signed)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asked.answered.wait()
            self._last_node = asked.node
        except TimeoutError:
            self._history.record(Unknown(self._history.now_us(), asked.op))

    # -- what is heard -----------------------------------------------------------------------

    def _heard(self, status: Status) -> None:
        asked = self._asked.get(status.envelope_id)
        if asked is None:
            return
        asked.node = status.node
        now_us = self._history.now_us()
        if status.stage is Answered.ACCEPTED:
            self._history.record(Accepted(now_us, asked.op, status.node))
        elif status.receipt is not None:
            self._final(asked, status, status.receipt, now_us)
        elif status.stage.over:
            why = EXPIRED if status.stage is Answered.EXPIRED else codes.name(status.rejection_code)
            self._history.record(Failed(now_us, asked.op, status.node, why))
            del self._asked[status.envelope_id]
            asked.answered.set()

    def _final(self, asked: _Asked, status: Status, receipt: Receipt, now_us: int) -> None:
        if receipt.code == Code.REPLAYED:
            return  # of a second copy: the first receipt is asked for in the end
        if asked.receipt != receipt:  # the first; or another than before, which is for the judge
            self._history.record(told(asked.op, status.node, receipt, now_us))
            asked.receipt = receipt
        if status.stage is Answered.PROVEN:
            self._history.record(Proven(now_us, asked.op, status.node))
            del self._asked[status.envelope_id]
        asked.answered.set()

    def _moved(self, left: Node | None, taken: Node, reason: str) -> None:
        self.moves += left is not None
        if "does not verify" in reason:
            self.lies.append(reason)


def told(op: int, node: str, receipt: Receipt, now_us: int) -> Executed | Failed:
    """The event of a receipt: one without codes of operations refused the envelope as a whole."""
    if not receipt.operation_codes:
        return Failed(now_us, op, node, codes.name(receipt.code))
    return Executed(now_us, op, node, receipt.height, receipt.index, receipt.operation_codes)


class _TimeIsUp(Exception):
    """What is still open is asked for in another way; leaving a stream by an error drops what it holds."""


async def _drained(bulk: BulkSubmitter, give_up: asyncio.Event) -> None:
    waiting = {asyncio.create_task(bulk.drain()), asyncio.create_task(give_up.wait())}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    if bulk.in_flight:
        raise _TimeIsUp


def decide(rng: random.Random, claim: Claim) -> Request:
    """What a client asks for that saw the claim like this: mostly the next step, at times a look, or anything."""
    dice = rng.random()
    if dice < 0.15:
        return Request(Kind.PROBE)
    if dice < 0.25:
        kind = rng.choice([Kind.NOTIFY, Kind.REGISTER, Kind.ASSESS, Kind.APPROVE, Kind.DECLINE, Kind.PAY, Kind.CLOSE])
        return Request(kind, _amount(rng, kind))
    kind = {
        Stage.ABSENT: Kind.NOTIFY,
        Stage.NOTIFIED: Kind.REGISTER,
        Stage.REGISTERED: Kind.ASSESS,
        Stage.ASSESSED: Kind.DECLINE if rng.random() < 0.2 else Kind.APPROVE,
        Stage.PAYMENT_DUE: Kind.PAY,
        Stage.CLOSED: Kind.PROBE,
    }.get(claim.stage, Kind.CLOSE)
    if kind is Kind.PAY and rng.random() < 0.7:
        return Request(kind, claim.approved - claim.paid)
    return Request(kind, _amount(rng, kind))


def _amount(rng: random.Random, kind: Kind) -> int:
    if kind not in (Kind.ASSESS, Kind.APPROVE, Kind.PAY):
        return 0
    return rng.choice(AMOUNTS[1:] if kind is Kind.PAY else AMOUNTS)
