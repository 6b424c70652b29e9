"""A verifier of lossbook's proof files by somebody who has docs/protocol.md and nothing else.

It imports no line of lossbook: SHA-256, JSON and struct of the standard library, Ed25519 of PyNaCl, and a reader of
protobuf and a writer of MessagePack of its own. Numbers in comments are sections of that page. One file on purpose: it
is read, and carried away, as a whole.

    python stranger.py genesis.json record.proof
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

EMPTY_ROOT = sha256(b"").digest()
ZERO = bytes(32)


class Refused(Exception):
    """The file does not show what it claims."""


def require(condition: bool, why: str) -> None:
    if not condition:
        raise Refused(why)


def tagged(name: str, *parts: bytes) -> bytes:
    """4: digest under a domain tag."""
    return sha256(tag(name) + b"".join(parts)).digest()


def tag(name: str) -> bytes:
    return b"lossbook/v1/" + name.encode() + b"\x00"


def good_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """5."""
    if len(public) != 32 or len(signature) != 64:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


# ---------------------------------------------------------------- 3: protobuf

Schema = dict[int, tuple[str, str]]
"""Field number -> name, type. "..." after a type: repeated. A message is "bytes" here and read by its user."""


def varint(raw: bytes, at: int) -> tuple[int, int, bool]:
    """Value, where it ends, whether it is as short as possible."""
    value = 0
    for length in range(1, 11):
        require(at < len(raw), "a number is cut off")
        byte = raw[at]
        at += 1
        value |= (byte & 127) << 7 * (length - 1)
        if byte < 128:
            return value & (1 << 64) - 1, at, value < 1 << 64 and (byte != 0 or length == 1)
    raise Refused("a number is too long")


def fields(raw: bytes, canonical: bool, depth: int) -> Iterator[tuple[int, int, int | bytes]]:
    """Number, wire type and value of every field; groups, which nothing here uses, are left out."""
    at = 0
    while at < len(raw):
        number, wire, at, short = _key(raw, at)
        require(wire != 4, "a group ends that did not begin")
        start, at, value, shorter = _value(raw, at, number, wire, depth)
        require(not canonical or (short and shorter), "a number is written longer than it must be")
        if wire == 3:
            require(not canonical, "a group")
        else:
            yield number, wire, value if wire == 0 else raw[start:at]


def _key(raw: bytes, at: int) -> tuple[int, int, int, bool]:
    key, at, short = varint(raw, at)
    require(0 < key >> 3 < 1 << 29, "a field number that cannot be")
    return key >> 3, key & 7, at, short


def _value(raw: bytes, at: int, number: int, wire: int, depth: int) -> tuple[int, int, int, bool]:
    """Where the value starts and ends, the number it is or has as its length, whether that is as short as possible."""
    require(wire in (0, 1, 2, 3, 5), "a wire type that does not occur")
    if wire == 3:
        require(depth < 100, "groups and messages too deep in each other")
        start, inner, inner_wire = at, number, wire
        while inner_wire != 4:
            inner, inner_wire, at, _ = _key(raw, at)
            if inner_wire != 4:
                _, at, _, _ = _value(raw, at, inner, inner_wire, depth + 1)
        require(inner == number, "another group ends")
        return start, at, 0, True
    value, short = {1: 8, 5: 4}.get(wire, 0), True
    if wire in (0, 2):
        value, at, short = varint(raw, at)
    end = at if wire == 0 else at + value
    require(end <= len(raw), "a field is cut off")
    return at, end, value, short


def read(raw: bytes, schema: Schema, *, canonical: bool = True, depth: int = 0) -> dict[str, Any]:
    """A message in canonical form; envelopes only are read in any form. ``depth``: messages around it."""
    values: dict[str, Any] = {name: _default(kind) for name, kind in schema.values()}
    last = 0
    for number, wire, value in fields(raw, canonical, depth):
        name, kind = schema.get(number, ("", ""))
        wanted = 2 if kind.removesuffix("...") in ("bytes", "string", "message") else 0
        if not name or (wire != wanted and not (kind == "u32..." and wire == 2)):
            require(not canonical, f"field {number} does not belong here")
            continue
        if canonical:
            again = number == last and kind == "bytes..."
            require(number > last or again, "fields out of order, or one twice")
            require(bool(value) or kind in ("bytes...", "message"), "a default is written")
            last = number
        _take(values, name, kind, value, canonical)
    return values


def _default(kind: str) -> Any:
    if kind.endswith("..."):
        return []
    return {"bytes": b"", "string": "", "message": None}.get(kind, 0)


def _take(values: dict[str, Any], name: str, kind: str, value: int | bytes, canonical: bool) -> None:
    if isinstance(value, int):
        require(kind != "u32...", "repeated numbers are not packed")
        require(not canonical or kind != "u32" or value < 1 << 32, "a number is too large")
        values[name] = value & 0xFFFFFFFF if kind == "u32" else value
    elif kind == "u32...":  # packed; no envelope has such a field
        at = 0
        while at < len(value):
            number, at, short = varint(value, at)
            require(short and number < 1 << 32, "a number is too large, or written longer than it must be")
            values[name].append(number)
    elif kind == "message":
        values[name] = (values[name] or b"") + value  # joined occurrences
    elif kind == "bytes...":
        values[name].append(value)
    elif kind == "string":
        try:
            values[name] = value.decode()
        except UnicodeDecodeError as error:
            raise Refused("a text is not UTF-8") from error
    else:
        values[name] = value


PROOF: Schema = {
    1: ("chain_id", "bytes"),
    2: ("record", "message"),
    3: ("receipt", "message"),
    4: ("envelope", "message"),
}
HEADER_PROOF: Schema = {1: ("headers", "bytes..."), 2: ("finalization", "message"), 3: ("hand_overs", "bytes...")}
HAND_OVER: Schema = {1: ("headers", "bytes..."), 2: ("finalization", "message"), 3: ("members", "bytes...")}
EPOCH_MEMBER: Schema = {1: ("organisation", "string"), 2: ("consensus_key", "bytes")}
JUSTIFIED_HEADER: Schema = {1: ("header", "bytes"), 2: ("justification", "bytes")}
RECORD_PROOF: Schema = {1: ("header", "message"), 2: ("key", "bytes"), 3: ("value", "bytes"), 4: ("state", "message")}
STATE_PROOF: Schema = {1: ("scheme", "u32"), 2: ("proof", "bytes")}
RECEIPT_PROOF: Schema = {
    1: ("header", "message"),
    2: ("receipt", "bytes"),
    3: ("position", "u64"),
    4: ("count", "u64"),
    5: ("siblings", "bytes..."),
}
ENVELOPE_PROOF: Schema = {
    1: ("header", "message"),
    2: ("envelope", "bytes"),
    3: ("in_batch", "message"),
    4: ("batch_header", "bytes"),
    6: ("payload", "bytes"),
}
MANIFEST: Schema = {
    1: ("header", "message"),
    2: ("ancestors", "bytes..."),
    3: ("justification", "bytes"),
    4: ("payload", "bytes"),
    5: ("log_root", "bytes"),
    6: ("leaf_count", "u64"),
    7: ("receipts_tree_root", "bytes"),
    8: ("receipt_count", "u64"),
}
LEAF_CHUNK: Schema = {
    1: ("first", "u64"),
    2: ("leaves", "bytes..."),
    3: ("inside", "bytes..."),
    4: ("bits", "bytes"),
    5: ("twig_path", "bytes..."),
}
RECEIPT_CHUNK: Schema = {1: ("first", "u64"), 2: ("receipts", "bytes..."), 3: ("path", "bytes...")}
PAYLOAD: Schema = {1: ("batch_digests", "bytes..."), 2: ("statements", "bytes...")}
MERKLE_PATH: Schema = {1: ("index", "u64"), 2: ("size", "u64"), 3: ("siblings", "bytes...")}
HEADER: Schema = {
    1: ("version", "u32"),
    2: ("chain_id", "bytes"),
    3: ("epoch", "u64"),
    4: ("height", "u64"),
    5: ("view", "u64"),
    6: ("parent_view", "u64"),
    7: ("parent_digest", "bytes"),
    8: ("payload_root", "bytes"),
    9: ("justification_digest", "bytes"),
    10: ("timestamp_ms", "u64"),
    11: ("state_height", "u64"),
    12: ("state_root", "bytes"),
    13: ("receipts_root", "bytes"),
    14: ("valset_hash", "bytes"),
    15: ("next_valset_hash", "bytes"),
    16: ("state_scheme", "u32"),
}
JUSTIFICATION: Schema = {1: ("parent", "message"), 2: ("nullifications", "bytes...")}
CERTIFICATE: Schema = {
    1: ("kind", "u32"),
    2: ("epoch", "u64"),
    3: ("view", "u64"),
    4: ("parent_view", "u64"),
    5: ("digest", "bytes"),
    6: ("signer_bitmap", "bytes"),
    7: ("signatures", "bytes..."),
}
RECEIPT: Schema = {
    1: ("envelope_id", "bytes"),
    2: ("height", "u64"),
    3: ("index", "u32"),
    4: ("position", "u64"),
    5: ("block_time_ms", "u64"),
    6: ("code", "u32"),
    7: ("operation_codes", "u32..."),
    8: ("original_position_plus_1", "u64"),
}
ENVELOPE: Schema = {1: ("body", "bytes"), 2: ("signatures", "bytes...")}
ENVELOPE_BODY: Schema = {
    1: ("chain_id", "bytes"),
    2: ("organisation", "string"),
    3: ("signer_keys", "bytes..."),
    4: ("not_after_ms", "u64"),
    5: ("salt", "bytes"),
    6: ("atomic", "bool"),
    7: ("operations", "bytes..."),
}
OPERATION: Schema = {number: (str(number), "message") for number in range(1, 14)}
Texts = dict[int, "Texts | str"]
"""Field number -> "string", or the texts of the message there. Both may be repeated: each is read."""
NAMED: Texts = {1: "string"}
TEXTS: dict[str, Texts] = {
    "1": {4: "string"},
    "7": {4: "string"},
    "9": {4: {2: "string", 3: "string", 4: "string"}, 5: {}, 6: {2: "string", 3: NAMED, 4: NAMED}},
}
"""Texts of the operations, which must be UTF-8."""
BATCH_HEADER: Schema = {
    1: ("chain_id", "bytes"),
    2: ("epoch", "u64"),
    3: ("origin", "string"),
    4: ("incarnation", "u64"),
    5: ("sequence", "u64"),
    6: ("previous", "bytes"),
    7: ("count", "u32"),
    8: ("envelope_bytes", "u64"),
    9: ("attachment_root", "bytes"),
    10: ("envelope_root", "bytes"),
}


# ---------------------------------------------------------------- 6: Merkle trees


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def climb(digest: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root to which a path leads."""
    require(0 <= index < size and len(path) <= 64, "a place outside its tree")
    last = size - 1
    for sibling in path:
        require(last > 0 and len(sibling) == 32, "a path of a wrong form")
        if index % 2 == 1 or index == last:
            digest = sha256(b"\x01" + sibling + digest).digest()
            while index % 2 == 0 and index != 0:
                index, last = index // 2, last // 2
        else:
            digest = sha256(b"\x01" + digest + sibling).digest()
        index, last = index // 2, last // 2
    require(last == 0, "a path that is too short")
    return digest


