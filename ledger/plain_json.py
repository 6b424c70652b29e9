"""JSON of the ceremony, read so that nobody can read something else in the same bytes.

RFC 8259, section 4, leaves open what a name means that stands twice in one object: some readers take the first, some
the last. Such a text is refused here.
"""

from __future__ import annotations

import json
from typing import Any


class DuplicateName(ValueError):
    """A name stands twice in one object.

    Attributes:
        name: it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"the name {name[:40]!r} stands twice in one object")
        self.name = name


def plain(text: str | bytes) -> Any:
    """The value of a JSON text in dictionaries, lists, text and numbers.

    For texts that ``msgspec.json`` has decoded already: it bounds their depth and refuses what is no UTF-8.

    Raises:
        DuplicateName: see there.
        ValueError: no JSON.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise DuplicateName(name)
        found[name] = value
    return found
