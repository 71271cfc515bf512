"""Many observations at once, for what happens thousands of times a second."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from prometheus_client import Histogram


def observe_all(histogram: Histogram, values: Iterable[float]) -> None:
    """Observe each value in a histogram without labels: one write for each bucket and one for the sum.

    The library has no such method; what it writes for one value is written here for many.
    """
    counts, total = Counter[int](), 0.0
    for value in values:
        counts[bisect_left(histogram._upper_bounds, value)] += 1  # noqa: SLF001
        total += value
    histogram._sum.inc(total)  # noqa: SLF001
    for bucket, n in counts.items():
        histogram._buckets[bucket].inc(n)  # noqa: SLF001
