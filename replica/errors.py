"""What can be wrong with a feed, and what can be wrong here.

A ``FeedError`` is the serving node's fault: it names the height, the organisation that served it and what was wrong,
and costs that source its place (``replica.sources``). Everything else is this replica's or its operator's matter and
is never blamed on a source.
"""

from __future__ import annotations


class FeedError(Exception):
    """What a source served cannot come from an honest node.

    Attributes:
        height: where the fault shows.
        source: organisation whose node served it.
        reason: what is wrong, one clause.
    """

    kind = "bad feed"

    def __init__(self, height: int, source: str, reason: str) -> None:
        super().__init__(f"{self.kind} at height {height}, served by {source}: {reason}")
        self.height = height
        self.source = source
        self.reason = reason

    def diagnostics(self) -> str:
        """What happened, what is unchanged, what to do."""
        return (
            f"{self}. Nothing of it was stored. The replica follows its next source; it does not ask {self.source} "
            "again before its back-off ends. Tell that organisation: its node lies or is damaged"
        )


class ForgedBlock(FeedError):
    """Header, payload, batch or envelope contradicts what the chain commits to."""

    kind = "forged block"


class ForgedCertificate(FeedError):
    """A certificate is not a quorum of distinct, valid signatures for what it claims, or one is missing."""

    kind = "forged certificate"


class Gap(FeedError):
    """The height is not the one that follows, or the block does not build on the one before."""

    kind = "gap"


class TruncatedStream(FeedError):
    """The stream ended, or went on too long without a certificate: what was served cannot be shown to be final."""

    kind = "truncated stream"


class Divergence(Exception):
    """A quorum finalized what this replica's own execution contradicts.

    No source's fault: the block is final. Either this replica is broken or more than a third of the validators are.

    Attributes:
        height: of the block.
    """

    def __init__(self, height: int, what: str) -> None:
        super().__init__(
            f"DIVERGENCE: block {height} {what}. Nothing after it was executed. Keep this home as evidence, compare "
            "roots with the other members (`lossbook replica status --json`), and rebuild with `lossbook replica "
            "resync` only if they agree with each other"
        )
        self.height = height


class RuleBroken(Divergence):
    """A final block breaks a rule that this replica's state holds: of parameters, or of the end of an epoch."""


class RootMismatch(Divergence):
    """A quorum certified a root that is not this replica's own."""

    def __init__(self, height: int, state_height: int, what: str, certified: bytes, own: bytes) -> None:
        super().__init__(
            height,
            f"certifies {what} {certified.hex()} after height {state_height}, own execution gives {own.hex()}",
        )
        self.state_height = state_height
        self.what = what
        self.certified = certified
        self.own = own


class ReplicaConfigError(Exception):
    """The configuration cannot be used; the text says which setting and what is expected."""


class ReplicaStateError(Exception):
    """The replica's own stores contradict each other; the text says how to recover."""
