"""How many requests an endpoint gets at once: begins small, doubles on success, halves when the endpoint struggles."""

from __future__ import annotations

from relay.delivery.outcomes import Reason

_FIRST = 2
_TIMEOUTS = frozenset({Reason.RESPONSE_TIMEOUT, Reason.CONNECT_TIMEOUT})
_ASK_FOR_LESS = frozenset({429, 503})
_AT_HAND_S = 0.25
_AT_HAND_MAX = 200
_SMOOTHING = 0.2


class Pace:
    """The width of one endpoint in one process; a plain decision, no clock and no I/O."""

    def __init__(self, max_concurrency: int) -> None:
        self._max = max_concurrency
        self.width = min(_FIRST, max_concurrency)
        self._latency_ms: float | None = None

    def limit(self, max_concurrency: int) -> None:
        """Take over the endpoint's present `maxConcurrency`."""
        self._max = max_concurrency
        self.width = min(self.width, max_concurrency)

    def learn(self, reason: Reason, *, status: int, latency_ms: float) -> None:
        """Take in how an attempt ended (`status` 0: no answer) and how long it took."""
        if reason in _TIMEOUTS or status in _ASK_FOR_LESS:
            self.width = max(1, self.width // 2)
            return
        if reason is Reason.OK:
            self.width = min(self._max, self.width * 2)
        if self._latency_ms is None:
            self._latency_ms = latency_ms
        self._latency_ms += _SMOOTHING * (latency_ms - self._latency_ms)

    def reset(self) -> None:
        """Begin anew."""
        self.width = min(_FIRST, self._max)

    def per_s(self) -> float:
        """How many deliveries a second the endpoint takes at this width, as far as is known."""
        return self.width * 1000 / max(self._latency_ms or 1000.0, 1.0)

    def at_hand(self) -> int:
        """How many more to keep claimed: what the endpoint answers in a quarter of a second; 0 while nothing is known."""
        if self._latency_ms is None:
            return 0
        return min(_AT_HAND_MAX, int(self.width * _AT_HAND_S * 1000 / max(self._latency_ms, 1.0)))
