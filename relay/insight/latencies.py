"""Latencies as histograms that can be added up: pairs (bucket, attempts), and the percentiles read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Bucket b holds the latencies up to 2**(b / 4) ms, so a percentile is at most 10 % off.
STEPS = 4


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Latencies in ms that 50, 95 and 99 % of the attempts with an answer did not exceed; 0 when there were none."""

    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0


def percentiles(latencies: Sequence[tuple[int, int]]) -> Percentiles:
    """Return the usual percentiles of a histogram whose pairs are sorted."""
    return Percentiles(*(percentile(latencies, share) for share in (0.50, 0.95, 0.99)))


def percentile(latencies: Sequence[tuple[int, int]], share: float) -> float:
    """Return the latency in ms that a share (0..1) of the attempts did not exceed."""
    rank = share * sum(n for _, n in latencies)
    for bucket, n in latencies:
        rank -= n
        if rank <= 0:
            return 2.0 ** ((bucket - 0.5) / STEPS)
    return 0.0
