"""One core under a test's full control: every event by hand, every effect in a list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from consensus.config import Config
from consensus.core import Core
from consensus.effects import Broadcast, Build, Effect, Persist, Send
from consensus.events import (
    Built,
    CertificateReceived,
    Event,
    Now,
    ProposalReceived,
    StartAnswerReceived,
    Started,
    Tick,
    Verdict,
    Verified,
    VoteReceived,
    Work,
)
from consensus.messages import Message, StartAnswer
from consensus.records import OwnVote, Record
from consensus.types import Certificate, Header, Justification, Proposal, ValidatorSet, Vote, VoteKind
from tests.unit.consensus.support import (
    CONFIG,
    GENESIS_MS,
    F,
    FakeSignatures,
    N,
    X,
    certificate,
    child,
    genesis,
    justify,
    propose,
    rehash,
    tail,
    validators,
    vote,
)

T = TypeVar("T")
NONCE = bytes(31) + b"\x01"


class FakeHeaders:
    """Blocks the application stored."""

    def __init__(self) -> None:
        self.proposals: dict[bytes, Proposal] = {}
        self.headers: dict[bytes, Header] = {}

    def header(self, digest: bytes) -> Header | None:
        found = self.proposals.get(digest)
        return found.header if found else self.headers.get(digest)

    def proposal(self, digest: bytes) -> Proposal | None:
        return self.proposals.get(digest)


class Solo:
    """Validator ``index`` of ``n``; leaders are view mod n, so view 1 belongs to validator 1."""

    def __init__(
        self,
        index: int | None = 0,
        n: int = 4,
        *,
        config: Config = CONFIG,
        records: Iterable[Record] = (),
        store: FakeHeaders | None = None,
        ready: bool = True,
        marker: bool = False,
        now_ms: int = 0,
        of: ValidatorSet | None = None,
        start: Header | None = None,
    ) -> None:
        self.validators = of or validators(n)
        self.index = index
        self.config = config
        self.now_ms = now_ms
        self.wall_ms = GENESIS_MS + 10
        self.genesis = start or genesis()
        self.store = store or FakeHeaders()
        key = self.validators.members[index].public_key if index is not None else b""
        self.signatures = FakeSignatures(key)
        self.log: list[Record] = list(records)
        self.effects: list[Effect] = []
        self.core = Core.restore(
            config, self.validators, index, self.genesis, self.log, self.store, self.signatures, self.now()
        )
        self.do(Started(NONCE, marker))
        if ready:
            self.answer_start()

    def answer_start(self, highest: int = 0, votes: tuple[Vote, ...] = ()) -> None:
        """Every other validator answers the start-up query."""
        for other in range(self.validators.n):
            if other != self.index:
                self.do(StartAnswerReceived(other, StartAnswer(NONCE, highest, votes)))

    def restarted(self, *, ready: bool = True, marker: bool = False) -> Solo:
        """The same node after a crash: log and store survive."""
        return Solo(
            self.index,
            self.validators.n,
            config=self.config,
            records=self.log,
            store=self.store,
            ready=ready,
            marker=marker,
            now_ms=self.now_ms,
            of=self.validators,
            start=self.genesis,
        )

    def now(self) -> Now:
        return Now(self.now_ms, self.wall_ms + self.now_ms)

    def do(self, event: Event) -> list[Effect]:
        """One event; returns and remembers its effects, logs its records."""
        effects = self.core.step(event, self.now())
        self.log += [effect.record for effect in effects if isinstance(effect, Persist)]
        self.effects += effects
        return effects

    def wait(self, ms: int) -> list[Effect]:
        """Let time pass, ticking at every deadline."""
        until_ms, effects = self.now_ms + ms, []
        while (deadline_ms := self.core.deadline_ms) is not None and deadline_ms <= until_ms:
            self.now_ms = max(self.now_ms, deadline_ms)
            effects += self.do(Tick())
        self.now_ms = until_ms
        return effects

    # -- feeding ---------------------------------------------------------------------------

    def header(
        self, view: int, parent: Header | None = None, nullified: Iterable[int] = (), **fields: object
    ) -> tuple[Header, Justification]:
        parent = parent or self.genesis
        justification = self.justification(parent, nullified)
        return child(parent, view, justification, of=self.validators, **fields), justification  # type: ignore[arg-type]

    def justification(self, parent: Header, nullified: Iterable[int] = ()) -> Justification:
        certificate = self.notarization(parent) if parent.digest != self.genesis.digest else None
        return justify(certificate, [self.nullification(u) for u in nullified])

    def tail(
        self, view: int, boundary: Header, parent: Header | None = None, nullified: Iterable[int] = ()
    ) -> Proposal:
        """The tail of a boundary that the view's leader proposes."""
        parent = parent or boundary
        justification = self.justification(parent, nullified)
        return propose(tail(parent, view, justification, boundary), justification, self.validators)

    def proposal(
        self,
        view: int,
        parent: Header | None = None,
        nullified: Iterable[int] = (),
        payload: bytes = b"",
        **fields: object,
    ) -> Proposal:
        header, justification = self.header(view, parent, nullified, payload=payload, **fields)
        return propose(header, justification, self.validators, payload)

    def others(self) -> tuple[int, ...]:
        """A quorum without this node, where there is one."""
        others = [index for index in range(self.validators.n) if index != self.index]
        return tuple(sorted((*others, *([self.index] if self.index is not None else []))[: self.validators.quorum]))

    def notarization(self, header: Header, signers: Iterable[int] = ()) -> Certificate:
        return certificate(N, header.view, header, signers or self.others(), self.validators)

    def finalization(self, header: Header) -> Certificate:
        return certificate(F, header.view, header, self.others(), self.validators)

    def nullification(self, view: int, signers: Iterable[int] = ()) -> Certificate:
        return certificate(X, view, None, signers or self.others(), self.validators)

    def receive(self, *messages: Proposal | Vote | Certificate, sender: int | None = None) -> list[Effect]:
        """Messages from their makers (or from ``sender``)."""
        effects: list[Effect] = []
        for message in messages:
            match message:
                case Proposal():
                    effects += self.do(ProposalReceived(message.vote.signer if sender is None else sender, message))
                case Vote():
                    effects += self.do(VoteReceived(message.signer if sender is None else sender, message))
                case Certificate():
                    effects += self.do(CertificateReceived(message.signers[-1] if sender is None else sender, message))
        return effects

    def vote(self, kind: VoteKind, view: int, signer: int, header: Header | None = None) -> Vote:
        return vote(kind, view, signer, header, of=self.validators)

    def votes(self, kind: VoteKind, view: int, signers: Iterable[int], header: Header | None = None) -> list[Effect]:
        return self.receive(*[self.vote(kind, view, signer, header) for signer in signers])

    def valid(self, header: Header) -> list[Effect]:
        return self.do(Verified(header.digest, Verdict.VALID))

    def invalid(self, header: Header) -> list[Effect]:
        return self.do(Verified(header.digest, Verdict.INVALID))

    def work(self, pending: bool = True) -> list[Effect]:
        return self.do(Work(pending))

    def notarized_block(
        self, view: int, parent: Header | None = None, nullified: Iterable[int] = (), **fields: object
    ) -> Header:
        """A proposal arrives, is found valid, and gets its Notarization: certified here."""
        return self.certified(self.proposal(view, parent, nullified, **fields))  # type: ignore[arg-type]

    def certified(self, proposal: Proposal) -> Header:
        """This proposal arrives, is found valid, and gets its Notarization."""
        self.receive(proposal)
        self.valid(proposal.header)
        self.receive(self.notarization(proposal.header))
        return proposal.header

    def build(self, effects: list[Effect], payload: bytes = b"") -> Proposal:
        """Answer the last Build among the effects; returns what was proposed."""
        offer = only(effects, Build)[-1]
        justification = justify(offer.parent_certificate, offer.nullifications)
        if offer.boundary is None:
            header = child(offer.parent, offer.view, justification, payload=payload, of=self.validators)
        else:
            header = tail(offer.parent, offer.view, justification, offer.boundary)
        return sent(self.do(Built(offer.view, header, justification, payload)), Proposal)[0]

    # -- looking ---------------------------------------------------------------------------

    def signed(self, kind: VoteKind | None = None, view: int | None = None) -> list[Vote]:
        """Own votes in the log."""
        votes = [record.vote for record in self.log if isinstance(record, OwnVote)]
        return [v for v in votes if kind in (None, v.kind) and view in (None, v.view)]


def only(effects: Iterable[Effect], kind: type[T]) -> list[T]:
    """The effects of one type."""
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: Iterable[Effect], kind: type[T]) -> list[T]:
    """Messages of one type that were broadcast or sent."""
    messages: list[Message] = [effect.message for effect in effects if isinstance(effect, Broadcast | Send)]
    return [message for message in messages if isinstance(message, kind)]


def resigned(header: Header, **fields: object) -> Header:
    """The header with other fields, and a digest that fits."""
    return rehash(replace(header, **fields))  # type: ignore[arg-type]
