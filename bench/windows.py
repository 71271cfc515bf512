"""What a series of arrivals looks like through a window: how many came in its fullest and its emptiest position."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

_NS = 1_000_000_000


def densest(ordered_ns: Sequence[int], *, window_s: float) -> int:
    """The most arrivals within any `window_s` seconds."""
    width = int(window_s * _NS)
    return max((bisect_left(ordered_ns, at + width) - index for index, at in enumerate(ordered_ns)), default=0)


def sparsest(ordered_ns: Sequence[int], *, window_s: float) -> int:
    """The fewest arrivals within any `window_s` seconds that lie between the first and the last; 0 where none do."""
    width = int(window_s * _NS)
    inside = [at for at in ordered_ns if at + width <= ordered_ns[-1]]
    return min((bisect_right(ordered_ns, at + width) - bisect_right(ordered_ns, at) for at in inside), default=0)


def per_s(ordered_ns: Sequence[int]) -> float:
    """Arrivals a second from the first to the last; 0 of fewer than two."""
    if len(ordered_ns) < 2:
        return 0.0
    return (len(ordered_ns) - 1) * _NS / max(ordered_ns[-1] - ordered_ns[0], 1)
