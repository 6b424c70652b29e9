"""An organisation's own keys: who may change them, four eyes from three admin keys on, five admin keys at most."""

from __future__ import annotations

import msgspec
import pytest

from contracts.organisation import AUTHORISATION_MS, AUTHORISATIONS
from crypto.keys import SigningKey
from ledger import operations as ops
from ledger.codes import Code
from ledger.organisations import (
    ADMIN_KEYS_MAX,
    KEYS_PER_ORGANISATION_MAX,
    Kind,
    OrganisationRecord,
    Role,
    find_key,
    find_organisation,
    key_possession_message,
)
from tests.support.insurers import FIRST, INSURERS, SUPERVISOR, Ledger, Organisation, key_of

SECOND = INSURERS[1]
ADMIN, ADMIN_2 = FIRST.desks["admin"], FIRST.desks["admin-2"]


class Office:
    """The first insurer's admins at work."""

    def __init__(self, admins: int = 2, by: Organisation = FIRST) -> None:
        self.ledger = Ledger()
        self.by = by
        self.admins = [by.desks["admin"], by.desks["admin-2"]]
        for at in range(3, admins + 1):
            assert self.act(self.adding(key_of("new-admin", str(at)), Role.ADMIN), *self.admins[:2]) == Code.OK
            self.admins.append(key_of("new-admin", str(at)))

    @property
    def record(self) -> OrganisationRecord:
        found = find_organisation(self.ledger.state, self.by.id)
        assert found is not None
        return found

    def act(self, operation: ops.Operation, *keys: SigningKey, after_ms: int = 1000) -> int:
        """Outcome of an operation signed by these keys."""
        envelope = self.ledger.envelope([operation], by=self.by, keys=keys or [self.admins[0]])
        receipt = self.ledger.block([envelope], after_ms=after_ms).receipts[0]
        return receipt.operation_codes[0] if receipt.operation_codes else receipt.code

    def adding(self, key: SigningKey, roles: int, drop: bytes = b"") -> ops.OrganisationChangeKey:
        """The change that adds a key, with its possession."""
        message = key_possession_message(self.ledger.genesis.chain_id, self.by.id)
        return ops.OrganisationChangeKey(key.public, roles, drop, key.sign(message))

    def roles(self, key: SigningKey) -> int | None:
        found = find_key(self.ledger.state, key.public)
        return None if found is None else found.roles


def authorising(change: ops.OrganisationChangeKey) -> ops.OrganisationAuthoriseKey:
    return ops.OrganisationAuthoriseKey(change.key, change.roles, change.drop)


NEW = key_of("new")


def test_an_admin_adds_a_key_and_drops_one() -> None:
    office = Office()
    before = office.record.key_count
    assert office.act(office.adding(NEW, Role.FINANCE | Role.AUDITOR)) == Code.OK
    assert office.roles(NEW) == Role.FINANCE | Role.AUDITOR
    assert office.record.key_count == before + 1
    assert office.act(ops.OrganisationChangeKey(drop=NEW.public)) == Code.OK
    assert office.roles(NEW) is None
    assert office.record.key_count == before
    receipt = office.ledger.block([office.ledger.envelope([ops.ClaimClose(bytes(16), 0)], keys=[NEW])]).receipts[0]
    assert receipt.code == Code.KEY_NOT_REGISTERED


def test_a_key_takes_anothers_place_in_one_step() -> None:
    office = Office()
    finance = FIRST.desks["finance"]
    assert office.act(office.adding(NEW, Role.FINANCE, finance.public)) == Code.OK
    assert (office.roles(NEW), office.roles(finance)) == (Role.FINANCE, None)


def test_a_key_gets_other_roles_and_needs_no_new_possession() -> None:
    office = Office()
    finance = FIRST.desks["finance"]
    assert office.act(ops.OrganisationChangeKey(finance.public, Role.AUDITOR)) == Code.OK
    assert office.roles(finance) == Role.AUDITOR


def test_admin_keys_are_known_oldest_first() -> None:
    office = Office(3)
    assert office.record.admin_keys == tuple(key.public for key in office.admins)
    assert office.act(ops.OrganisationChangeKey(ADMIN.public, Role.ADMIN | Role.API), ADMIN, ADMIN_2) == Code.OK
    assert office.record.admin_keys[0] == ADMIN.public  # other roles, same age
    assert office.act(ops.OrganisationChangeKey(ADMIN.public, Role.API), ADMIN, ADMIN_2) == Code.OK
    assert office.record.admin_keys[0] == ADMIN_2.public


def test_a_sixth_admin_key_drops_the_oldest() -> None:
    office = Office(ADMIN_KEYS_MAX)
    count = office.record.key_count
    assert office.act(office.adding(NEW, Role.ADMIN), *office.admins[1:3]) == Code.OK
    assert office.record.admin_keys == (*[key.public for key in office.admins[1:]], NEW.public)
    assert office.roles(office.admins[0]) is None
    assert office.record.key_count == count


def test_with_two_admin_keys_one_admin_suffices_and_with_three_it_takes_two() -> None:
    office = Office(2)
    assert office.act(office.adding(key_of("third"), Role.ADMIN), ADMIN) == Code.OK
    assert office.act(office.adding(NEW, Role.FINANCE), ADMIN) == Code.TWO_ADMINS_REQUIRED
    assert office.roles(NEW) is None
    assert office.act(office.adding(NEW, Role.FINANCE), ADMIN, ADMIN_2) == Code.OK


