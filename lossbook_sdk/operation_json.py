"""Operations as JSON, for people and scripts: what `lossbook tx build` reads and `lossbook key possess` writes.

A list of objects; ``kind`` names the operation as operation.proto does, the other members are its fields, messages
inside it objects again. Ids, keys and signatures are hex strings; fields that end in ``_days`` are ISO 8601 dates or
days since 1970-01-01; ``line`` and ``reason`` are names or numbers, ``roles`` a list of names or their sum; fields that
end in ``_minor`` are integers, minor units; a card is the text of its file. A field that has a default may be left out.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from crypto.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from ledger import operations as ops
from ledger.operations import Operation
from ledger.organisations import Role
from lossbook_sdk import values
from lossbook_sdk.errors import BadInput

JSON_BYTES_MAX: Final = 8 << 20
"""A thousand operations, generously written."""

KINDS: Final[Mapping[str, type]] = {
    "policy_issue": ops.PolicyIssue,
    "claim_notify": ops.ClaimNotify,
    "claim_register": ops.ClaimRegister,
    "claim_assess": ops.ClaimAssess,
    "claim_approve": ops.ClaimApprove,
    "claim_decline": ops.ClaimDecline,
    "claim_pay": ops.ClaimPay,
    "claim_close": ops.ClaimClose,
    "governance_propose": ops.GovernancePropose,
    "governance_vote": ops.GovernanceVote,
    "organisation_change_key": ops.OrganisationChangeKey,
    "organisation_authorise_key": ops.OrganisationAuthoriseKey,
    "organisation_register_consensus_key": ops.OrganisationRegisterConsensusKey,
}

_NAMES: Final = {kind: name for name, kind in KINDS.items()}

_MINOR_MAX: Final = (1 << 63) - 1
_DAYS_MAX: Final = (1 << 31) - 1
_NUMBER_MAX: Final = (1 << 64) - 1

_BYTES: Final = {
    "key": ("public key", PUBLIC_KEY_BYTES),
    "drop": ("public key", PUBLIC_KEY_BYTES),
    "consensus_key": ("public key", PUBLIC_KEY_BYTES),
    "possession": ("signature", SIGNATURE_BYTES),
}
"""Fields in hex that are no ids: what they are, and their length."""

_CARDS: Final = ("card", "add")
"""Fields that hold card files."""


# -- reading -------------------------------------------------------------------------------------


def read_operations(raw: bytes) -> list[Operation]:
    """Operations of a JSON document.

    Raises:
        BadInput: naming the operation and the field.
    """
    if len(raw) > JSON_BYTES_MAX:
        raise BadInput(f"{len(raw):,} bytes of operations; at most {JSON_BYTES_MAX:,} are read")
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the operations are not JSON: {error}", advice="Write a list of objects") from error
    listed = document if isinstance(document, list) else [document]
    return [_operation(at, item) for at, item in enumerate(listed)]


def _operation(at: int, item: Any) -> Operation:
    name = item.get("kind") if isinstance(item, dict) else None
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BadInput(f"operation {at + 1} is of no known kind", advice=f"Its kind is one of {', '.join(KINDS)}")
    given = {field: value for field, value in item.items() if field != "kind"}
    try:
        return _struct(kind, given)  # type: ignore[no-any-return]
    except BadInput as error:
        raise BadInput(f"operation {at + 1} ({name}) {error.problem}", advice=error.advice) from error


def _struct(kind: type, given: Mapping[str, Any]) -> Any:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    unknown = sorted(set(given) - set(fields))
    missing = [name for name, field in fields.items() if field.required and name not in given]
    if unknown or missing:
        problem = f"has no field {missing[0]!r}" if missing else f"has an unknown field {unknown[0]!r}"
        raise BadInput(problem, advice="docs/protocol.md lists the fields")
    return kind(**{name: _value(name, fields[name].type, value) for name, value in given.items()})


def _value(field: str, kind: Any, value: Any) -> Any:
    """One value of a field, by its name and the type that ``ledger.operations`` gives it."""
    inner = _inner(kind)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise BadInput(f"has {field} that is not a list")
        return tuple(_value(field, typing.get_args(kind)[0], item) for item in value)
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        if value is None:
            return None
        if not isinstance(value, dict):
            raise BadInput(f"has {field} that is not an object")
        try:
            return _struct(inner, value)
        except BadInput as error:
            raise BadInput(f"in {field} {error.problem}", advice=error.advice) from error
    try:
        return _scalar(field, inner, value)
    except BadInput as error:
        raise BadInput(f"has a bad {field}: {error.problem}", advice=error.advice) from error


def _inner(kind: Any) -> Any:
    """The type beside None, where a field may be absent."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return next(each for each in typing.get_args(kind) if each is not type(None))
    return kind


def _scalar(field: str, kind: Any, value: Any) -> Any:
    if kind is bytes:
        return _bytes(field, value)
    if kind is bool:
        if not isinstance(value, bool):
            raise BadInput(f"{value!r} is not true or false")
        return value
    if kind is str:
        if not isinstance(value, str):
            raise BadInput(f"{field} is not a text")
        return value
    return _number(field, value)


def _bytes(field: str, value: Any) -> bytes:
    text = value if isinstance(value, str) else ""
    if field in _CARDS:
        if not text:
            raise BadInput("a card is given as the text of its file", advice="Have it made: `lossbook genesis card`")
        return text.encode()
    what, length = _BYTES.get(field, (field, values.ID_BYTES))
    return values.parse_id(text, what, length)


def _number(field: str, value: Any) -> int:
    if field.endswith("_days"):
        return values.parse_date(value) if isinstance(value, str) else _integer(field, value, -_DAYS_MAX, _DAYS_MAX)
    if field == "line" and isinstance(value, str):
        return values.parse_line(value)
    if field == "reason" and isinstance(value, str):
        return values.parse_reason(value)
    if field == "roles" and isinstance(value, list):
        return values.parse_roles(value)
    if field.endswith("_minor"):
        return _integer(field, value, -_MINOR_MAX, _MINOR_MAX)
    return _integer(field, value, 0, _NUMBER_MAX)


def _integer(field: str, value: Any, least: int, greatest: int) -> int:
    if type(value) is not int or not least <= value <= greatest:
        raise BadInput(f"{field} is {value!r}, not an integer within range", advice="Amounts are whole minor units")
    return value


# -- writing -------------------------------------------------------------------------------------


def document(operation: Operation) -> dict[str, Any]:
    """The object that ``read_operations`` reads as this operation; fields that have their default are left out."""
    return {"kind": _NAMES[type(operation)]} | plain(operation)


def plain(struct: Any) -> dict[str, Any]:
    """The fields of an operation, or of a message inside one."""
    fields = msgspec.structs.fields(struct)
    return {
        field.name: _plain(field.name, getattr(struct, field.name))
        for field in fields
        if field.required or getattr(struct, field.name) != field.default
    }


def _plain(field: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(field, item) for item in value]
    if isinstance(value, msgspec.Struct):
        return plain(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace") if field in _CARDS else value.hex()
    if field == "roles":
        return [role.slug for role in Role if value & role] if 0 < value <= sum(Role) else value
    if field.endswith("_days"):
        return values.render_date(value)
    return value
