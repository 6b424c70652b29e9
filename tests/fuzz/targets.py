"""What is fuzzed: functions of bytes that may refuse them in one way, and never fail in another.

``Target.run`` raises only where the product is at fault. Seeds are golden vectors and what validators of a small
cluster say to each other. Nothing here knows the fuzzer: the same targets run under pytest (``test_fuzz.py``) and,
guided by coverage, under atheris (``python -m tests.fuzz``, docs/adr/0023).
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError

from consensus.events import Tick, Verdict, Verified, Work, received
from consensus.messages import Message
from consensus.types import Certificate, Proposal, Vote
from contracts.dispatch import CONTRACTS
from ledger import wire
from ledger.archive import ArchiveError
from ledger.cards import GenesisError
from ledger.genesis import Genesis, WrongNetwork, load_genesis
from ledger.proof_errors import ProofError
from ledger.proofs import verify_bytes
from ledger.types import Batch
from ledger.wellformed import read_envelope
from ledger.wire.proofs import decode_proof
from ledger.wire.snapshots import decode_manifest
from lossbook.v1 import block_pb2, peer_pb2
from node import peer_wire
from node.turn import (
    BatchesFetched,
    BlocksFetched,
    Input,
    PeerConnected,
    PeerMessage,
    PeerMessages,
    ProposalsFetched,
)
from services.archive_file import MAGIC as ARCHIVE_MAGIC
from services.archive_file import ArchiveFile
from services.archive_reading import restore
from simulator.network import Packet
from store.memory import MemoryStateStore
from store.votelog_format import FormatError, SegmentHeader, decode_body, decode_head, find_frame, scan
from tests.support.cluster import Cluster, Node
from tests.unit.consensus.cluster import Cluster as Cores
from tests.unit.consensus.oracle import Oracle
from tests.unit.consensus.solo import Solo
from tests.unit.node.test_cluster import policy

VECTORS = Path(__file__).parents[1] / "vectors"
INPUTS_MAX = 64  #: of one script: what a longer one reaches, several short ones reach sooner


class Target(NamedTuple):
    """One thing to fuzz."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    bytes_max: int


class Reader:
    """Takes numbers and strings of bytes off an input; at its end everything is zero and empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """One byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def chunk(self) -> bytes:
        """Two bytes of length, and so many bytes."""
        length = self.byte() << 8 | self.byte()
        self._at += length
        return self._data[self._at - length : self._at]


def chunk(raw: bytes) -> bytes:
    """What ``Reader.chunk`` reads."""
    return len(raw).to_bytes(2, "big") + raw


# -- bytes to values -------------------------------------------------------------------------

DECODERS: Sequence[Callable[[bytes], object]] = (
    wire.decode_envelope,
    wire.decode_batch,
    wire.decode_batch_header,
    wire.decode_payload,
    wire.decode_header,
    wire.decode_justification,
    wire.decode_stored_proposal,
    wire.read_certificate,
    wire.decode_receipt,
    wire.decode_record,
    lambda raw: wire.decode_block(wire.parse(block_pb2.Block, raw)),
    decode_proof,
    decode_manifest,
)
CANONICAL: Sequence[Callable[[bytes], object]] = (
    wire.decode_batch_header,
    wire.decode_payload,
    wire.decode_header,
    wire.decode_justification,
    wire.decode_receipt,
)
"""What validators hash: its value keeps exactly the bytes it came from."""


def run_wire(data: bytes) -> None:
    """A decoder gives a value or a WireError, and a value that is kept as bytes keeps these bytes."""
    if not data:
        return
    decode = DECODERS[data[0] % len(DECODERS)]
    raw = data[1:]
    try:
        value = decode(raw)
    except wire.WireError:
        return
    if decode in CANONICAL:
        assert value.raw == raw, "a hashed value forgot its bytes"  # type: ignore[attr-defined]
    if decode is wire.decode_record:
        again = wire.decode_record(wire.encode_record(value))  # type: ignore[arg-type]
        assert again == value, "a record changes when it is written again"
    if isinstance(value, Certificate):
        assert wire.read_certificate(wire.certificate_bytes(value)) == value


