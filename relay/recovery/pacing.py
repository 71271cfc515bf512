"""How fast a job goes: the size of its next chunk, and when it will be through."""

from __future__ import annotations

MAX_CHUNK = 500
#: A paced job does what falls due in this time at once, and no more than this is caught up with after a delay.
TICK_S = 0.25


def chunk_size(rate_per_sec: int | None) -> int:
    """The most items of one transaction: a quarter of a second's, 1 to 500."""
    return MAX_CHUNK if rate_per_sec is None else max(1, min(MAX_CHUNK, int(rate_per_sec * TICK_S)))


def pause_s(done: int, *, rate_per_sec: int | None) -> float:
    """How long a chunk of so many deliveries must last for the rate to be kept."""
    return 0.0 if rate_per_sec is None else done / rate_per_sec


def eta_s(*, total: int, looked_at: int, elapsed_s: float, rate_per_sec: int | None) -> float | None:
    """Seconds until a running job is through, by its rate or by what it did so far; None when nothing tells."""
    left = max(0, total - looked_at)
    if rate_per_sec is not None:
        return left / rate_per_sec
    return left * elapsed_s / looked_at if looked_at else None
