"""What can go wrong for a client. Every error says what happened, what is unchanged and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from ledger import codes
from ledger.types import Receipt


class ClientError(Exception):
    """Base of what this package raises on purpose.

    Attributes:
        problem: what happened, one sentence without a full stop.
        unchanged: what did not happen; empty where nothing could have.
        advice: what to do or type next.
        exit_code: of the ``lossbook`` command: 1 refused or failed, 2 usage, 3 unreachable, 4 verification failed.
    """

    exit_code = 1

    def __init__(self, problem: str, *, unchanged: str = "", advice: str = "") -> None:
        super().__init__(". ".join(part for part in (problem, unchanged, advice) if part))
        self.problem = problem
        self.unchanged = unchanged
        self.advice = advice


class BadInput(ClientError):
    """A value a person or program gave cannot be used; nothing was sent."""

    exit_code = 2


class ProfileError(ClientError):
    """A profile is missing or cannot be used."""


class PassphraseError(ClientError):
    """No passphrase could be had, or its source cannot be used."""


class NothingReachable(ClientError):
    """No node answered in time.

    Attributes:
        attempts: (node, what happened) of the last try of each.
    """

    exit_code = 3

    def __init__(self, attempts: Sequence[tuple[str, str]], *, unchanged: str, advice: str) -> None:
        tried = "; ".join(f"{node}: {reason}" for node, reason in attempts) or "no node is configured"
        super().__init__(f"no node could be reached ({tried})", unchanged=unchanged, advice=advice)
        self.attempts = tuple(attempts)


class NodeRefused(ClientError):
    """A node answered the call itself with an error that another try cannot cure."""


class Rejected(ClientError):
    """Refused at the door: nothing was ordered.

    Attributes:
        code: of ledger/codes.py.
    """

    def __init__(self, code: int, text: str, node: str) -> None:
        super().__init__(
            f"{node} refused the envelope ({codes.name(code)}): {codes.text(code)}" + _own_words(code, text),
            unchanged="Nothing was changed on the ledger",
            advice=codes.advice(code),
        )
        self.code = code


def _own_words(code: int, text: str) -> str:
    """What a node says beside the text and the advice that stand for the code anyway, in brackets."""
    for said in (codes.text(code), codes.advice(code)):
        text = text.replace(said, "")
    text = text.strip(" .:;")
    return f" ({text})" if text else ""


class Expired(ClientError):
    """Finalized block time passed the envelope's not-after time before it was ordered."""

    def __init__(self, envelope_id: bytes) -> None:
        super().__init__(
            f"envelope {envelope_id.hex()[:16]} expired before it was executed",
            unchanged="Nothing was changed on the ledger, and it will never be executed",
            advice="Build and sign it anew with a later not-after time",
        )
        self.envelope_id = envelope_id


class Failed(ClientError):
    """The envelope was ordered, and it or some of its operations were refused.

    Attributes:
        receipt: says how each operation fared.
    """

    def __init__(self, receipt: Receipt) -> None:
        refused = [(at, code) for at, code in enumerate(receipt.operation_codes) if code]
        shown = [code for _, code in refused if code != receipt.code] or [receipt.code]
        places = ", ".join(f"operation {at + 1}: {codes.name(code)}" for at, code in refused[:5])
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        problem = f"the ledger refused it ({codes.name(receipt.code)}): {codes.text(shown[0])}"
        super().__init__(
            problem + (f" ({places}{more})" if len(receipt.operation_codes) > 1 else ""),
            unchanged=(
                "The other operations of the envelope took effect"
                if receipt.code == codes.Code.OPERATIONS_FAILED and len(refused) < len(receipt.operation_codes)
                else "Nothing was changed on the ledger"
            ),
            advice=codes.advice(shown[0]),
        )
        self.receipt = receipt


class Undecided(ClientError):
    """The wanted stage was not reached in the time given; the envelope may still execute.

    Attributes:
        envelope_id: to ask again with.
    """

    exit_code = 3

    def __init__(self, envelope_id: bytes, reached: str) -> None:
        super().__init__(
            f"envelope {envelope_id.hex()[:16]} reached {reached} and nothing further was heard in time",
            unchanged="It may still be executed; sending the same envelope again is safe, it executes at most once",
            advice=f"Ask again: `lossbook tx show {envelope_id.hex()}`",
        )
        self.envelope_id = envelope_id


class NoFirstReceipt(ClientError):
    """The envelope was executed before, and no node gave the receipt that says what it did.

    Attributes:
        envelope_id: to ask again with.
    """

    exit_code = 3

    def __init__(self, envelope_id: bytes) -> None:
        super().__init__(
            f"envelope {envelope_id.hex()[:16]} was executed before, and no node gave the receipt of that in time",
            unchanged="It executed at most once; whether the ledger refused it then is not known here",
            advice=f"Ask again: `lossbook tx show {envelope_id.hex()}`",
        )
        self.envelope_id = envelope_id


class CheckpointNeeded(ClientError):
    """No proof can be believed from where this client starts: what it knows is too old. No node is to blame."""

    exit_code = 4


class VerificationFailed(ClientError):
    """What a node served does not verify against the genesis."""

    exit_code = 4
