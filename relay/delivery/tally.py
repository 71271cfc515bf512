"""Counts what was recorded for this process's metrics, a batch at a time: one delivery is too small to count alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from relay import metrics
from relay.delivery.record import Recorded, state_of
from relay.metrics.batches import observe_all


def tally(batch: Sequence[Recorded]) -> None:
    """Count a batch of outcomes, and the requests behind them with their times."""
    for (state, reason), n in Counter((state_of(one.outcome), one.outcome.reason.value) for one in batch).items():
        metrics.DELIVERIES.labels(state, reason).inc(n)
    attempts = [one.attempt for one in batch if one.attempt is not None]
    for reason, n in Counter(attempt.reason.value for attempt in attempts).items():
        metrics.ATTEMPTS.labels(reason).inc(n)
    observe_all(metrics.ATTEMPT_SECONDS, (attempt.total_ms / 1000 for attempt in attempts))
