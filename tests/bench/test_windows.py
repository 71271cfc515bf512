"""Windows over arrivals, held against counting by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.windows import densest, per_s, sparsest

S = 1_000_000_000
TIMES = st.lists(st.integers(0, 60), min_size=1, max_size=80).map(lambda seconds: sorted(one * S for one in seconds))


@given(TIMES, st.integers(1, 20))
def test_the_fullest_window_is_the_fullest(times: list[int], window_s: int) -> None:
    every = [sum(start <= at < start + window_s * S for at in times) for start in range(0, 61 * S, S)]
    assert densest(times, window_s=window_s) == max(every)


@given(TIMES, st.integers(1, 20))
def test_the_emptiest_window_is_the_emptiest_that_lies_between_first_and_last(times: list[int], window_s: int) -> None:
    starts = range(times[0], times[-1] - window_s * S + 1, S)
    least = min((sum(start < at <= start + window_s * S for at in times) for start in starts), default=0)
    assert sparsest(times, window_s=window_s) == least


def test_a_steady_series_has_its_rate_in_every_window() -> None:
    steady = [n * S // 50 for n in range(2_000)]
    assert (densest(steady, window_s=10), sparsest(steady, window_s=10)) == (500, 500)
    assert densest(steady, window_s=1) == 50
    assert per_s(steady) == 50.0


def test_a_burst_and_a_pause_are_seen() -> None:
    times = [0] * 5 + [1] * 70 + [30 * S, 31 * S]
    assert densest(times, window_s=1) == 75
    assert sparsest(times, window_s=10) == 0


def test_of_nothing_and_of_one_there_is_no_rate() -> None:
    assert (densest([], window_s=1), sparsest([], window_s=1), per_s([]), per_s([1])) == (0, 0, 0.0, 0.0)
