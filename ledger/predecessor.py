"""What the genesis of a rebuilt network says of the network before: where its books ended, and that they did.

    "predecessor": {"chain_id", "height", "epoch", "time_ms", "header_digest", "finalization",
                    "state_root", "receipts_root", "receipt_count",
                    "genesis_state_root", "genesis_leaf_count"}

The first eight are the network before: its last final block, the Finalization of that block (or of the last tail, where
it ended an epoch), and the roots after it. The others are the new network's own genesis block, one height above: the
old state with the records that ``ledger.succession`` writes. They stand in the file so that whoever has nothing but the
file can verify proofs of the new network; every member computes them again before it takes part.
"""

from __future__ import annotations

import msgspec

from consensus.types import Certificate, VoteKind
from ledger.cards import GenesisError
from ledger.wire.checks import WireError
from ledger.wire.votes import certificate_bytes, read_certificate

HEIGHT_MAX = (1 << 63) - 2


class PredecessorFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As it stands in the file; digests and the certificate in lower-case hex."""

    chain_id: str
    height: int
    epoch: int
    time_ms: int
    header_digest: str
    finalization: str
    state_root: str
    receipts_root: str
    receipt_count: int
    genesis_state_root: str
    genesis_leaf_count: int


class Predecessor(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the network before, and what the new one begins with."""

    chain_id: bytes
    """Of the network before, 32 bytes."""
    height: int
    """Of its last final block; 1 or above."""
    epoch: int
    """The last that had begun: of that block, or the next one where it ended its epoch."""
    time_ms: int
    """Its block time, milliseconds since 1970-01-01 UTC."""
    header_digest: bytes
    """Its header's digest, 32 bytes: parent of the new network's genesis block."""
    finalization: Certificate
    """That it is final: of itself, or of the last of its tails."""
    state_root: bytes
    """After it, 32 bytes; this very root was computed by every member of the new network."""
    receipts_root: bytes
    """After it, 32 bytes; the genesis block adds no receipt."""
    receipt_count: int
    genesis_state_root: bytes
    """After the new network's genesis block, 32 bytes."""
    genesis_leaf_count: int

    def file(self) -> PredecessorFile:
        """As it stands in the file."""
        return PredecessorFile(
            chain_id=self.chain_id.hex(),
            height=self.height,
            epoch=self.epoch,
            time_ms=self.time_ms,
            header_digest=self.header_digest.hex(),
            finalization=certificate_bytes(self.finalization).hex(),
            state_root=self.state_root.hex(),
            receipts_root=self.receipts_root.hex(),
            receipt_count=self.receipt_count,
            genesis_state_root=self.genesis_state_root.hex(),
            genesis_leaf_count=self.genesis_leaf_count,
        )


def read_predecessor(file: PredecessorFile, genesis_time_ms: int) -> Predecessor:
    """Read it and check what can be checked without the network before.

    Raises:
        GenesisError: a value that no network ended with.
    """
    found = Predecessor(
        chain_id=_digest("chain_id", file.chain_id),
        height=_number("height", file.height, 1),
        epoch=_number("epoch", file.epoch, 0),
        time_ms=_number("time_ms", file.time_ms, 0),
        header_digest=_digest("header_digest", file.header_digest),
        finalization=_finalization(file.finalization, file.epoch),
        state_root=_digest("state_root", file.state_root),
        receipts_root=_digest("receipts_root", file.receipts_root),
        receipt_count=_number("receipt_count", file.receipt_count, 0),
        genesis_state_root=_digest("genesis_state_root", file.genesis_state_root),
        genesis_leaf_count=_number("genesis_leaf_count", file.genesis_leaf_count, 1),
    )
    if genesis_time_ms <= found.time_ms:
        raise _wrong("time_ms", "the genesis is not dated after the last block of the network before")
    return found


def _finalization(text: str, epoch: int) -> Certificate:
    raw = _hex("finalization", text)
    try:
        certificate = read_certificate(raw)
    except WireError as error:
        raise _wrong("finalization", str(error)) from error
    if certificate_bytes(certificate) != raw:
        raise _wrong("finalization", "its bytes are not in canonical form")
    if certificate.kind is not VoteKind.FINALIZE:
        raise _wrong("finalization", f"it is a {certificate.kind.name.lower()} certificate")
    if not epoch - 1 <= certificate.epoch <= epoch:
        raise _wrong("finalization", f"it is of epoch {certificate.epoch}, and epoch {epoch} was the last to begin")
    return certificate


def _digest(name: str, text: str) -> bytes:
    raw = _hex(name, text)
    if len(raw) != 32:
        raise _wrong(name, f"{len(raw)} bytes instead of 32")
    return raw


def _hex(name: str, text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise _wrong(name, "it is not hexadecimal") from error
    if raw.hex() != text:
        raise _wrong(name, "it is not lower-case hexadecimal without spaces")
    return raw


def _number(name: str, value: int, least: int) -> int:
    if not least <= value <= HEIGHT_MAX:
        raise _wrong(name, f"{value} is outside {least} to {HEIGHT_MAX}")
    return value


def _wrong(name: str, problem: str) -> GenesisError:
    return GenesisError(
        f"{name} of the network before: {problem}",
        "Assemble it again from the archive of the surviving node: `lossbook genesis assemble --continue`.",
    )
