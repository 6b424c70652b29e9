"""Words of reasons: lists, counts, who has and who has not."""

from __future__ import annotations

from collections.abc import Sequence, Sized

from node.facts import Facts


def tally(facts: Facts, what: str, signers: Sequence[int]) -> str:
    """``2 of 3 notarize votes (alpha, beta); not yet from gamma, delta``."""
    others = [index for index in range(len(facts.members)) if index not in signers]
    have = f" ({names(facts, signers)})" if signers else ""
    noun = "acknowledgements" if what == "held" else f"{what} votes"
    return f"{len(signers)} of {facts.consensus.quorum} {noun}{have}; not yet from {names(facts, others)}"


def names(facts: Facts, indexes: Sequence[int]) -> str:
    """Organisations of signer indexes."""
    return listed([facts.name(index) for index in indexes])


def listed(words: Sequence[str]) -> str:
    """``a, b and c``; ``nobody`` where there is none."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words) or ["nobody"])


def one_or_many(of: Sized, one: str, many: str) -> str:
    """The words for one or for many of these."""
    return one if len(of) == 1 else many


def itself(facts: Facts, words: str) -> str:
    """``, itself included`` where this node is one that counts."""
    return f", {words} included" if facts.votes else ""


def count(number: int, one: str, many: str = "") -> str:
    """``1 offence``, ``2 offences``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def seconds(ms: int) -> str:
    """``10.0 s``."""
    return f"{ms / 1000:.1f} s"


def short(digest: bytes) -> str:
    """Enough of a digest to find it in a log."""
    return digest.hex()[:16]


def size(number: int) -> str:
    """Bytes, in the unit that fits."""
    for unit, worth in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)):
        if number >= worth:
            return f"{number / worth:.1f} {unit}"
    return f"{number} bytes"