def seeds_wire() -> list[bytes]:
    """Every ``raw`` of the golden vectors, under every decoder."""
    raws = _raws(json.loads((VECTORS / "protocol.json").read_text()))
    raws += [path.read_bytes() for path in sorted((VECTORS / "proofs").glob("*.proof"))]
    raws += [wire.encode_record(record) for record in map(wire.decode_record, _traffic().log)]
    found = [bytes([at]) + raw for raw in raws for at, decode in enumerate(DECODERS) if _decodes(decode, raw)]
    return sorted(set(found))


def _raws(part: object) -> list[bytes]:
    if isinstance(part, dict):
        return [raw for key, value in part.items() for raw in (_hex(value) if "raw" in key else _raws(value))]
    return [raw for value in part for raw in _raws(value)] if isinstance(part, list) else []


def _hex(value: object) -> list[bytes]:
    return [bytes.fromhex(value)] if isinstance(value, str) else _raws(value)


def _decodes(decode: Callable[[bytes], object], raw: bytes) -> bool:
    try:
        decode(raw)
    except wire.WireError:
        return False
    return True


def run_peer(data: bytes) -> None:
    """What a peer sends is read, or is a WireError; what is read survives being sent on."""
    messages = _messages(data)
    for message in messages or ():
        raw = peer_wire.encode(message)
        again = peer_wire.decode_all([peer_pb2.PeerMessage.FromString(raw)])
        assert again == [message], "a message changes when it is sent on"


def _messages(data: bytes) -> list[PeerMessage] | None:
    try:
        request = peer_pb2.ExchangeRequest.FromString(data)
    except DecodeError:
        return None  # gRPC refuses it before any of our code
    try:
        return peer_wire.decode_all(request.messages)
    except wire.WireError:
        return None


def seeds_peer() -> list[bytes]:
    """One request for each message of a small cluster's life; some with several."""
    raws = [raw for _, raw in _traffic().messages]
    requests = [b"".join(peer_wire.pack([raw], 1 << 20)) for raw in raws]
    return sorted({*requests, b"".join(peer_wire.pack(raws[:20], 1 << 20))}, key=lambda raw: (len(raw), raw))[:300]


def run_proof(data: bytes) -> None:
    """A proof file holds, or is refused with the reason; never by another error."""
    with contextlib.suppress(ProofError):
        verify_bytes(data, _genesis())


@cache
def _genesis() -> Genesis:
    return load_genesis((VECTORS / "proofs" / "genesis.json").read_bytes())


def run_envelope(data: bytes) -> None:
    """What a client submits is judged without an error."""
    read_envelope(data, bytes(32))


def seeds_envelope() -> list[bytes]:
    """The golden envelope, and those of a cluster."""
    return sorted({raw[1:] for raw in seeds_wire() if raw[0] == 0})


def run_genesis(data: bytes) -> None:
    """A genesis file is taken, or refused in words."""
    with contextlib.suppress(GenesisError, WrongNetwork):
        load_genesis(data)


def run_archive(data: bytes) -> None:
    """Books between a good beginning and a digest that fits: taken as they were, or refused in words."""
    with tempfile.TemporaryDirectory(prefix="lossbook-fuzz-") as room:
        path = Path(room) / "books"
        digest = sha256(ARCHIVE_MAGIC + data).digest()
        path.write_bytes(ARCHIVE_MAGIC + data + bytes((0,)) + len(digest).to_bytes(4, "big") + digest)
        with contextlib.suppress(ArchiveError):
            found = restore(ArchiveFile(path), _genesis(), MemoryStateStore(), CONTRACTS)
            assert found.head.height == 5, "books that the validators never finalized"


def seeds_archive() -> list[bytes]:
    """The golden one, without what every archive begins and ends with."""
    return [(VECTORS / "proofs" / "books.archive").read_bytes()[len(ARCHIVE_MAGIC) : -37]]


