"""Every table of the committed state, ascending by prefix: what may be read, proved and shown."""

from __future__ import annotations

from typing import Any, Final

from contracts.governance.records import PROPOSALS
from contracts.organisation import AUTHORISATIONS
from contracts.records import CLAIMS, POLICIES
from ledger.epochs import EPOCHS, MEMBERSHIP
from ledger.evidence import EVIDENCE
from ledger.execution import HEADS, REPLAYS
from ledger.organisations import CARDS, KEYS, ORGANISATIONS
from ledger.parameters import PARAMETERS
from ledger.registrations import NODE_KEYS, REGISTRATIONS
from ledger.state import Table
from ledger.succession import PREDECESSORS
from ledger.view_marks import VIEW_MARKS

TABLES: Final[tuple[Table[Any], ...]] = (
    *(ORGANISATIONS, KEYS, PARAMETERS, REPLAYS, HEADS, EPOCHS, MEMBERSHIP, PREDECESSORS),
    *(CARDS, REGISTRATIONS, NODE_KEYS, PROPOSALS, AUTHORISATIONS, EVIDENCE, VIEW_MARKS),
    *(POLICIES, CLAIMS),
)
