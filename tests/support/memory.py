"""How many bytes an object holds on to, counted, not estimated."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

import msgspec

_SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
"""Code is not held by anybody in particular."""


def held_bytes(root: object, without: Iterable[object] = ()) -> int:
    """Sizes of everything reachable from ``root``, each object once; not through ``without``."""
    seen = {id(each) for each in without}
    waiting, total = [root], 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _SHARED):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        if isinstance(each, msgspec.Struct):  # the garbage collector does not look into them
            waiting += [getattr(each, name) for name in each.__struct_fields__]
        else:
            waiting += gc.get_referents(each)
    return total