def run_votelog(data: bytes) -> None:
    """A segment's bytes and HEAD's: no error but FormatError, and no frame that is not there byte by byte."""
    decode_head(data[:1024])
    try:
        header = SegmentHeader.decode(data)
    except FormatError:
        return
    frames = scan(data, header)
    for frame in frames:
        decode_body(data, frame)
    end = frames[-1].end if frames else 0
    later = find_frame(data, end, header.log_id, after_sequence=frames[-1].sequence if frames else 0)
    assert later is None or later.start >= end


def seeds_votelog() -> list[bytes]:
    """A small log."""
    from store.faulty_files import FaultyFiles
    from store.votelog import VoteLog

    files, directory = FaultyFiles(), Path("/votes")
    log = VoteLog.create(directory, bytes(32), "alpha", files, bytes(range(16)))
    for record in _traffic().log[:8]:
        log.append([record])
        log.sync()
    return [files.read(directory / "00000001.log"), files.read(directory / "HEAD")]


# -- a core, and a whole validator -------------------------------------------------------------


def run_core(data: bytes) -> None:
    """Any messages from any peers, any verdicts, any waiting: no error, no two votes, no more than its bounds.

    Signatures are believed, so that what stands behind them is reached.
    """
    reader = Reader(data)
    node = Solo(reader.byte() % 4, ready=bool(reader.byte() % 2))
    node.signatures.verify = lambda *_: True  # type: ignore[method-assign]
    seen: list[bytes] = []
    for _ in range(INPUTS_MAX):
        if not reader:
            break
        what, sender = reader.byte(), reader.byte() % 4
        if what < 200:
            for message in _messages(reader.chunk()) or ():
                if isinstance(message, Message):
                    node.do(received(sender, message))
                if isinstance(message, Proposal):
                    seen.append(message.header.digest)
        elif what < 220:
            node.do(Work(bool(sender)))
        elif what < 240 and seen:
            node.do(Verified(seen[sender % len(seen)], Verdict.VALID if what < 235 else Verdict.INVALID))
        else:
            node.do(Tick())
            node.wait(100 * sender)
    node.core.status()
    _judge(node)


def _judge(node: Solo) -> None:
    """I6 on what this node signed itself, and its bounds."""
    oracle = Oracle(node.validators, node.genesis, {node.index or 0})
    for cast in node.signed():
        if cast.signature in node.signatures.made:
            oracle.signed(cast)
    assert len(list(node.core._state.blocks.ascending())) <= 3 * 16


def seeds_core() -> list[bytes]:
    """What a node of a core cluster hears, with verdicts and time between."""
    return [_script(raws) for raws in _heard_by_a_core()]


def _script(raws: Sequence[tuple[int, bytes]]) -> bytes:
    parts = [b"\x00\x01"]
    for at, (sender, raw) in enumerate(raws):
        parts += (b"\x00", bytes([sender]), chunk(b"".join(peer_wire.pack([raw], 1 << 20))))
        parts.append(bytes([221 if at % 3 else 250, at % 4]))
    return b"".join(parts)


class _Cores(Cores):
    def transmit(self, sender: int, to: int, message: Message) -> None:
        if to == 0:
            self.__dict__.setdefault("heard", []).append((sender, peer_wire.encode(message)))
        super().transmit(sender, to, message)


def _heard_by_a_core() -> Iterator[list[tuple[int, bytes]]]:
    for seed in range(3):
        cores = _Cores(4, seed)
        for _ in range(3):
            cores.submit()
            cores.run(300)
        yield cores.__dict__["heard"][:40]


class Silent(Cluster):
    """A cluster in which only node 0 runs; what it says goes nowhere."""

    def transmit(self, sender: int, to: int, packet: Packet, after_ms: int = 0) -> None:
        """Nowhere."""


