"""What the clients of a run asked, heard and read, event by event: the only thing the judge believes.

One JSON object a line, told apart by ``event``. Times are microseconds of one monotonic clock since the run began;
an invocation is written before the envelope leaves, an answer after it has come, so that the true instants lie
between them. Records, envelopes: hex.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from chaos.claim_model import Kind


class _Event(msgspec.Struct, frozen=True, tag_field="event", gc=False):
    at_us: int


class Began(_Event, frozen=True, tag="begin", gc=False):
    """The first event: the clients begin."""

    clients: tuple[str, ...]


class Stopped(_Event, frozen=True, tag="stop", gc=False):
    """The clients are told to ask for nothing new."""


class Ended(_Event, frozen=True, tag="end", gc=False):
    """The last event: a history without it is cut."""

    events: int
    """Before this one."""
    operations: int


class Invoked(_Event, frozen=True, tag="invoke", gc=False):
    """A client signed an operation and is about to submit it."""

    op: int
    """Number of the operation in this run."""
    client: str
    record: str
    """Id of the claim."""
    kind: Kind
    amount: int
    envelope: str
    """Its id."""
    not_after_ms: int
    """Block time after which it can no longer execute."""
    lives_ms: int
    """From its signing until then, by the client's clock."""


class Accepted(_Event, frozen=True, tag="accepted", gc=False):
    """A node vouched by its signature that a quorum holds the envelope: from here on it must not be lost."""

    op: int
    node: str


class Executed(_Event, frozen=True, tag="final", gc=False):
    """The receipt is there."""

    op: int
    node: str
    height: int
    index: int
    """Place of the envelope in the block: (height, index) is its place in the order of all envelopes."""
    codes: tuple[int, ...]
    """One for each operation of the envelope."""


class Proven(_Event, frozen=True, tag="proven", gc=False):
    """The receipt came with a proof that verified from the genesis."""

    op: int
    node: str


class Failed(_Event, frozen=True, tag="fail", gc=False):
    """It did not take effect and never will."""

    op: int
    node: str
    why: str


class Unknown(_Event, frozen=True, tag="unknown", gc=False):
    """The client waits no longer; the operation stays open, and an answer may still come."""

    op: int


class Read(_Event, frozen=True, tag="read", gc=False):
    """A record as one node showed it; ``at_us`` is when the answer came."""

    began_us: int
    client: str
    node: str
    record: str
    height: int
    """Height whose state was shown; 0 where nothing was found, which is not dated."""
    claim: tuple[int, ...] | None
    """Fields of ``claim_model.Claim``; None: there is no such record."""
    places: tuple[tuple[int, int], ...]
    """(height, index) of the operations that made it what it is, as the record itself says."""
    proven: bool
    """Whether it came with a proof, which verified."""


DESTROYED: Final = "destroyed"
"""Kind of the fault that ends with another home in the place of the one before."""
EXPIRED: Final = "EXPIRED"
"""Why an operation failed that came too late."""
SETTLEMENT: Final = "settlement"
"""Client of the last reads, when nothing is in flight any more."""


class FaultBegan(_Event, frozen=True, tag="fault", gc=False):
    """A fault is in force."""

    kind: str
    what: str
    nodes: tuple[str, ...] = ()
    """Validators whose process it hits."""


class FaultEnded(_Event, frozen=True, tag="healed", gc=False):
    """It no longer is."""

    kind: str
    what: str
    nodes: tuple[str, ...] = ()


Event = (
    Began | Stopped | Ended | Invoked | Accepted | Executed | Proven | Failed | Unknown | Read | FaultBegan | FaultEnded
)

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Event)


class History:
    """Events in the order they were recorded.

    Args:
        now_us: microseconds since the run began.
        sink: takes each event as a line of JSON.
    """

    def __init__(self, now_us: Callable[[], int], sink: Callable[[bytes], object] = lambda _: None) -> None:
        self.now_us = now_us
        self.events: list[Event] = []
        self._sink = sink
        self.operations = 0
        """Numbers given out."""
        self.final = 0
        """Receipts recorded: of one operation there may be two."""

    def next_operation(self) -> int:
        """A number for an operation."""
        self.operations += 1
        return self.operations

    def record(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)
        self.final += isinstance(event, Executed)
        self._sink(_ENCODER.encode(event) + b"\n")

    def end(self) -> None:
        """Nothing follows."""
        self.record(Ended(self.now_us(), len(self.events), self.operations))


class BadHistory(Exception):
    """A file that is no history.

    Attributes:
        line: number of the first line that is not an event, from 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line} is not an event of a history: {problem}")
        self.line = line
        self.advice = "Name the history.jsonl of a run: `lossbook chaos run --keep FOLDER` leaves one"


def parse(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events of a file.

    Raises:
        BadHistory: a line is none.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _DECODER.decode(line)
            except msgspec.DecodeError as error:
                raise BadHistory(number, str(error)) from error


class Story(msgspec.Struct, gc=False):
    """One operation, from its events."""

    invoked: Invoked
    final: Executed | None = None
    """The first answer that carried its receipt."""
    accepted_us: int | None = None
    proven_us: int | None = None
    failed: Failed | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether a node ever vouched for it."""
        return self.accepted_us is not None or self.final is not None

    @property
    def open(self) -> bool:
        """Whether nobody has said yet what became of it."""
        return self.final is None and self.failed is None


def stories(events: Iterable[Event]) -> dict[int, Story]:
    """Operations by number, in order of their invocation. Answers to what was not asked for are left out, and so is
    who asks again under the same number (``completeness`` tells of both)."""
    found: dict[int, Story] = {}
    for event in events:
        if isinstance(event, Invoked):
            found.setdefault(event.op, Story(event))
        elif isinstance(event, Accepted | Executed | Proven | Failed) and (story := found.get(event.op)) is not None:
            _heard(story, event)
    return found


def _heard(story: Story, event: Accepted | Executed | Proven | Failed) -> None:
    match event:
        case Accepted():
            story.accepted_us = event.at_us if story.accepted_us is None else story.accepted_us
        case Executed():
            story.final = story.final or event
        case Proven():
            story.proven_us = story.proven_us or event.at_us
        case Failed():
            story.failed = story.failed or event