def climb_range(hashes: Sequence[bytes], start: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root to which a range path leads."""
    stop, rest = start + len(hashes), list(path)
    require(0 <= start < stop <= size, "a range outside its tree")

    def fold(first: int, end: int) -> bytes:
        if end <= start or stop <= first:
            require(len(rest) > 0 and len(rest[0]) == 32, "a range path of a wrong form")
            return rest.pop(0)
        if end - first == 1:
            return hashes[first - start]
        middle = first + (1 << (end - first - 1).bit_length() - 1)
        left = fold(first, middle)
        return sha256(b"\x01" + left + fold(middle, end)).digest()

    root = fold(0, size)
    require(not rest, "a range path that is too long")
    return root


def tree(hashes: Sequence[bytes]) -> bytes:
    """Root over leaf hashes."""
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + tree(hashes[:split]) + tree(hashes[split:])).digest()


# ---------------------------------------------------------------- 7: genesis


@dataclass
class Network:
    """What a genesis file says to a verifier."""

    chain_id: bytes
    validators: list[tuple[str, bytes]]
    valset_hash: bytes
    genesis: dict[str, Any]
    """What the first header of the epoch is a child of: height, view 0, time and digest of that header."""
    epoch: int = 0

    @property
    def quorum(self) -> int:
        return len(self.validators) - (len(self.validators) - 1) // 3


def read_network(raw: bytes) -> Network:
    """Check a genesis file; refuses it where a card is not signed by its owner."""
    genesis = parse_json(raw)
    names(genesis, ("format", "name", "time_ms", "parameters", "permissions", "cards"))
    names(genesis["permissions"], ("read", "subscribe"))
    names(genesis["parameters"], ("currencies", *PARAMETERS))
    for rule in genesis["parameters"]["currencies"].values():
        names(rule, ("minor_digits", "four_eyes_minor"))
    require(genesis["format"] == "lossbook-genesis-1", "another format")
    cards = [read_card(card) for card in genesis["cards"]]
    ids = [card["id"].encode() for card in cards]
    require(ids == sorted(set(ids)), "cards out of order")
    validators = [(card["id"], bytes.fromhex(card["consensus_key"])) for card in cards if card.get("consensus_key")]
    require(1 <= len(validators) <= 256, "no validators, or too many")
    preimage = struct.pack(">QI", 0, len(validators))
    for name, public in validators:
        preimage += struct.pack(">B", len(name)) + name.encode() + public
    valset_hash = tagged("valset", preimage)
    chain_id = tagged("genesis", raw)
    header = genesis_header(genesis["time_ms"], genesis_state_root(chain_id, genesis, cards, validators), valset_hash)
    parent = {"height": 0, "view": 0, "timestamp_ms": genesis["time_ms"], "digest": tagged("header", header)}
    return Network(chain_id, validators, valset_hash, parent)


def read_card(file: dict[str, str]) -> dict[str, Any]:
    names(file, ("card", "signature"), ("possession",))
    message = file["card"].encode()
    card: dict[str, Any] = parse_json(message)
    names(card, CARD, ("consensus_key", "peer_address", "public_address", "keys"))
    for key in card.get("keys", []):
        names(key, ("public", "roles"), ("label",))
    ledger_key = from_hex(card["ledger_key"])
    signature = from_hex(file["signature"])
    require(good_signature(ledger_key, tag("card") + b"\x00" + message, signature), "a card is not its owner's")
    consensus_key = from_hex(card.get("consensus_key", ""))
    possession = from_hex(file.get("possession", ""))
    require(bool(consensus_key) == bool(possession), "a consensus key and its proof go together")
    if consensus_key:
        require(good_signature(consensus_key, tag("card") + b"\x01" + message, possession), "a consensus key is stolen")
    return card


def names(value: dict[str, Any], required: Sequence[str], optional: Sequence[str] = ()) -> None:
    """7: what must stand in an object, and what may; nothing else."""
    require(set(required) <= set(value) <= {*required, *optional}, "a name is missing, or one too many")


def from_hex(text: str) -> bytes:
    value = bytes.fromhex(text)
    require(value.hex() == text, "not hexadecimal in lower case")
    return value


def parse_json(raw: bytes) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len(dict(pairs)) == len(pairs), "a name stands twice in an object")
        return dict(pairs)

    try:
        return json.loads(raw.decode(), object_pairs_hook=once)
    except ValueError as error:
        raise Refused("not JSON") from error


CARD = ("id", "kind", "name", "ledger_key", "ca_certificate")
KINDS = (
    "insurer",
    "reinsurer",
    "supervisor",
    "data-source",
    "adjuster-firm",
    "provider",
    "intermediary",
    "trust",
)
ROLES = ("admin", "underwriter", "claims-handler", "adjuster", "finance", "auditor", "api")
PARAMETERS = (
    "verification",
    "k_max",
    "max_ahead_ms",
    "block_bytes_max",
    "batch_bytes_max",
    "block_interval_ms",
    "state_scheme",
)


def genesis_state_root(
    chain_id: bytes, genesis: dict[str, Any], cards: list[dict[str, Any]], validators: list[tuple[str, bytes]]
) -> bytes:
    """18: the state of height 0, from the file."""
    records: dict[bytes, Any] = {}
    read_by, subscribed_by = genesis["permissions"]["read"], genesis["permissions"]["subscribe"]
    for card in cards:
        records[b"\x01" + card["id"].encode()] = [
            KINDS.index(card["kind"]) + 1,
            card["name"],
            bytes.fromhex(card["ledger_key"]),
            [bytes.fromhex(key["public"]) for key in card.get("keys", []) if "admin" in key["roles"]],
            len(card.get("keys", [])),
            card["id"] in read_by,
            card["id"] in subscribed_by,
        ]
        file = next(file for file in genesis["cards"] if parse_json(file["card"].encode())["id"] == card["id"])
        records[b"\x09" + card["id"].encode()] = [
            file["card"],
            bytes.fromhex(file["signature"]),
            bytes.fromhex(file.get("possession", "")),
        ]
        records[b"\x0b" + bytes.fromhex(card["ledger_key"])] = [card["id"], None]
        if card.get("consensus_key"):
            records[b"\x0b" + bytes.fromhex(card["consensus_key"])] = [card["id"], 0]
        for key in card.get("keys", []):
            records[b"\x02" + bytes.fromhex(key["public"])] = [
                card["id"],
                sum(1 << ROLES.index(role) for role in key["roles"]),
            ]
    parameters = genesis["parameters"]
    currencies = [
        [code, rule["minor_digits"], rule["four_eyes_minor"]] for code, rule in sorted(parameters["currencies"].items())
    ]
    records[b"\x03" + bytes(8)] = [0, currencies, *(parameters[name] for name in PARAMETERS)]
    seats = [[name, public] for name, public in validators]
    records[b"\x06" + bytes(8)] = [seats, int.from_bytes(chain_id[:8], "big"), 1, genesis["time_ms"], b""]
    records[b"\x07"] = [0, None, None, []]
    hashes = []
    for key in sorted(records):
        value = msgpack(records[key])
        head = struct.pack(">BQQHI", 1, 0, 0, len(key), len(value))
        hashes.append(tagged("state-leaf", head + key + value))
    twigs = []
    for first in range(0, len(hashes), 2048):
        inside = hashes[first : first + 2048]
        bits = ((1 << len(inside)) - 1).to_bytes(256, "little")
        twigs.append(tagged("state-twig", tree(inside), bits))
    return state_root(tree(twigs), len(hashes))


def state_root(log_root: bytes, count: int) -> bytes:
    return tagged("state-root", struct.pack(">I", 1), log_root, struct.pack(">QQ", count, 0))


def msgpack(value: Any) -> bytes:
    """18: the shortest form; integers from 0 only, which is all a genesis has."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if value < 128:
            return bytes((value,))
        size = next(size for size in range(4) if value < 1 << (8 << size))
        return bytes((0xCC + size,)) + value.to_bytes(1 << size, "big")
    if isinstance(value, bytes):
        return b"\xc4" + struct.pack(">B", len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        if len(text) < 32:
            return bytes((0xA0 + len(text),)) + text
        return (b"\xd9" + struct.pack(">B", len(text)) if len(text) < 256 else b"\xda" + _u16(len(text))) + text
    return (bytes((0x90 + len(value),)) if len(value) < 16 else b"\xdc" + _u16(len(value))) + b"".join(
        msgpack(each) for each in value
    )


def _u16(value: int) -> bytes:
    return struct.pack(">H", value)


def genesis_header(time_ms: int, root: bytes, valset_hash: bytes) -> bytes:
    """13: raw bytes of the header nobody voted for."""

    def field(number: int, value: int | bytes) -> bytes:
        if not value:
            return b""
        if isinstance(value, int):
            return _varint(number << 3) + _varint(value)
        return _varint(number << 3 | 2) + _varint(len(value)) + value

    no_receipts = tagged("receipt-root", bytes(8), EMPTY_ROOT)
    values: dict[int, int | bytes] = {}
    values |= {1: 1, 2: ZERO, 7: ZERO, 8: EMPTY_ROOT, 9: ZERO, 10: time_ms, 12: root, 13: no_receipts}
    values |= {14: valset_hash, 16: 1}
    return b"".join(field(number, value) for number, value in values.items())


def _varint(value: int) -> bytes:
    written = b""
    while value > 127:
        written += bytes((value & 127 | 128,))
        value >>= 7
    return written + bytes((value,))


# ---------------------------------------------------------------- 21 B, C: headers

NOTARIZE, NULLIFY, FINALIZE = 1, 2, 3
BATCH_DIGESTS = ("previous", "attachment_root", "envelope_root")
TAIL = ("height", "timestamp_ms", "state_height", "state_root", "receipts_root", "state_scheme")
DIGESTS = ("chain_id", "parent_digest", "payload_root", "justification_digest", "state_root", "receipts_root")


def check_certificate(raw: bytes, network: Network, target: tuple[int, int, bytes]) -> int:
    """14, 15: a quorum for (view, parent view, digest). Returns its kind."""
    certificate = read(raw, CERTIFICATE)
    kind, epoch, view = certificate["kind"], certificate["epoch"], certificate["view"]
    require(kind in (NOTARIZE, NULLIFY, FINALIZE) and epoch == network.epoch, "a certificate of another kind or epoch")
    require((view, certificate["parent_view"], certificate["digest"]) == target, "a certificate for something else")
    require(len(certificate["digest"]) == (0 if kind == NULLIFY else 32), "a certificate's digest has a wrong length")
    require(len(certificate["signer_bitmap"]) <= 32, "a bitmap is too long")
    require(not certificate["signer_bitmap"].endswith(b"\x00"), "a bitmap goes on after the highest signer")
    bitmap = int.from_bytes(certificate["signer_bitmap"], "little")
    signers = [signer for signer in range(256) if bitmap >> signer & 1]
    require(len(signers) == len(certificate["signatures"]), "signers and signatures differ in number")
    require(len(signers) >= network.quorum, "no quorum")
    require(signers[-1] < len(network.validators), "a signer who is no validator")
    preimage = network.chain_id + struct.pack(">BQQ", kind, epoch, view)
    if kind != NULLIFY:
        preimage += struct.pack(">Q", certificate["parent_view"]) + certificate["digest"]
    message = tagged("vote", preimage)
    for signer, signature in zip(signers, certificate["signatures"], strict=True):
        require(good_signature(network.validators[signer][1], message, signature), "a bad signature in a certificate")
    return int(kind)


def check_headers(raw: bytes | None, network: Network) -> dict[str, Any]:
    """The header that is proved, in the epoch to which the hand-overs lead."""
    proof = read(raw or b"", HEADER_PROOF)
    for each in proof["hand_overs"]:
        network = next_epoch(each, network)
    return check_final(proof, network)


def next_epoch(raw: bytes, network: Network) -> Network:
    """The network in its next epoch."""
    proof = read(raw, HAND_OVER)
    boundary = check_final(proof, network)
    members = [read(each, EPOCH_MEMBER) for each in proof["members"]]
    require(1 <= len(members) <= 256, "no members, or too many")
    validators = [(member["organisation"], member["consensus_key"]) for member in members]
    names = [name for name, _ in validators]
    keys = [key for _, key in validators if key]
    require(names == sorted(set(names)) and len(set(keys)) == len(keys), "members out of order, or a key twice")
    preimage = struct.pack(">QI", network.epoch + 1, len(validators))
    for name, key in validators:
        require(len(key) in (0, 32) and 1 <= len(name.encode()) <= 32, "a member that cannot be")
        preimage += struct.pack(">B", len(name.encode())) + name.encode() + (key or ZERO)
    valset_hash = tagged("valset", preimage)
    require(valset_hash == boundary["next_valset_hash"], "other members than the block names that ends the epoch")
    return Network(network.chain_id, validators, valset_hash, boundary | {"view": 0}, network.epoch + 1)


def check_final(proof: dict[str, Any], network: Network) -> dict[str, Any]:
    """The first header of a row that a finalization covers."""
    require(1 <= len(proof["headers"]) <= 1024 and proof["finalization"] is not None, "no header or no finalization")
    headers: list[dict[str, Any]] = []
    boundary: dict[str, Any] | None = None
    for one in proof["headers"]:
        justified = read(one, JUSTIFIED_HEADER)
        header = read(justified["header"], HEADER)
        header["digest"] = tagged("header", justified["header"])
        _check_own(header, network)
        if headers:
            _check_child(header, headers[-1], boundary)
        else:
            first = header["height"] == network.genesis["height"] + 1
            require(first == (header["parent_view"] == 0), "the first height, and no other, is on the epoch's genesis")
            if first:
                _check_child(header, network.genesis, None)
        require(tagged("justification", justified["justification"]) == header["justification_digest"], "justification")
        _check_justification(header, headers[-1] if headers else None, justified["justification"], network)
        headers.append(header)
        boundary = header if header["next_valset_hash"] else boundary
    last = headers[-1]
    target = (last["view"], last["parent_view"], last["digest"])
    require(check_certificate(proof["finalization"], network, target) == FINALIZE, "no finalization")
    return headers[0]


def _check_own(header: dict[str, Any], network: Network) -> None:
    require(all(len(header[name]) == 32 for name in DIGESTS), "a digest of a wrong length")
    require(len(header["next_valset_hash"]) in (0, 32), "a digest of a wrong length")
    require(header["version"] == 1 and header["state_scheme"] == 1, "another version")
    require(header["chain_id"] == network.chain_id, "a header of another network")
    require(header["epoch"] == network.epoch and header["valset_hash"] == network.valset_hash, "other validators")
    require(header["height"] > network.genesis["height"], "a height before the epoch")
    require(header["view"] > header["parent_view"], "a view that cannot be")
    require(header["state_height"] < header["height"], "a state from the future")


def _check_child(header: dict[str, Any], parent: dict[str, Any], boundary: dict[str, Any] | None) -> None:
    """``boundary``: the block that ends the epoch, if the parent is it or comes after it."""
    require(header["parent_digest"] == parent["digest"] and header["parent_view"] == parent["view"], "not its child")
    if boundary is not None:
        require(not header["next_valset_hash"] and header["payload_root"] == EMPTY_ROOT, "more than a tail")
        require(all(header[name] == boundary[name] for name in TAIL), "a tail that does not repeat the block before")
        return
    require(header["height"] == parent["height"] + 1, "a height is left out")
    require(header["timestamp_ms"] > parent["timestamp_ms"], "time runs backwards")


def _check_justification(header: dict[str, Any], parent: dict[str, Any] | None, raw: bytes, network: Network) -> None:
    justification = read(raw, JUSTIFICATION)
    if header["parent_view"] == 0:
        require(justification["parent"] is None, "the genesis has no certificate")
    else:
        require(justification["parent"] is not None, "no certificate of the parent")
        certified = read(justification["parent"], CERTIFICATE)
        grandparent_view = certified["parent_view"] if parent is None else parent["parent_view"]
        target = (header["parent_view"], grandparent_view, header["parent_digest"])
        require(check_certificate(justification["parent"], network, target) != NULLIFY, "a nullified parent")
    count = header["view"] - header["parent_view"] - 1
    require(count == len(justification["nullifications"]), "a skipped view is not accounted for")
    for view, nullification in enumerate(justification["nullifications"], header["parent_view"] + 1):
        require(check_certificate(nullification, network, (view, 0, b"")) == NULLIFY, "a view was not nullified")


# ---------------------------------------------------------------- 19: state proof


class Cursor:
    """Takes bytes from the front."""

    def __init__(self, raw: bytes) -> None:
        self.rest = raw

    def take(self, length: int) -> bytes:
        require(length <= len(self.rest), "a state proof is cut off")
        taken, self.rest = self.rest[:length], self.rest[length:]
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def path(self) -> list[bytes]:
        length = self.number(1)
        require(length <= 64, "a path is too long")
        return [self.take(32) for _ in range(length)]


@dataclass
class Leaf:
    """A leaf that is in the log."""

    place: int
    active: bool
    kind: int
    height: int
    previous: int
    key: bytes
    value: bytes


@dataclass
class Held:
    """What a state proof shows."""

    key: bytes
    value: bytes
    written_at: int
    superseded_at: int | None


def check_state_proof(raw: bytes, root: bytes) -> Held:
    cursor = Cursor(raw)
    count, boundary = cursor.number(8), cursor.number(8)
    require(boundary == 0 and 1 <= count <= 1 << 48, "a log of impossible size")
    subject = _leaf(cursor, count, root)
    require(subject.kind == 1, "a removal shows no value")
    more = cursor.number(1)
    require(more in (0, 1) and more == (0 if subject.active else 1), "an active leaf has no successor, others have")
    successor = _leaf(cursor, count, root) if more else None
    require(not cursor.rest, "a state proof goes on after its end")
    if successor is not None:
        require(successor.key == subject.key and successor.previous == subject.place + 1, "not its successor")
        require(successor.place > subject.place and successor.height > subject.height, "a successor from before")
    return Held(subject.key, subject.value, subject.height, successor.height if successor else None)


def _leaf(cursor: Cursor, count: int, root: bytes) -> Leaf:
    index, length = cursor.number(8), cursor.number(4)
    raw, path, bits, twig_path = cursor.take(length), cursor.path(), cursor.take(256), cursor.path()
    require(index < count, "a leaf outside the log")
    twig, place = index // 2048, index % 2048
    leaf_root = climb(tagged("state-leaf", raw), place, min(2048, count - 2048 * twig), path)
    log_root = climb(tagged("state-twig", leaf_root, bits), twig, (count + 2047) // 2048, twig_path)
    require(state_root(log_root, count) == root, "another state root")
    require(length >= 23, "a leaf is too short")
    kind, height, previous, key_length, value_length = struct.unpack(">BQQHI", raw[:23])
    require(kind in (1, 2) and 1 <= key_length <= 512 and value_length <= 1 << 20, "a leaf outside the limits")
    require(length == 23 + key_length + value_length, "a leaf's lengths are wrong")
    require(kind == 1 or (value_length == 0 and previous > 0), "a removal of nothing")
    active = bool(bits[place // 8] >> place % 8 & 1)
    return Leaf(index, active, kind, height, previous, raw[23 : 23 + key_length], raw[23 + key_length :])


# ---------------------------------------------------------------- 21 D: subjects


def check_record(raw: bytes, network: Network) -> dict[str, Any]:
    proof = read(raw, RECORD_PROOF)
    header = check_headers(proof["header"], network)
    state = read(proof["state"] or b"", STATE_PROOF)
    require(state["scheme"] == 1, "another commitment scheme")
    held = check_state_proof(state["proof"], header["state_root"])
    require((held.key, held.value) == (proof["key"], proof["value"]), "another record")
    require(held.superseded_at is None and held.written_at <= header["state_height"], "not its value at that height")
    return {
        "key": held.key.hex(),
        "value": held.value.hex(),
        "written_at": held.written_at,
        "state_height": header["state_height"],
    }


def check_receipt(raw: bytes, network: Network) -> dict[str, Any]:
    proof = read(raw, RECEIPT_PROOF)
    header = check_headers(proof["header"], network)
    receipt = read(proof["receipt"], RECEIPT)
    require(proof["position"] == receipt["position"] and len(receipt["envelope_id"]) == 32, "another receipt")
    require(proof["count"] <= 1 << 48, "a range of impossible size")
    root = climb(tagged("receipt-leaf", proof["receipt"]), proof["position"], proof["count"], proof["siblings"])
    require(tagged("receipt-root", struct.pack(">Q", proof["count"]), root) == header["receipts_root"], "receipts root")
    return receipt | {"envelope_id": receipt["envelope_id"].hex()}


def check_envelope(raw: bytes, network: Network) -> dict[str, Any]:
    proof = read(raw, ENVELOPE_PROOF)
    header = check_headers(proof["header"], network)
    batch = read(proof["batch_header"], BATCH_HEADER)
    require(batch["chain_id"] == network.chain_id, "a batch of another network")
    require(all(len(batch[name]) == 32 for name in BATCH_DIGESTS), "a digest of a wrong length")
    in_batch = read(proof["in_batch"] or b"", MERKLE_PATH)
    require(in_batch["size"] == batch["count"], "a batch of another size")
    leaf = leaf_hash(proof["envelope"])
    require(climb(leaf, in_batch["index"], in_batch["size"], in_batch["siblings"]) == batch["envelope_root"], "batch")
    digests, root = read_payload(proof["payload"])
    require(root == header["payload_root"], "payload root")
    require(tagged("batch", proof["batch_header"]) in digests, "a batch that the block does not list")
    return _well_formed(proof["envelope"], network) | {"height": header["height"], "origin": batch["origin"]}


def read_payload(raw: bytes) -> tuple[list[bytes], bytes]:
    """12: the digests of the batches, and the root."""
    payload = read(raw, PAYLOAD)
    digests, statements = payload["batch_digests"], payload["statements"]
    require(len(digests) <= 256 and len(set(digests)) == len(digests), "a payload that cannot be")
    require(all(len(digest) == 32 for digest in digests), "a digest of a wrong length")
    require(len(statements) <= 64 and len(set(statements)) == len(statements), "statements that cannot be")
    require(sum(len(statement) for statement in statements) <= 512 << 10, "too many bytes of statements")
    leaves = [leaf_hash(digest) for digest in digests] + [tagged("statement", statement) for statement in statements]
    return digests, tree(leaves)


def _well_formed(raw: bytes, network: Network) -> dict[str, Any]:
    """8."""
    envelope, body = read_envelope(raw, network)
    for key, signature in zip(body["signer_keys"], envelope["signatures"], strict=True):
        require(
            good_signature(key, tag("envelope-signature") + envelope["body"], signature), "an envelope's bad signature"
        )
    return {
        "envelope_id": tagged("envelope-id", envelope["body"]).hex(),
        "organisation": body["organisation"],
        "operations": len(body["operations"]),
    }


def read_envelope(raw: bytes, network: Network) -> tuple[dict[str, Any], dict[str, Any]]:
    """8: well-formed but for the signatures, which are only counted."""
    require(len(raw) <= 1 << 20, "an envelope is too large")
    envelope = read(raw, ENVELOPE, canonical=False)
    body = read(envelope["body"], ENVELOPE_BODY, canonical=False)
    keys, signatures = body["signer_keys"], envelope["signatures"]
    require(body["chain_id"] == network.chain_id and len(body["salt"]) == 16, "an envelope of another network")
    require(1 <= len(body["operations"]) <= 1000, "an envelope without operations, or with too many")
    require(1 <= len(keys) <= 16 and len(set(keys)) == len(keys) == len(signatures), "signers that cannot be")
    require(all(len(key) == 32 for key in keys) and all(len(signature) == 64 for signature in signatures), "a length")
    for raw_operation in body["operations"]:
        operation = read(raw_operation, OPERATION, canonical=False, depth=1)
        for number, kind in operation.items():
            check_texts(kind or b"", TEXTS.get(number, {}), 2)
    return envelope, body


def check_texts(raw: bytes, texts: Texts, depth: int) -> None:
    """3: a message that nobody hashes parses, and every text in it is UTF-8."""
    found = read(raw, {number: (str(number), "bytes...") for number in texts}, canonical=False, depth=depth)
    for number, inside in texts.items():
        for value in found[str(number)]:
            if isinstance(inside, str):
                _take({}, "", inside, value, False)
            else:
                check_texts(value, inside, depth + 1)


SUBJECTS: dict[str, Callable[[bytes, Network], dict[str, Any]]] = {
    "record": check_record,
    "receipt": check_receipt,
    "envelope": check_envelope,
}


def verify(raw: bytes, network: Network) -> tuple[str, dict[str, Any]]:
    """21: what a proof file shows, or Refused."""
    require(len(raw) <= 8 << 20, "a file that is too large")
    proof = read(raw, PROOF)
    require(proof["chain_id"] == network.chain_id, "another network")
    present = [name for name in SUBJECTS if proof[name] is not None]
    require(len(present) == 1, "not exactly one subject")
    return present[0], SUBJECTS[present[0]](proof[present[0]], network)


# ---------------------------------------------------------------- 25: snapshots


def check_manifest(raw: bytes, network: Network) -> dict[str, Any]:
    """What a snapshot is of."""
    require(len(raw) <= 2 << 20, "a manifest that is too large")
    manifest = read(raw, MANIFEST)
    child = certified = check_headers(manifest["header"], network)
    require(1 <= len(manifest["ancestors"]) <= 1024, "headers are missing")
    for one in reversed(manifest["ancestors"]):
        header = read(one, HEADER)
        header["digest"] = tagged("header", one)
        require(child["parent_digest"] == header["digest"], "not its parent")
        require(child["height"] == header["height"] + 1, "a height is left out")
        child = header
    require(child["height"] == certified["state_height"] >= 1, "another height")
    require(tagged("justification", manifest["justification"]) == child["justification_digest"], "justification")
    payload = read(manifest["payload"], PAYLOAD)
    require(tree([leaf_hash(digest) for digest in payload["batch_digests"]]) == child["payload_root"], "payload")
    require(1 <= manifest["leaf_count"] <= 1 << 48 and manifest["receipt_count"] <= 1 << 48, "impossible counts")
    require(state_root(manifest["log_root"], manifest["leaf_count"]) == certified["state_root"], "another state root")
    count = struct.pack(">Q", manifest["receipt_count"])
    root = tagged("receipt-root", count, manifest["receipts_tree_root"])
    require(root == certified["receipts_root"], "another receipts root")
    return manifest | {"height": child["height"]}


def check_leaf_chunk(raw: bytes, manifest: dict[str, Any]) -> int:
    """The number of leaves it shows."""
    chunk, count = read(raw, LEAF_CHUNK), manifest["leaf_count"]
    twig = chunk["first"] // 2048
    hashes = [tagged("state-leaf", leaf) for leaf in chunk["leaves"]]
    require(len(chunk["bits"]) == 256, "bits of a wrong length")
    leaf_root = climb_range(hashes, chunk["first"] % 2048, min(2048, count - 2048 * twig), chunk["inside"])
    twig_hash = tagged("state-twig", leaf_root, chunk["bits"])
    require(climb(twig_hash, twig, (count + 2047) // 2048, chunk["twig_path"]) == manifest["log_root"], "log root")
    return len(hashes)


def check_receipt_chunk(raw: bytes, manifest: dict[str, Any]) -> int:
    """The number of receipts it shows."""
    chunk = read(raw, RECEIPT_CHUNK)
    hashes = [tagged("receipt-leaf", receipt) for receipt in chunk["receipts"]]
    root = climb_range(hashes, chunk["first"], manifest["receipt_count"], chunk["path"])
    require(root == manifest["receipts_tree_root"], "root of the receipts")
    return len(hashes)


def main() -> int:
    genesis, *files = (Path(name).read_bytes() for name in sys.argv[1:])
    network = read_network(genesis)
    for raw in files:
        try:
            subject, shown = verify(raw, network)
        except Refused as refused:
            sys.stdout.write(f"refused: {refused}\n")
            return 1
        sys.stdout.write(f"{subject} {json.dumps(shown)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
