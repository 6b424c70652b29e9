"""When views were: a mark in the state for every hour of block time, so that execution can tell how old a vote is.

A vote names its view, and a view that was skipped has no block. The first block of every hour of block time leaves its
place: whatever was signed in a view up to its own is at least as old as this block. So ages are known to the hour, from
committed records alone, which a newcomer takes over with the state.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from ledger.state import StateView, Table
from ledger.statement_types import Moment

MARK_EVERY_MS: Final = 3_600_000  #: an hour: exact enough for ages of weeks; one record and one proof's block an hour

_KEY: Final = struct.Struct(">QQ")


class ViewMark(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The first block of an hour of block time, under epoch u64 | view u64, big-endian."""

    height: int
    time_ms: int
    """Its block time."""


VIEW_MARKS: Final = Table(0x0F, ViewMark, "view-marks")


def mark_after(view: StateView, epoch: int, voted_view: int) -> ViewMark | None:
    """The earliest mark at or after a view; None where less than an hour of block time has passed since."""
    wanted = _KEY.pack(epoch, voted_view)
    return next((mark for key, mark in view.iterate(VIEW_MARKS) if key >= wanted), None)


def write_mark(view: StateView, moment: Moment, parent_time_ms: int) -> bool:
    """At the end of a block: its mark, if an hour of block time began with it; whether one did."""
    if moment.time_ms // MARK_EVERY_MS == parent_time_ms // MARK_EVERY_MS:
        return False
    view.put(VIEW_MARKS, _KEY.pack(moment.epoch, moment.view), ViewMark(moment.height, moment.time_ms))
    return True


def forget_before(view: StateView, bound: ViewMark) -> None:
    """Drop the marks older than this one."""
    for key in [key for key, mark in view.iterate(VIEW_MARKS) if mark.height < bound.height]:
        view.delete(VIEW_MARKS, key)
