"""An organisation's own keys: its admins change signing keys, and register a consensus key where it cannot sign itself.

Two admins where there are three: with three or more admin keys, a change takes two of them, either in one envelope or
by one admin's authorisation of the very same change at most five minutes before (insurance.md, "Who may do what").
An organisation has at most five admin keys; one more drops the oldest.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crypto.keys import PUBLIC_KEY_BYTES, verify
from ledger.codes import Code
from ledger.contract import Context, Refused
from ledger.epochs import current_epoch, membership
from ledger.operations import (
    OrganisationAuthoriseKey,
    OrganisationChangeKey,
    OrganisationRegisterConsensusKey,
)
from ledger.organisations import (
    ADMIN_KEYS_MAX,
    KEYS,
    KEYS_PER_ORGANISATION_MAX,
    ORGANISATIONS,
    KeyRecord,
    OrganisationRecord,
    Role,
    find_key,
    find_organisation,
    key_possession_message,
)
from ledger.readiness import withdraw_readiness
from ledger.registrations import is_fresh, possession_message, register
from ledger.state import Table

ADMINS_FOR_FOUR_EYES: Final = 3  #: with fewer keys, one lost key would shut the organisation out for good
AUTHORISATION_MS: Final = 5 * 60_000
ROLE_BITS: Final = sum(Role)


class AuthorisationRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One change of keys that an admin has authorised; the latest, under the organisation id."""

    by: bytes
    """Admin key that authorised it."""
    time_ms: int
    """Block time, milliseconds since 1970-01-01 UTC."""
    key: bytes
    roles: int
    drop: bytes


AUTHORISATIONS: Final = Table(0x0D, AuthorisationRecord, "key-authorisations")


def authorise_key(operation: OrganisationAuthoriseKey, context: Context) -> None:
    """Let another admin make this very change within five minutes."""
    # authorise
    context.authority.require(Role.ADMIN)
    # check
    _own(context)
    _check_form(operation)
    # compute
    by = context.authority.holders(Role.ADMIN)[0]
    record = AuthorisationRecord(by, context.time_ms, operation.key, operation.roles, operation.drop)
    # write
    context.view.put(AUTHORISATIONS, context.authority.organisation.encode(), record)
    # emit
    context.emit(record)


def change_key(operation: OrganisationChangeKey, context: Context) -> None:
    """Add a signing key, give one other roles, or drop one."""
    # authorise
    context.authority.require(Role.ADMIN)
    before = _own(context)
    name = context.authority.organisation
    _require_two_admins(before, context, operation)
    # check
    _check_form(operation)
    known = find_key(context.view, operation.key) if operation.key else None
    if known is not None and known.organisation != name:
        raise Refused(Code.KEY_TAKEN)
    if operation.key and known is None:
        _check_new(operation, context)
    dropped = find_key(context.view, operation.drop) if operation.drop else None
    if operation.drop and (dropped is None or dropped.organisation != name):
        raise Refused(Code.UNKNOWN_KEY)
    # compute
    admins = _admins_after(before.admin_keys, operation)
    if not admins:
        raise Refused(Code.LAST_ADMIN_KEY)
    oldest = admins[:-ADMIN_KEYS_MAX]
    gone = [operation.drop] * (dropped is not None) + list(oldest)
    count = before.key_count + (bool(operation.key) and known is None) - len(gone)
    if count > KEYS_PER_ORGANISATION_MAX:
        raise Refused(Code.TOO_MANY_KEYS)
    after = msgspec.structs.replace(before, admin_keys=admins[len(oldest) :], key_count=count)
    # write
    for public in gone:
        context.view.delete(KEYS, public)
    if operation.key:
        context.view.put(KEYS, operation.key, KeyRecord(name, operation.roles))
    context.view.put(ORGANISATIONS, name.encode(), after)
    context.view.delete(AUTHORISATIONS, name.encode())
    # emit
    context.emit(after)


def register_consensus_key(operation: OrganisationRegisterConsensusKey, context: Context) -> None:
    """The consensus key that its validator will use in the next epoch, in place of one registered before."""
    # authorise
    context.authority.require(Role.ADMIN)
    _require_two_admins(_own(context), context, None)
    name = context.authority.organisation
    # check
    standing = membership(context.view)
    if operation.epoch != standing.epoch + 1:
        raise Refused(Code.WRONG_EPOCH)
    if standing.approved is not None:
        raise Refused(Code.EPOCH_ENDING)
    _, epoch = current_epoch(context.view)
    coming = standing.passed.members if standing.passed is not None else ()
    if epoch.seat(name) is None and name not in standing.suspended and name not in coming:
        raise Refused(Code.NOT_A_VALIDATOR)
    if len(operation.consensus_key) != PUBLIC_KEY_BYTES:
        raise Refused(Code.BAD_KEY)
    if not is_fresh(context.view, operation.consensus_key):
        raise Refused(Code.KEY_TAKEN)
    message = possession_message(context.chain_id, operation.epoch, name, operation.consensus_key)
    if not verify(operation.consensus_key, message, operation.possession):
        raise Refused(Code.BAD_POSSESSION)
    # write
    register(context.view, name, operation.epoch, operation.consensus_key, context.height)
    withdraw_readiness(context.view, name)


def _own(context: Context) -> OrganisationRecord:
    record = find_organisation(context.view, context.authority.organisation)
    if record is None:
        raise Refused(Code.UNKNOWN_ORGANISATION)
    return record


def _require_two_admins(
    organisation: OrganisationRecord, context: Context, change: OrganisationChangeKey | None
) -> None:
    """Two different admin keys, where there are three: both sign, or one has authorised this change lately."""
    signers = context.authority.holders(Role.ADMIN)
    if len(organisation.admin_keys) < ADMINS_FOR_FOUR_EYES or len(signers) >= 2:
        return
    record = context.view.get(AUTHORISATIONS, context.authority.organisation.encode())
    if (
        record is None
        or change is None
        or (record.key, record.roles, record.drop) != (change.key, change.roles, change.drop)
        or record.by in signers
        or record.by not in organisation.admin_keys
        or context.time_ms > record.time_ms + AUTHORISATION_MS
    ):
        raise Refused(Code.TWO_ADMINS_REQUIRED)


def _check_form(operation: OrganisationChangeKey | OrganisationAuthoriseKey) -> None:
    if operation.key == operation.drop:
        raise Refused(Code.BAD_CHANGE)
    if any(public and len(public) != PUBLIC_KEY_BYTES for public in (operation.key, operation.drop)):
        raise Refused(Code.BAD_KEY)
    if operation.key and not 0 < operation.roles <= ROLE_BITS:
        raise Refused(Code.BAD_KEY)


def _check_new(operation: OrganisationChangeKey, context: Context) -> None:
    if not is_fresh(context.view, operation.key):
        raise Refused(Code.KEY_TAKEN)
    message = key_possession_message(context.chain_id, context.authority.organisation)
    if not verify(operation.key, message, operation.possession):
        raise Refused(Code.BAD_POSSESSION)


def _admins_after(admins: tuple[bytes, ...], operation: OrganisationChangeKey) -> tuple[bytes, ...]:
    """Admin keys, oldest first, before the oldest above ADMIN_KEYS_MAX go; one that keeps the role keeps its age."""
    keeps = operation.roles & Role.ADMIN
    staying = tuple(key for key in admins if key != operation.drop and (key != operation.key or keeps))
    return (*staying, operation.key) if keeps and operation.key not in staying else staying
