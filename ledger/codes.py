"""Receipt and rejection codes: the numbers that go on chain, and their text, which never does.

Numbers are part of the protocol (docs/insurance.md lists them): a number keeps its meaning for
ever and is never used again. Ranges:

    0         done
    1-99      the envelope as a whole, decided at execution, receipted
    100-199   at the door (admission), not receipted: nothing was ordered
    200-299   an operation, any contract
    300-399   an operation on policies and claims
    400-499   an operation on membership, keys and parameters
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class Code(enum.IntEnum):
    """Outcome of an envelope or of one operation."""

    OK = 0

    # -- the envelope as a whole, decided at execution
    EXPIRED = 1
    NOT_AFTER_TOO_FAR = 2
    REPLAYED = 3
    UNKNOWN_ORGANISATION = 4
    KEY_NOT_REGISTERED = 5
    KEY_OF_ANOTHER_ORGANISATION = 6
    ATOMIC_FAILED = 7
    OPERATIONS_FAILED = 8

    # -- admission
    MALFORMED = 100
    TOO_LARGE = 101
    TOO_MANY_OPERATIONS = 102
    NO_OPERATIONS = 103
    WRONG_CHAIN = 104
    BAD_SIGNATURE = 105
    MISSING_SIGNATURE = 106
    BAD_SIGNERS = 107
    OVERLOADED = 110
    NOT_READY = 111
    READ_ONLY = 112
    NOT_VOTING = 113

    # -- any operation
    UNKNOWN_OPERATION = 200
    CONTRACT_FAULT = 201
    WRONG_KIND = 202
    WRONG_ROLE = 203
    FOUR_EYES_REQUIRED = 204
    NOT_YOURS = 205
    BAD_ID = 206
    DUPLICATE_ID = 207
    DATE_OUT_OF_RANGE = 208
    DATE_IN_FUTURE = 209
    DATES_OUT_OF_ORDER = 210
    NEGATIVE_AMOUNT = 211
    ZERO_AMOUNT = 212
    AMOUNT_TOO_LARGE = 213
    UNKNOWN_CURRENCY = 214
    CURRENCY_MISMATCH = 215

    # -- policies and claims
    UNKNOWN_POLICY = 300
    UNKNOWN_CLAIM = 301
    UNKNOWN_LINE = 302
    UNKNOWN_REASON = 303
    BAD_PERIOD = 304
    BAD_LIMIT = 305
    LOSS_OUTSIDE_PERIOD = 306
    ILLEGAL_TRANSITION = 307
    PAYMENT_ABOVE_LIMIT = 308
    ASSESSED_EXCEEDED = 309
    AMOUNT_NOT_DUE = 310

    # -- membership, keys, parameters
    NOT_A_VALIDATOR = 400
    WRONG_EPOCH = 401
    UNKNOWN_PROPOSAL = 402
    PROPOSAL_CLOSED = 403
    PROPOSAL_EXPIRED = 404
    ALREADY_VOTED = 405
    BAD_EXPIRY = 406
    BAD_CHANGE = 407
    BAD_CARD = 408
    KEY_TAKEN = 409
    KIND_CHANGED = 410
    ALREADY_IN_SET = 411
    NOT_IN_SET = 412
    NOT_SUSPENDED = 413
    SET_SIZE = 414
    EPOCH_ENDING = 415
    TOO_MANY_ORGANISATIONS = 416
    BAD_PARAMETER = 417
    BAD_ACTIVATION = 418
    BAD_KEY = 419
    UNKNOWN_KEY = 420
    LAST_ADMIN_KEY = 421
    TOO_MANY_KEYS = 422
    BAD_POSSESSION = 423
    TWO_ADMINS_REQUIRED = 424


class Meaning(NamedTuple):
    """What a code says to a person."""

    text: str  #: one line: what happened
    advice: str  #: one line: what to do next; empty where there is nothing to do


_MEANINGS: Final[dict[Code, Meaning]] = {
    Code.OK: Meaning("done", ""),
    Code.EXPIRED: Meaning(
        "block time had passed the envelope's not-after time; nothing was executed",
        "Build and sign the envelope anew with a later not-after time.",
    ),
    Code.NOT_AFTER_TOO_FAR: Meaning(
        "the not-after time lies further ahead of block time than this network allows",
        "Sign with a not-after time within the network parameter max_ahead_ms; check this machine's clock.",
    ),
    Code.REPLAYED: Meaning(
        "this envelope was executed before; the first receipt stands",
        "Nothing to do: read the first receipt at the position this one names.",
    ),
    Code.UNKNOWN_ORGANISATION: Meaning(
        "the submitting organisation is not registered on this network",
        "Check the organisation id in the profile against `lossbook genesis show`.",
    ),
    Code.KEY_NOT_REGISTERED: Meaning(
        "a signer key is not registered for any organisation",
        "Sign with a key that stands on the organisation's card.",
    ),
    Code.KEY_OF_ANOTHER_ORGANISATION: Meaning(
        "a signer key belongs to another organisation than the one submitting",
        "Sign with keys of the submitting organisation only.",
    ),
    Code.ATOMIC_FAILED: Meaning(
        "all or nothing was asked for and one operation was refused; nothing was changed",
        "Find the operation with another code than this one, correct it and submit a new envelope.",
    ),
    Code.OPERATIONS_FAILED: Meaning(
        "at least one operation was refused; the others took effect",
        "Read the code of each operation; submit the refused ones again once corrected.",
    ),
    Code.MALFORMED: Meaning(
        "these bytes are not an envelope of this protocol version",
        "Check that client and node speak the same protocol version.",
    ),
    Code.TOO_LARGE: Meaning("the envelope is larger than 1 MiB", "Spread the operations over several envelopes."),
    Code.TOO_MANY_OPERATIONS: Meaning(
        "the envelope has more than 1000 operations", "Spread the operations over several envelopes."
    ),
    Code.NO_OPERATIONS: Meaning("the envelope has no operation", "Add at least one operation."),
    Code.WRONG_CHAIN: Meaning(
        "the envelope was signed for another network",
        "Compare the chain id of the profile's genesis with the node's: `lossbook genesis check`.",
    ),
    Code.BAD_SIGNATURE: Meaning(
        "a signature does not match its key and the envelope's bytes",
        "Sign the envelope again; if it came from elsewhere, it was altered on the way.",
    ),
    Code.MISSING_SIGNATURE: Meaning(
        "the number of signatures is not the number of signer keys",
        "Have every listed key sign: `lossbook tx sign`.",
    ),
    Code.BAD_SIGNERS: Meaning(
        "the signer keys are not 1 to 16 different keys of 32 bytes", "List each signing key once."
    ),
    Code.OVERLOADED: Meaning(
        "the node has as much waiting as it may hold",
        "Send the same envelope again after the given time, or to another insurer's node.",
    ),
    Code.NOT_READY: Meaning(
        "the node is starting or catching up and takes no envelopes yet",
        "Send the same envelope again after the given time, or to another insurer's node.",
    ),
    Code.READ_ONLY: Meaning(
        "this is a supervisor's replica: it follows the ledger and takes no submissions",
        "Submit to an insurer's node; `lossbook profile show` lists them.",
    ),
    Code.NOT_VOTING: Meaning(
        "this node's disk failed or its vote log cannot be used: it answers queries and takes no envelopes",
        "Send the same envelope to another insurer's node; this one waits for its operator.",
    ),
    Code.UNKNOWN_OPERATION: Meaning(
        "the kind of operation is not known to this version of the network",
        "Use an operation the network's version knows; upgrade the client or wait for the upgrade.",
    ),
    Code.CONTRACT_FAULT: Meaning(
        "the contract failed on this operation in the same way on every node; nothing was changed",
        "Report it with the envelope id: this is an error in the contract, not in the envelope.",
    ),
    Code.WRONG_KIND: Meaning(
        "this kind of organisation may not do this; policies and claims belong to insurers",
        "Have the insurer concerned submit it.",
    ),
    Code.WRONG_ROLE: Meaning(
        "none of the signer keys has the role this operation asks for",
        "Sign with a key that has the role; `lossbook genesis show` lists keys and roles.",
    ),
    Code.FOUR_EYES_REQUIRED: Meaning(
        "above the four-eyes amount two different keys with the role must sign",
        "Have a second person with the same role sign as well (`--key` twice, or `lossbook tx sign`).",
    ),
    Code.NOT_YOURS: Meaning(
        "the policy or claim belongs to another insurer",
        "Have the insurer that issued the policy submit it.",
    ),
    Code.BAD_ID: Meaning("an id is not 16 bytes", "Use 16 random bytes for every new id."),
    Code.DUPLICATE_ID: Meaning(
        "the id is taken by an earlier record", "Use 16 new random bytes; if you retried, see the first receipt."
    ),
    Code.DATE_OUT_OF_RANGE: Meaning(
        "a date lies outside the years 1900 to 9999", "Dates are days since 1970-01-01; check the conversion."
    ),
    Code.DATE_IN_FUTURE: Meaning(
        "an asserted date is after the date of the block (UTC)", "Submit it on or after that date."
    ),
    Code.DATES_OUT_OF_ORDER: Meaning(
        "the asserted date is before that of an earlier step",
        "Keep the order loss, report, assessment, decision, payment, close.",
    ),
    Code.NEGATIVE_AMOUNT: Meaning("an amount is negative", "Amounts are minor units, zero or more."),
    Code.ZERO_AMOUNT: Meaning("an amount that must be above zero is zero", "Leave out what has no amount."),
    Code.AMOUNT_TOO_LARGE: Meaning(
        "an amount is above 2^53 - 1 minor units", "Check the unit: amounts are minor units of the currency."
    ),
    Code.UNKNOWN_CURRENCY: Meaning(
        "the currency is not one this network allows", "Use an ISO 4217 code from the network's parameters."
    ),
    Code.CURRENCY_MISMATCH: Meaning("the currency is not the policy's", "Pay in the currency of the policy."),
    Code.UNKNOWN_POLICY: Meaning("there is no policy with this id", "Issue the policy first; check the id."),
    Code.UNKNOWN_CLAIM: Meaning("there is no claim with this id", "Notify the claim first; check the id."),
    Code.UNKNOWN_LINE: Meaning("the line of business is not known", "Use one of the lines of docs/insurance.md."),
    Code.UNKNOWN_REASON: Meaning(
        "the reason for declining is not known", "Use one of the reasons of docs/insurance.md."
    ),
    Code.BAD_PERIOD: Meaning(
        "the policy period ends before it starts or is longer than 100 years", "Check first and last day of cover."
    ),
    Code.BAD_LIMIT: Meaning(
        "the deductible is not below the limit", "Limit above zero, deductible from zero to below the limit."
    ),
    Code.LOSS_OUTSIDE_PERIOD: Meaning(
        "the loss date is outside the policy period",
        "Check the loss date; notify under the policy that was in force on that day.",
    ),
    Code.ILLEGAL_TRANSITION: Meaning(
        "the claim's state does not allow this step", "See the claim's state: `lossbook claim show`."
    ),
    Code.PAYMENT_ABOVE_LIMIT: Meaning(
        "the amount is above the policy's limit less deductible", "At most limit less deductible is payable."
    ),
    Code.ASSESSED_EXCEEDED: Meaning(
        "the approved amount is above the assessed amount", "Approve at most what was assessed."
    ),
    Code.AMOUNT_NOT_DUE: Meaning(
        "the amount paid is not the amount due", "Pay exactly what is outstanding: `lossbook claim show`."
    ),
    Code.NOT_A_VALIDATOR: Meaning(
        "the organisation has no vote here: it has no seat in the present epoch",
        "Have a member of the present set submit it: `lossbook governance list` names them.",
    ),
    Code.WRONG_EPOCH: Meaning(
        "the epoch it names is not the one it has to be for",
        "Propose and vote in the present epoch, which `lossbook governance list` names. A consensus key is for the one "
        "after it: let the key sign again, with that `--epoch`.",
    ),
    Code.UNKNOWN_PROPOSAL: Meaning(
        "there is no proposal with this id",
        "Check the id: `lossbook governance list`.",
    ),
    Code.PROPOSAL_CLOSED: Meaning(
        "the proposal was decided before",
        "Nothing to do: see how it was decided with `lossbook governance show`.",
    ),
    Code.PROPOSAL_EXPIRED: Meaning(
        "block time has passed the proposal's expiry",
        "Propose it again with a later expiry.",
    ),
    Code.ALREADY_VOTED: Meaning(
        "the organisation has voted on this proposal before; its first vote stands",
        "Nothing to do; a changed mind takes a new proposal.",
    ),
    Code.BAD_EXPIRY: Meaning(
        "the expiry is not after block time, or more than 30 days ahead",
        "Choose an expiry within 30 days from now.",
    ),
    Code.BAD_CHANGE: Meaning(
        "the change says nothing, more than one thing, or names somebody or something twice",
        "Propose exactly one change, and name each organisation, key or parameter once.",
    ),
    Code.BAD_CARD: Meaning(
        "a card is damaged, not signed by its keys, not what this change takes, or names no peer address for a seat",
        "Have the organisation make it anew: `lossbook genesis card`, with a consensus key for a seat, else without.",
    ),
    Code.KEY_TAKEN: Meaning(
        "a key is or was in use on this network",
        "Make a new key: no key serves twice.",
    ),
    Code.KIND_CHANGED: Meaning(
        "the card gives a member another kind than it has",
        "Keep the kind; another kind of business is another organisation.",
    ),
    Code.ALREADY_IN_SET: Meaning(
        "the organisation has a seat already",
        "Leave it out; new consensus keys for all come with any change of the set.",
    ),
    Code.NOT_IN_SET: Meaning(
        "the organisation has no seat that could be taken",
        "Check the id: `lossbook governance list` names the present validators.",
    ),
    Code.NOT_SUSPENDED: Meaning(
        "the organisation's seat is not suspended",
        "Check the id; a new validator is added with its card.",
    ),
    Code.SET_SIZE: Meaning(
        "the set would have no validator left, or more than 256",
        "Change the proposal so that 1 to 256 validators remain.",
    ),
    Code.EPOCH_ENDING: Meaning(
        "a change of the set is approved, and the epoch is about to end",
        "Wait for the next epoch and submit it then.",
    ),
    Code.TOO_MANY_ORGANISATIONS: Meaning(
        "the network has as many organisations as it may have",
        "Nothing to do on this network: it has 1024 organisations.",
    ),
    Code.BAD_PARAMETER: Meaning(
        "a parameter is unknown, outside its range, or does not fit the others",
        "See the ranges: `lossbook genesis assemble --help`; correct the value.",
    ),
    Code.BAD_ACTIVATION: Meaning(
        "the activation height is too near, too far, or not after that of a change decided before",
        "Choose a later height; `lossbook governance list` says from when on it would do.",
    ),
    Code.BAD_KEY: Meaning(
        "a key is not 32 bytes, or its roles are none or unknown",
        "Give a public key of 32 bytes and at least one known role.",
    ),
    Code.UNKNOWN_KEY: Meaning(
        "the organisation has no such signing key",
        "Check the key: `lossbook record show key/HEX`.",
    ),
    Code.LAST_ADMIN_KEY: Meaning(
        "the organisation would have no admin key left",
        "Add another admin key first.",
    ),
    Code.TOO_MANY_KEYS: Meaning(
        "the organisation would have more than 256 signing keys",
        "Drop keys that are not used any more.",
    ),
    Code.BAD_POSSESSION: Meaning(
        "the new key did not sign that it is the organisation's, or for another network, organisation or epoch",
        "Have the holder of the new key sign again, for this network and organisation: `lossbook key possess`.",
    ),
    Code.TWO_ADMINS_REQUIRED: Meaning(
        "the organisation has three or more admin keys, so two of them must act",
        "Sign with two admin keys (`--key` twice), or have another admin authorise it before: `lossbook key possess`.",
    ),
}


def text(code: int) -> str:
    """One line saying what happened; also for numbers of a later version."""
    try:
        return _MEANINGS[Code(code)].text
    except ValueError:
        return f"code {code}, which this version does not know"


def advice(code: int) -> str:
    """One line saying what to do next; empty where nothing is to be done."""
    try:
        return _MEANINGS[Code(code)].advice
    except ValueError:
        return "Upgrade this client: the network runs a later version."


def name(code: int) -> str:
    """The code's name, e.g. ``ILLEGAL_TRANSITION``; the number itself where it is not known."""
    try:
        return Code(code).name
    except ValueError:
        return str(code)


def retryable(code: int) -> bool:
    """Whether the same envelope may succeed later or at another node; everything else stays refused as it is."""
    return code in (Code.OVERLOADED, Code.NOT_READY, Code.READ_ONLY, Code.NOT_VOTING)
