"""How many requests an endpoint gets at once: begins small, doubles on success, halves when the endpoint struggles.

It struggles when it does not answer in time, when it asks for less, and when it answers far more slowly than it used to.
What it used to do is a moving mean and no minimum: the minimum of an endpoint whose answers vary is always far below.
"""

from __future__ import annotations

from relay.delivery.outcomes import Reason

_FIRST = 2
_TIMEOUTS = frozenset({Reason.RESPONSE_TIMEOUT, Reason.CONNECT_TIMEOUT})
_ASK_FOR_LESS = frozenset({429, 503})
_AT_HAND_S = 0.25
_AT_HAND_MAX = 200
_SMOOTHING = 0.3
#: A latency that stays becomes the usual one in this time, and in a few answers where those are rare.
_USUAL_OF_S = 10.0
_USUAL_BY_ONE = 0.25
#: Slow is this much of the usual, and some ms, which an endpoint does not owe to its load.
_SLOW = 2.0
_SLOW_MS = 50.0


class Pace:
    """The width of one endpoint in one process; a plain decision, no clock and no I/O."""

    __slots__ = ("_halved_at", "_latency_ms", "_learnt_at", "_max", "_usual_ms", "width")

    def __init__(self, max_concurrency: int) -> None:
        self._max = max_concurrency
        self.reset()

    def reset(self) -> None:
        """Begin again as with an endpoint that nobody knows."""
        self.width = min(_FIRST, self._max)
        self._latency_ms: float | None = None
        self._usual_ms = 0.0
        self._learnt_at = 0.0
        self._halved_at = float("-inf")

    def limit(self, max_concurrency: int) -> None:
        """Take over the endpoint's present `maxConcurrency`."""
        self._max = max_concurrency
        self.width = min(self.width, max_concurrency)

    def learn(self, reason: Reason, *, status: int, latency_ms: float, now_s: float) -> None:
        """Take in how an attempt ended (`status` 0: no answer) at `now_s` of a monotonic clock, and how long it took."""
        if reason is Reason.OK:
            if not self._is_slow(latency_ms, now_s):
                self.width = min(self._max, self.width * 2)
            elif now_s - latency_ms / 1000 >= self._halved_at:  # begun earlier, it was sent at the width before
                self._halve(now_s)
        elif reason in _TIMEOUTS or status in _ASK_FOR_LESS:
            self._halve(now_s)

    def per_s(self) -> float:
        """How many deliveries a second the endpoint takes at this width, as far as is known."""
        return self.width * 1000 / max(self._latency_ms or 1000.0, 1.0)

    def at_hand(self) -> int:
        """How many more to keep claimed: what the endpoint answers in a quarter of a second; 0 while nothing is known."""
        if self._latency_ms is None:
            return 0
        return min(_AT_HAND_MAX, int(self.width * _AT_HAND_S * 1000 / max(self._latency_ms, 1.0)))

    def _halve(self, now_s: float) -> None:
        self.width = max(1, self.width // 2)
        self._halved_at = now_s

    def _is_slow(self, latency_ms: float, now_s: float) -> bool:
        """Take in the latency of a good answer; True when it and those just before it are far above the usual."""
        since_s, self._learnt_at = now_s - self._learnt_at, now_s
        if self._latency_ms is None:
            self._latency_ms = self._usual_ms = latency_ms
            return False
        self._latency_ms += _SMOOTHING * (latency_ms - self._latency_ms)
        limit_ms = _SLOW * self._usual_ms + _SLOW_MS
        self._usual_ms += min(_USUAL_BY_ONE, since_s / _USUAL_OF_S) * (latency_ms - self._usual_ms)
        return latency_ms > limit_ms and self._latency_ms > limit_ms
