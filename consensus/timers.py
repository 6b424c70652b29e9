"""When the current view has lasted too long, and how long a silent leader is waited for (R1, R7, R12)."""

from __future__ import annotations

from consensus.config import Config

STREAK_MAX = 64
"""Nullified views looked back for the back-off; the cap is reached long before."""


class Pacemaker:
    """Timers of the current view. They run only while armed: there is work, or the view was touched (R12)."""

    def __init__(self, config: Config, now_ms: int) -> None:
        self._config = config
        self._certification_ms = config.certification_ms
        self._leader_ms = config.leader_ms
        self.entered_ms = now_ms
        self.armed_ms: int | None = None  #: since when
        self.expired = False  #: R7 holds in this view
        self.leader_seen = False  #: its proposal came: only the certification timer runs on
        self.retry_at_ms: int | None = None

    def back_off(self, streak: int) -> None:
        """``streak`` nullified views lie between the floor and the current view."""
        self._leader_ms = self._backed_off(self._config.leader_ms, streak)
        self._certification_ms = self._backed_off(self._config.certification_ms, streak)

    def enter(self, now_ms: int, streak: int) -> None:
        """R1: a new view."""
        self.back_off(streak)
        self.entered_ms = now_ms
        self.armed_ms = None
        self.expired = False
        self.leader_seen = False
        self.retry_at_ms = None

    def _backed_off(self, timeout_ms: int, streak: int) -> int:
        """Half as long again for each nullified view, capped."""
        for _ in range(min(streak, STREAK_MAX)):
            timeout_ms = timeout_ms * 3 // 2
            if timeout_ms >= self._config.timeout_ms_max:
                return self._config.timeout_ms_max
        return timeout_ms

    @property
    def certification_ms(self) -> int:
        """How long the current view may take, back-off included."""
        return self._certification_ms

    def arm(self, wanted: bool, now_ms: int) -> None:
        """Start the timers from now, or stop them; those that run already run on."""
        if wanted and self.armed_ms is None:
            self.armed_ms = now_ms
        elif not wanted:
            self.armed_ms = None

    def rest(self) -> None:
        """Nothing is waited for any more."""
        self.armed_ms = self.retry_at_ms = None
        self.expired = False

    @property
    def _expires_ms(self) -> int | None:
        if self.armed_ms is None or self.expired:
            return None
        return self.armed_ms + (self._certification_ms if self.leader_seen else self._leader_ms)

    def due(self, now_ms: int) -> bool:
        """Whether a timer has run out that has not been acted upon."""
        return self._expires_ms is not None and now_ms >= self._expires_ms

    def expire(self, now_ms: int) -> None:
        """The view is given up; from now on retries."""
        if not self.expired:
            self.expired = True
            self.retry_at_ms = now_ms + self._config.retry_ms

    def retry_due(self, now_ms: int) -> bool:
        """Whether to send again; counts the next interval from now."""
        if self.retry_at_ms is None or now_ms < self.retry_at_ms:
            return False
        self.retry_at_ms = now_ms + self._config.retry_ms
        return True

    @property
    def deadline_ms(self) -> int | None:
        """When something here is due next."""
        return self.retry_at_ms if self.expired else self._expires_ms


class Activity:
    """Who was heard of, in *busy time*: a clock that runs only while the timers are armed.

    Idle silence must never skip a leader (R12), and a leader that is dead must be skipped although most of the
    network's life is idle. Both follow when silence is counted in busy time.
    """

    def __init__(self, config: Config, n: int, own_index: int | None, now_ms: int) -> None:
        self._skip_ms = config.skip_ms
        self._own_index = own_index
        self._now_ms = now_ms
        self._busy_ms = 0
        self._heard_ms = [0] * n

    def advance(self, now_ms: int, busy: bool) -> None:
        """Time has passed; ``busy`` says whether the timers ran."""
        if busy:
            self._busy_ms += now_ms - self._now_ms
        self._now_ms = now_ms

    def heard(self, index: int) -> None:
        """An authenticated message of this validator came."""
        if 0 <= index < len(self._heard_ms):
            self._heard_ms[index] = self._busy_ms

    def silent(self) -> tuple[int, ...]:
        """Validators not heard of for ``skip_ms`` of busy time, ascending."""
        return tuple(
            index
            for index, heard_ms in enumerate(self._heard_ms)
            if index != self._own_index and self._busy_ms - heard_ms > self._skip_ms
        )

    def skip(self, leader: int, quorum: int) -> bool:
        """R1: whether not to wait for this leader. Fails open: without an active quorum the fault may be here."""
        silent = self.silent()
        return leader in silent and len(self._heard_ms) - len(silent) >= quorum


class Budget:
    """How many helpful answers each peer gets per interval: an answer is larger than what asks for it (R11)."""

    def __init__(self, per_interval: int, interval_ms: int) -> None:
        self._per_interval = per_interval
        self._interval_ms = interval_ms
        self._since_ms: dict[int, int] = {}
        self._used: dict[int, int] = {}

    def take(self, peer: int, now_ms: int) -> bool:
        """Whether one more answer is within the peer's budget."""
        since_ms = self._since_ms.get(peer)
        if since_ms is None or now_ms - since_ms >= self._interval_ms:
            self._since_ms[peer] = now_ms
            self._used[peer] = 0
        self._used[peer] += 1
        return self._used[peer] <= self._per_interval
