"""Errors and small checks that all decoders share."""

from __future__ import annotations

from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

DIGEST: Final = 32  #: bytes of a SHA-256 digest and of an Ed25519 public key
SIGNATURE: Final = 64  #: bytes of an Ed25519 signature
SALT: Final = 16  #: bytes that make two equal envelopes differ
VALIDATORS_MAX: Final = 256  #: certificates stay small; a network of insurers of one market has tens


class WireError(Exception):
    """Bytes that no honest sender makes.

    Attributes:
        what: the message that was being read.
        problem: what is wrong with it.
    """

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"{what}: {problem}")
        self.what = what
        self.problem = problem


M = TypeVar("M", bound=Message)


def parse(kind: type[M], raw: bytes) -> M:
    """Parse protobuf bytes.

    Raises:
        WireError: not a message of this kind.
    """
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise WireError(kind.DESCRIPTOR.name, "does not parse") from error


def parse_canonical(kind: type[M], raw: bytes) -> M:
    """Parse protobuf bytes that must be in the one form lossbook writes (docs/protocol.md, "Protobuf"), so that equal
    content has one digest, whoever encoded it. Costs about one microsecond more than ``parse``.

    Raises:
        WireError: not a message of this kind, or in another form: unknown fields, defaults that are written, fields
            out of order or twice, numbers longer than they must be.
    """
    message = parse(kind, raw)
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != raw:
        raise WireError(kind.DESCRIPTOR.name, "not in canonical form")
    return message


def exact(what: str, field: str, value: bytes, wanted: int) -> bytes:
    """The value, if it has ``wanted`` bytes; WireError otherwise."""
    if len(value) != wanted:
        raise WireError(what, f"{field} has {len(value)} bytes, not {wanted}")
    return value


def exact_or_empty(what: str, field: str, value: bytes, wanted: int) -> bytes:
    """The value, if it is empty or has ``wanted`` bytes; WireError otherwise."""
    return exact(what, field, value, wanted) if value else b""
