from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.recovery.pacing import MAX_CHUNK, TICK_S, chunk_size, eta_s, pause_s

RATES = st.integers(1, 10_000)


@given(rate=RATES)
def test_full_chunks_one_after_the_other_keep_the_rate_and_none_is_longer_than_a_second(rate: int) -> None:
    size = chunk_size(rate)
    assert 1 <= size <= MAX_CHUNK
    assert size <= max(1.0, rate * TICK_S)
    assert abs(size / pause_s(size, rate_per_sec=rate) - rate) < 1e-6 * rate
    assert pause_s(size, rate_per_sec=rate) <= 1.0


def test_without_a_rate_chunks_are_large_and_follow_at_once() -> None:
    assert chunk_size(None) == MAX_CHUNK
    assert pause_s(MAX_CHUNK, rate_per_sec=None) == 0.0


@given(
    total=st.integers(0, 10**9),
    looked_at=st.integers(0, 10**9),
    elapsed=st.floats(0, 1e6),
    rate=st.none() | RATES,
)
def test_the_estimate_is_never_negative_and_zero_at_the_end(
    total: int, looked_at: int, elapsed: float, rate: int | None
) -> None:
    eta = eta_s(total=total, looked_at=looked_at, elapsed_s=elapsed, rate_per_sec=rate)
    if eta is None:
        assert looked_at == 0
    else:
        assert eta >= 0
        assert looked_at < total or eta == 0