def test_one_admin_authorises_and_another_executes_within_five_minutes() -> None:
    office = Office(3)
    change = office.adding(NEW, Role.FINANCE)
    assert office.act(authorising(change), ADMIN) == Code.OK
    assert office.act(change, ADMIN_2, after_ms=AUTHORISATION_MS) == Code.OK
    assert office.ledger.state.get(AUTHORISATIONS, FIRST.id.encode()) is None
    again = ops.OrganisationChangeKey(NEW.public, Role.AUDITOR)
    assert office.act(again, ADMIN_2) == Code.TWO_ADMINS_REQUIRED


def test_invalid_authorisations() -> None:
    office = Office(4)
    change = office.adding(NEW, Role.FINANCE)
    other = office.adding(NEW, Role.FINANCE | Role.API)
    assert office.act(authorising(change), FIRST.desks["finance"]) == Code.WRONG_ROLE
    assert office.act(ops.OrganisationAuthoriseKey(), ADMIN) == Code.BAD_CHANGE
    assert office.act(ops.OrganisationAuthoriseKey(b"x", 1), ADMIN) == Code.BAD_KEY
    assert office.act(authorising(change), ADMIN) == Code.OK
    assert office.act(change, ADMIN) == Code.TWO_ADMINS_REQUIRED  # the same admin twice
    assert office.act(other, ADMIN_2) == Code.TWO_ADMINS_REQUIRED  # another change
    assert office.act(change, ADMIN_2, after_ms=AUTHORISATION_MS) == Code.TWO_ADMINS_REQUIRED  # too late
    assert office.act(authorising(change), ADMIN) == Code.OK
    assert office.act(ops.OrganisationChangeKey(drop=ADMIN.public), *office.admins[1:3]) == Code.OK
    assert office.act(change, ADMIN_2) == Code.TWO_ADMINS_REQUIRED  # who authorised it is no admin any more


def test_the_last_admin_key_stays() -> None:
    office = Office()
    assert office.act(ops.OrganisationChangeKey(drop=ADMIN_2.public)) == Code.OK
    assert office.act(ops.OrganisationChangeKey(drop=ADMIN.public)) == Code.LAST_ADMIN_KEY
    assert office.act(ops.OrganisationChangeKey(ADMIN.public, Role.FINANCE)) == Code.LAST_ADMIN_KEY
    assert office.act(office.adding(NEW, Role.FINANCE, ADMIN.public)) == Code.LAST_ADMIN_KEY
    assert office.act(office.adding(NEW, Role.ADMIN, ADMIN.public)) == Code.OK
    assert office.record.admin_keys == (NEW.public,)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (ops.OrganisationChangeKey(), Code.BAD_CHANGE),
        (ops.OrganisationChangeKey(NEW.public, 1, NEW.public), Code.BAD_CHANGE),
        (ops.OrganisationChangeKey(NEW.public[:-1], 1), Code.BAD_KEY),
        (ops.OrganisationChangeKey(drop=b"x"), Code.BAD_KEY),
        (ops.OrganisationChangeKey(NEW.public, 0), Code.BAD_KEY),
        (ops.OrganisationChangeKey(NEW.public, 128), Code.BAD_KEY),
        (ops.OrganisationChangeKey(NEW.public, 1), Code.BAD_POSSESSION),
        (ops.OrganisationChangeKey(NEW.public, 1, possession=bytes(64)), Code.BAD_POSSESSION),
        (ops.OrganisationChangeKey(drop=NEW.public), Code.UNKNOWN_KEY),
        (ops.OrganisationChangeKey(drop=SECOND.desks["admin"].public), Code.UNKNOWN_KEY),
        (ops.OrganisationChangeKey(SECOND.desks["admin"].public, 1), Code.KEY_TAKEN),
        (ops.OrganisationChangeKey(SECOND.ledger_key.public, 1), Code.KEY_TAKEN),
    ],
)
def test_invalid_changes(change: ops.OrganisationChangeKey, code: int) -> None:
    office = Office()
    before = office.record
    assert office.act(change) == code
    assert office.record == before


def test_invalid_for_other_roles_and_with_another_organisations_possession() -> None:
    office = Office()
    assert office.act(office.adding(NEW, Role.ADMIN), FIRST.desks["finance"], FIRST.desks["auditor"]) == Code.WRONG_ROLE
    theirs = NEW.sign(key_possession_message(office.ledger.genesis.chain_id, SECOND.id))
    change = msgspec.structs.replace(office.adding(NEW, Role.API), possession=theirs)
    assert office.act(change) == Code.BAD_POSSESSION


def test_members_without_a_seat_keep_their_own_keys_too() -> None:
    office = Office(by=SUPERVISOR)
    assert office.act(office.adding(NEW, Role.AUDITOR)) == Code.OK
    assert office.record.kind == Kind.SUPERVISOR


def test_an_organisation_has_at_most_256_keys() -> None:
    office = Office()
    key = NEW
    while office.record.key_count < KEYS_PER_ORGANISATION_MAX:
        key = key_of("many", str(office.record.key_count))
        assert office.act(office.adding(key, Role.API)) == Code.OK
    assert office.act(office.adding(NEW, Role.API)) == Code.TOO_MANY_KEYS
    assert office.act(office.adding(NEW, Role.API, key.public)) == Code.OK
