"""Operations as JSON, for people and scripts: what `lossbook tx build` reads.

A list of objects; ``kind`` names the operation as operation.proto does, the other members are its fields. Ids are hex
strings; fields that end in ``_days`` are ISO 8601 dates or days since 1970-01-01; ``line`` and ``reason`` are names or
numbers; fields that end in ``_minor`` are integers, minor units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ledger import operations as ops
from ledger.operations import Operation
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
}

_MINOR_MAX: Final = (1 << 63) - 1
_DAYS_MAX: Final = (1 << 31) - 1


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
    required = [field.name for field in msgspec.structs.fields(kind) if field.required]
    given = {field: value for field, value in item.items() if field != "kind"}
    unknown = sorted(set(given) - set(kind.__struct_fields__))  # type: ignore[attr-defined]
    missing = [field for field in required if field not in given]
    if unknown or missing:
        problem = f"has no field {missing[0]!r}" if missing else f"has an unknown field {unknown[0]!r}"
        raise BadInput(f"operation {at + 1} ({name}) {problem}", advice="docs/protocol.md lists the fields")
    try:
        return kind(**{field: _value(field, value) for field, value in given.items()})  # type: ignore[no-any-return]
    except BadInput as error:
        raise BadInput(f"operation {at + 1} ({name}): {error.problem}", advice=error.advice) from error


def _value(field: str, value: Any) -> Any:
    if field.endswith("_id"):
        return values.parse_id(value if isinstance(value, str) else "", field)
    if field.endswith("_days"):
        return values.parse_date(value) if isinstance(value, str) else _integer(field, value, _DAYS_MAX)
    if field == "line":
        return values.parse_line(value) if isinstance(value, str) else _integer(field, value, _DAYS_MAX)
    if field == "reason":
        return values.parse_reason(value) if isinstance(value, str) else _integer(field, value, _DAYS_MAX)
    if field.endswith("_minor"):
        return _integer(field, value, _MINOR_MAX)
    if not isinstance(value, str):
        raise BadInput(f"{field} is not a text")
    return value


def _integer(field: str, value: Any, greatest: int) -> int:
    if type(value) is not int or not -greatest <= value <= greatest:
        raise BadInput(f"{field} is {value!r}, not an integer within range", advice="Amounts are whole minor units")
    return value
