"""Whether a header may build on its parent: its own fields, its justification, its place under the parent.

The epoch's genesis (view 0) is the genesis of the chain, or the boundary block of the epoch before. After the epoch's
own boundary come tails: headers with view, parent and justification of their own and nothing else, which are there to
be finalized, and the boundary with them (consensus.md §9).

Three checks, because they need different things in hand: ``header_problem`` nothing but the header,
``justification_problem`` the preimage of its ``justification_digest``, ``placement_problem`` the parent's header. What
any of them finds is provable and the same for every node; clocks are no part of them (R4). Whether a block has to be
the boundary depends on the state, so the application judges that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from consensus.types import Certificate, Header, Justification, ValidatorSet, VoteKind

EMPTY_PAYLOAD_ROOT: Final = sha256(b"").digest()
"""Root over no batches (RFC 6962, 2.1)."""

CertificateProblem = Callable[[Certificate], str | None]
"""Verifies one certificate, None if genuine."""


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """What every header of the epoch has to agree with."""

    protocol_version: int
    chain_id: bytes
    validators: ValidatorSet
    genesis: Header

    def header_problem(self, header: Header) -> str | None:
        """What is wrong with the header whatever its parent is."""
        if header.version != self.protocol_version:
            return f"protocol version {header.version}, not {self.protocol_version}"
        if header.chain_id != self.chain_id:
            return "made for another chain"
        if header.epoch != self.validators.epoch:
            return "made for another epoch"
        if header.valset_hash != self.validators.hash:
            return "another validator set"
        if not 0 <= header.parent_view < header.view:
            return "parent view is not below its view"
        if not 0 <= header.state_height < header.height:
            return "state height is not below its height"
        return None

    def justification_problem(
        self, header: Header, justification: Justification, certificate_problem: CertificateProblem
    ) -> str | None:
        """What is wrong with the committed justification: evidence against whoever notarizes the header (§11)."""
        problem = self._parent_problem(header, justification.parent, certificate_problem)
        if problem:
            return problem
        count = header.view - header.parent_view - 1  # compared before anything counts up to it: views are up to 2^64
        if len(justification.nullifications) != count:
            return f"{len(justification.nullifications)} nullifications for {count} skipped views"
        skipped = range(header.parent_view + 1, header.view)
        for view, nullification in zip(skipped, justification.nullifications, strict=True):
            if nullification.kind is not VoteKind.NULLIFY or nullification.view != view:
                return f"no nullification of view {view} in its place"
            problem = certificate_problem(nullification)
            if problem:
                return f"nullification of view {view}: {problem}"
        return None

    def _parent_problem(
        self, header: Header, parent: Certificate | None, certificate_problem: CertificateProblem
    ) -> str | None:
        if header.parent_view == 0:
            if header.parent_digest != self.genesis.digest:
                return "view 0 is the genesis, and its parent is another block"
            return "the genesis has no certificate" if parent is not None else None
        if parent is None:
            return "no certificate of the parent"
        if parent.kind is VoteKind.NULLIFY:
            return "a nullification in the parent's place"
        if parent.view != header.parent_view or parent.digest != header.parent_digest:
            return "the parent's certificate is for another block"
        problem = certificate_problem(parent)
        return f"certificate of the parent: {problem}" if problem else None

    def placement_problem(
        self, header: Header, justification: Justification, parent: Header, boundary: Header | None
    ) -> str | None:
        """What is wrong with the header under this parent (whose digest it names).

        ``boundary``: the block that ends the epoch, if the parent is it or a tail after it.
        """
        certificate = justification.parent
        starts = parent.digest == self.genesis.digest
        if not starts and parent.epoch != header.epoch:
            return "the parent is of another epoch"
        if header.parent_view != (0 if starts else parent.view):
            return "the parent is of another view"
        if certificate is not None and certificate.parent_view != parent.parent_view:
            return "the parent's certificate names another grandparent"
        if boundary is not None:
            return tail_problem(header, boundary)
        if header.height != parent.height + 1:
            return f"height {header.height} on a parent of height {parent.height}"
        if header.timestamp_ms <= parent.timestamp_ms:
            return "time is not above the parent's"
        if header.state_height < parent.state_height:
            return "state height is below the parent's"
        return None


def tail_problem(header: Header, boundary: Header) -> str | None:
    """What keeps the header from being a tail of this boundary; the rules every header follows are not repeated."""
    if header.next_valset_hash:
        return "ends the epoch a second time"
    if header.payload_root != EMPTY_PAYLOAD_ROOT:
        return "lists batches after the end of the epoch"
    repeated = ("height", "timestamp_ms", "state_height", "state_root", "receipts_root", "state_scheme")
    changed = [name for name in repeated if getattr(header, name) != getattr(boundary, name)]
    return f"a tail repeats the boundary's {changed[0]}" if changed else None
