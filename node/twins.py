"""Two processes with one identity: copies of one home, keys and all, that run at the same time.

Each node names its process in the streams it opens (``INSTANCE_KEY``: made at random at its start). A process that is
restarted never comes back; of two that run, each pushes the other's stream out and dials again. So a process that
returns after another one of its organisation shows that both run: twice within ``TOLD_S``, so that a stream which was
long on its way is not taken for it. Whoever lies here accuses itself alone.

Pure. Times are monotonic seconds, handed in.
"""

from __future__ import annotations

from collections import deque
from typing import Final

TOLD_S: Final = 60.0
"""Two processes push each other out every few seconds (``node.peers.BACKOFF_S_MAX``)."""

SIGNS: Final = 2
"""So many within ``TOLD_S`` are believed."""

PROCESSES_MAX: Final = 8
"""Remembered of one organisation."""

REPLACED: Final = "replaced by a newer stream of another process of the same node"
"""What the end of a stream is explained with where another process of its organisation opened one."""


class Signs:
    """Of one thing that happens again and again while two processes run."""

    def __init__(self) -> None:
        self._seen_s: deque[float] = deque(maxlen=SIGNS)

    def seen(self, now_s: float) -> None:
        """Once more."""
        self._seen_s.append(now_s)

    def told(self, now_s: float) -> bool:
        """Whether it is to be believed now."""
        return len(self._seen_s) == SIGNS and now_s - self._seen_s[0] < TOLD_S


class Processes:
    """Those of another organisation's node that opened streams here, as far as remembered."""

    def __init__(self) -> None:
        self._hosts: dict[str, str] = {}  #: by process; the last one opened the newest stream
        self._returns = Signs()

    def opened(self, process: str, host: str, now_s: float) -> bool:
        """A process opened a stream; whether that takes the place of another process'.

        Args:
            process: as it names itself; empty if it does not, then nothing is concluded.
        """
        newest = next(reversed(self._hosts), process)
        if not process or process == newest:
            self._hosts |= {process: host} if process else {}
            return False
        if self._hosts.pop(process, None) is not None:
            self._returns.seen(now_s)
        self._hosts[process] = host
        if len(self._hosts) > PROCESSES_MAX:
            del self._hosts[next(iter(self._hosts))]
        return True

    def twins(self, now_s: float) -> tuple[str, ...]:
        """Where the two that run call from; empty where no two do."""
        return tuple(sorted(list(self._hosts.values())[-2:])) if self._returns.told(now_s) else ()
