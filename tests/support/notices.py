"""What a network of validators in one thread told: by their notices, not by their insides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ledger.codes import Code
from ledger.types import Envelope
from node.turn import AcceptedNotice, AlarmNotice, CertifiedRootNotice, ExecutedNotice, Notice


class Tells(Protocol):
    """A node that keeps its notices."""

    @property
    def notices(self) -> Sequence[Notice]: ...


class Told(Protocol):
    """A cluster of such nodes."""

    @property
    def nodes(self) -> Sequence[Tells]: ...


def executed(node: Tells, envelope: Envelope) -> int | None:
    """Height at which the envelope executed with OK, as this node says."""
    for notice in node.notices:
        if isinstance(notice, ExecutedNotice):
            for receipt in notice.receipts:
                if receipt.envelope_id == envelope.id and receipt.code == Code.OK:
                    return notice.height
    return None


def proven(node: Tells, envelope: Envelope) -> bool:
    """Does the envelope's receipt stand under a certified root?"""
    height = executed(node, envelope)
    certified = [n.state_height for n in node.notices if isinstance(n, CertifiedRootNotice)]
    return height is not None and max(certified, default=0) >= height


def accepted(node: Tells, envelope: Envelope) -> bool:
    """Was its client told ACCEPTED?"""
    return any(isinstance(n, AcceptedNotice) and envelope.id in n.envelope_ids for n in node.notices)


def assert_agreement(cluster: Told) -> None:
    """Equal roots at every height any two nodes have executed; no alarms."""
    roots: dict[int, set[bytes]] = {}
    for node in cluster.nodes:
        for notice in node.notices:
            assert not isinstance(notice, AlarmNotice), notice
            if isinstance(notice, ExecutedNotice):
                roots.setdefault(notice.height, set()).add(notice.state_root)
    assert all(len(found) == 1 for found in roots.values())