def run_validator(data: bytes) -> None:
    """A whole validator hears anything from anybody: it goes on, and signs nothing twice."""
    reader = Reader(data)
    cluster = Silent(seed=0)
    node = cluster.nodes[0]
    node.start()
    for peer in (1, 2, 3):
        node.give(PeerConnected(cluster.market.member(peer)))
    for _ in range(INPUTS_MAX):
        if not reader:
            break
        what, sender = reader.byte(), 1 + reader.byte() % 3
        if what < 200:
            messages = _messages(reader.chunk()) or []
            if messages:
                node.give(_input(what, cluster.market.member(sender), messages))
                cluster.run(0)
        elif what < 210:
            node.submit(policy(cluster, sender))
        elif what < 215:
            node.crash()
            node.start()
        else:
            cluster.run(20 * what)
    node.validator.status()
    _votes_once(node)


def _input(what: int, sender: str, messages: list[PeerMessage]) -> Input:
    """As messages of the stream, or as answers of fetches."""
    batches = [each for each in messages if isinstance(each, Batch)]
    proposals = [each for each in messages if isinstance(each, Proposal)]
    if what < 160:
        return PeerMessages(sender, messages)
    if what < 180 and batches:
        return BatchesFetched(sender, batches)
    return ProposalsFetched(sender, proposals) if proposals else BlocksFetched(sender, [])


def _votes_once(node: Node) -> None:
    said: dict[tuple[int, int], bytes] = {}
    for raw in _records(node):
        record = wire.decode_record(raw)
        vote = getattr(record, "vote", None)
        if isinstance(vote, Vote) and vote.signer == node.index:
            assert said.setdefault((vote.kind, vote.view), vote.digest) == vote.digest


def seeds_validator() -> list[bytes]:
    """The first things node 0 of a cluster hears, in three lengths."""
    heard = [(sender, raw) for sender, raw in _traffic().messages if sender != 0]
    scripts = []
    for length in (10, 30, 60):
        parts: list[bytes] = []
        for sender, raw in heard[:length]:
            parts += (b"\x00", bytes([sender - 1]), chunk(b"".join(peer_wire.pack([raw], 1 << 20))))
        scripts.append(b"".join(parts) + b"\xc8\x00\xfa\x00")
    return scripts


def _records(node: Node) -> list[bytes]:
    return node.votes.records() if node.votes is not None else []


class Traffic(NamedTuple):
    """What a small cluster said and logged."""

    messages: list[tuple[int, bytes]]  #: (sender, encoded message) to node 0
    log: list[bytes]


class _Heard(Cluster):
    def transmit(self, sender: int, to: int, packet: Packet, after_ms: int = 0) -> None:
        if to == 0:
            self.__dict__.setdefault("heard", []).extend((sender, raw) for raw in packet)
        super().transmit(sender, to, packet, after_ms)


@cache
def _traffic() -> Traffic:
    cluster = _Heard(seed=1)
    cluster.start()
    cluster.run(200)
    for number in range(1, 5):
        cluster.nodes[number % 4].submit(policy(cluster, number, by=number % 4))
        cluster.run(300)
    return Traffic(cluster.__dict__["heard"], _records(cluster.nodes[0]))


TARGETS: dict[str, Target] = {
    "wire": Target(run_wire, seeds_wire, 4_096),
    "peer": Target(run_peer, seeds_peer, 8_192),
    "proof": Target(run_proof, lambda: [p.read_bytes() for p in sorted((VECTORS / "proofs").glob("*.proof"))], 8_192),
    "envelope": Target(run_envelope, seeds_envelope, 4_096),
    "genesis": Target(
        run_genesis, lambda: [p.read_bytes() for p in sorted((VECTORS / "proofs").glob("*.json"))], 16_384
    ),
    "archive": Target(run_archive, seeds_archive, 8_192),
    "votelog": Target(run_votelog, seeds_votelog, 4_096),
    "core": Target(run_core, seeds_core, 16_384),
    "validator": Target(run_validator, seeds_validator, 32_768),
}
