"""The cases of the enumeration, numbered: a leader offset, and one two-way cut for each of the first views.

Five instances stand for four validators: instance ``i`` is validator ``i``, and instance 4 is the twin of validator 0,
with the same key. A cut is the set of instances on one side; the twin is always on the other, so that each of the 16
two-way partitions of five is counted once and 0 cuts nothing. The case's number is written with the offset first and
the cut of view 1 next, so that the cases that share a prefix lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VALIDATORS: Final = 4
TWIN_OF: Final = 0  #: whose key there is twice
INSTANCES: Final = 5
CUTS: Final = 16  #: two-way partitions of five instances: 2^5 / 2
OFFSETS: Final = VALIDATORS
ROUNDS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One run: it determines everything that happens in it."""

    offset: int
    """Leader of view v is (v + offset) mod 4."""
    cuts: tuple[int, ...]
    """Bit i of ``cuts[v - 1]``: in view v instance i is on the other side than the twin."""
    liar: bool = False
    """The twin lies when it leads, instead of running honest code."""

    @classmethod
    def from_number(cls, number: int, rounds: int, *, liar: bool = False) -> Case:
        """The case of a number below ``count(rounds)``."""
        cuts = []
        for _ in range(rounds):
            number, cut = divmod(number, CUTS)
            cuts.append(cut)
        return cls(number, tuple(reversed(cuts)), liar)

    @property
    def name(self) -> str:
        """As it is typed to replay it: offset, then one hexadecimal digit a view."""
        return f"{self.offset}:{''.join(format(cut, 'x') for cut in self.cuts)}"

    @classmethod
    def from_name(cls, name: str, *, liar: bool = False) -> Case:
        """The case of a name; ValueError if there is none."""
        offset, colon, cuts = name.partition(":")
        if not colon or offset not in {str(i) for i in range(OFFSETS)} or not 1 <= len(cuts) <= ROUNDS_MAX:
            raise ValueError(f"{name!r} is no case: write offset:cuts, for example 2:0f3a")
        return cls(int(offset), tuple(int(digit, CUTS) for digit in cuts), liar)

    def connected(self, sender: int, to: int, view: int) -> bool:
        """Whether a message that an instance sends in ``view`` reaches another."""
        if not 1 <= view <= len(self.cuts):
            return True
        cut = self.cuts[view - 1]
        return (cut >> sender & 1) == (cut >> to & 1)


def count(rounds: int) -> int:
    """How many cases there are: 262,144 with four rounds."""
    return OFFSETS * int(CUTS**rounds)
