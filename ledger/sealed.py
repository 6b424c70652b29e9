"""Sealed blobs: what the ledger commits to and never contains.

A blob is opaque here: nonce, key commitment and ciphertext of one field of one person, padded. It carries a random
nonce, so equal values have different commitments. Layout of the commitment: docs/protocol.md, "Sealed blobs".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import inspect

from crypto.hashing import TAG_SEALED_BLOB, tagged
from ledger.invariant import invariant
from ledger.state import State, Table
from ledger.types import BATCH_BYTES_MAX

BLOB_BYTES_MAX: Final = BATCH_BYTES_MAX
"""A blob travels beside a batch and counts among its bytes."""

_MARK: Final = "sealed"

Commitment = Annotated[bytes, msgspec.Meta(extra={_MARK: True})]
"""What a record holds of a sealed field: ``commitment_of`` its blob, 32 bytes; empty where there is none. Every record
declares such fields with this type, alone, in a sequence or inside another record: by it they are found."""


class Sealed(msgspec.Struct, frozen=True):
    """One commitment in the state."""

    commitment: bytes
    """32 bytes."""
    table: str
    """Name of the table of the record that holds it."""
    key: bytes
    """Of that record, without the table byte."""


def commitment_of(blob: bytes) -> bytes:
    """What stands on the chain for a sealed blob: 32 bytes."""
    return tagged(TAG_SEALED_BLOB, blob)


def sealed_in(state: State, tables: Iterable[Table[Any]]) -> Iterator[Sealed]:
    """Every sealed field that the records of these tables commit to, after the last executed block."""
    for table in tables:
        commitments = _reader(inspect.type_info(table.record))
        if commitments is None:
            continue  # no field of these records can be sealed
        for key, raw in state.committed_after(table):
            for commitment in commitments(table.decode(raw)):
                yield Sealed(commitment, table.name, key)


_Reader = Callable[[Any], Iterator[bytes]]


def _reader(declared: inspect.Type) -> _Reader | None:
    """What finds the commitments in a value of a type; None where it can hold none."""
    match declared:
        case inspect.Metadata(type=inner, extra=extra):
            return _itself if extra and extra.get(_MARK) else _reader(inner)
        case inspect.StructType(fields=fields):
            return _each_field({field.name: _reader(field.type) for field in fields})
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item) | inspect.SetType(item_type=item):
            return _each_item(_reader(item))
        case inspect.DictType(value_type=item):
            return _each_value(_reader(item))
        case inspect.UnionType(types=types):
            return _one_of([found for each in types if (found := _reader(each)) is not None])
        case _:
            return None


def _itself(value: bytes) -> Iterator[bytes]:
    if value:
        yield value


def _each_field(readers: Mapping[str, _Reader | None]) -> _Reader | None:
    held = {name: reader for name, reader in readers.items() if reader is not None}
    return (lambda value: (c for name, read in held.items() for c in read(getattr(value, name)))) if held else None


def _each_item(read: _Reader | None) -> _Reader | None:
    return (lambda value: (c for item in value for c in read(item))) if read is not None else None


def _each_value(read: _Reader | None) -> _Reader | None:
    return (lambda value: (c for item in value.values() for c in read(item))) if read is not None else None


def _one_of(readers: Sequence[_Reader]) -> _Reader | None:
    """Of a value that may be nothing. Two kinds of sealed content in one field are not told apart: none is declared."""
    if not readers:
        return None
    invariant(len(readers) == 1, "a field is declared with two types that hold sealed content")
    return lambda value: readers[0](value) if value is not None else iter(())
