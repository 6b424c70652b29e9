"""The sealed store: blobs that the ledger commits to, in one LevelDB, apart from everything that is kept for ever.

::

    "s" commitment 32    the blob
    "m" name             "schema", "chain" (genesis digest)

A blob is compared with its commitment when it is read, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ledger.genesis import WrongNetwork
from ledger.invariant import invariant
from ledger.sealed import BLOB_BYTES_MAX, commitment_of
from store.errors import CorruptBlocks, SealedDamaged, StoreError, WrongSchema
from store.level import Level

SCHEMA: Final = b"1"
WRITE_BUFFER_BYTES: Final = 4 << 20
CACHE_BYTES: Final = 1 << 20  #: blobs are read once and bypass it


class SealedStore:
    """Blobs by commitment. One process; reads may run beside one ``put`` in another thread."""

    def __init__(self, path: Path, chain_id: bytes) -> None:
        """Open or create.

        Raises:
            SealedDamaged: it cannot be read.
            WrongNetwork: blobs of another network.
            WrongSchema: another version's layout.
            StoreInUse, StoreFailed: see ``store.errors``.
        """
        self._path = path
        try:
            self._level = Level(path, WRITE_BUFFER_BYTES, CACHE_BYTES)
        except CorruptBlocks as error:
            raise SealedDamaged(path, error.what) from error
        try:
            self._check(chain_id)
        except (StoreError, WrongNetwork):
            self._level.close()
            raise

    def put(self, blob: bytes) -> bytes:
        """Store a blob durably; its commitment.

        Raises:
            StoreFailed: the disk refused.
        """
        invariant(0 < len(blob) <= BLOB_BYTES_MAX, f"a blob has 1 to {BLOB_BYTES_MAX} bytes")
        commitment = commitment_of(blob)
        self._level.write({b"s" + commitment: blob}, sync=True)
        return commitment

    def get(self, commitment: bytes) -> bytes | None:
        """The blob, compared with its commitment; None if it is not stored here.

        Raises:
            SealedDamaged: it is not what was stored.
        """
        try:
            blob = self._level.get(b"s" + commitment, cache=False)
        except CorruptBlocks as error:
            raise SealedDamaged(self._path, error.what) from error
        if blob is not None and commitment_of(blob) != commitment:
            raise SealedDamaged(self._path, f"the blob of {commitment.hex()} is another one")
        return blob

    def commitments(self) -> Iterator[bytes]:
        """Of all blobs, ascending.

        Raises:
            SealedDamaged: the rows cannot be read.
        """
        try:
            for key, _ in self._level.rows(b"s", b"t"):
                yield key[1:]
        except CorruptBlocks as error:
            raise SealedDamaged(self._path, error.what) from error

    def close(self) -> None:
        """Release the directory."""
        self._level.close()

    def _check(self, chain_id: bytes) -> None:
        schema, chain = self._level.get(b"mschema"), self._level.get(b"mchain")
        if schema is None and chain is None and next(self._level.rows(b"", b"\xff"), None) is None:
            self._level.write({b"mschema": SCHEMA, b"mchain": chain_id}, sync=True)
        elif schema != SCHEMA:
            raise WrongSchema(str(self._path), (schema or b"none").decode(errors="replace"), int(SCHEMA))
        elif chain != chain_id:
            raise WrongNetwork(chain_id, chain or b"", str(self._path))
