"""One target under atheris, in a process of its own: ``python -m tests.fuzz.child TARGET LIBFUZZER-ARGUMENTS``.

Instrumented are the rooms that bytes of a peer or client reach; the tests' own code and third parties are not.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["consensus", "crypto", "ledger", "node", "store"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Until the runs are done, or a target fails: atheris then writes the input and ends the process."""
    target = TARGETS[sys.argv[1]]
    target.seeds()  # what it caches is made before anything is counted
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.run)
    atheris.Fuzz()


main()
