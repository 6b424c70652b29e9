"""What can be wrong with a proof, and what to do about it."""

from __future__ import annotations

from typing import Final

_ELSEWHERE: Final = "Ask another node for the proof; keep this file as evidence against whoever gave it."


class ProofError(Exception):
    """A proof that does not show what it claims.

    Attributes:
        what: the part that failed.
        problem: what is wrong with it.
        advice: what to do next.
    """

    advice = _ELSEWHERE

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"proof refused: {what}: {problem}")
        self.what = what
        self.problem = problem


class UnreadableProof(ProofError):
    """The bytes are no proof, or were damaged on the way."""

    advice = "Export it again with `lossbook record show --prove`; a copy over e-mail or chat may have altered it."


class ProofOfOtherNetwork(ProofError):
    """It was made on another network than the genesis given."""

    advice = "Give the genesis file of the network it was made on: `lossbook genesis check` shows its chain id."


class BelowCheckpoint(ProofError):
    """It is about a time before the checkpoint from which this verifier starts."""

    advice = "Ask for the proof anew: records and receipts can be proved under any later block."


class ConflictingHistory(ProofError):
    """It follows from a quorum's signatures, and contradicts what followed from a quorum's signatures before."""

    advice = (
        "Two histories were signed: more validators are at fault than the network tolerates. Keep this file, and ask "
        "the supervisor which of the two is the network's."
    )


class BadHeaderChain(ProofError):
    """The headers do not follow one another, or are not of this network."""


class BadHandOver(ProofError):
    """An epoch does not end where, or hand over to whom, the proof says."""


class BadJustification(ProofError):
    """A header does not show why it may build on its parent."""


class BadCertificate(ProofError):
    """A certificate is not a quorum of distinct members for what it claims."""


class BadSignature(BadCertificate):
    """A signature in a certificate is not its signer's."""


class BadStateProof(ProofError):
    """The record is not in the state that the header commits to."""


class BadReceiptProof(ProofError):
    """The receipt is not in the range that the header commits to."""


class BadEnvelopeProof(ProofError):
    """The envelope is not in a batch that the header lists, or is ill-formed."""
