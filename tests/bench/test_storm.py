"""The figures of the retry storm tell an endpoint that is overrun from one that is not."""

from __future__ import annotations

from bench.storm import pace

SECOND = 10**9


def _every(gap_ms: int, count: int) -> list[int]:
    return [index * gap_ms * SECOND // 1000 for index in range(count)]


def test_an_endpoint_that_gets_what_its_limit_allows_is_at_one() -> None:
    figures = pace([_every(50, 400)], [])
    assert figures["limited_to_rate_in_1_s.max"] == figures["limited_to_rate_in_10_s.max"] == 1.0


def test_the_worst_endpoint_counts_and_a_burst_shows_in_the_short_window() -> None:
    figures = pace([_every(50, 400), _every(10, 40)], [])
    assert figures["limited_to_rate_in_1_s.max"] == 2.0
    assert figures["limited_to_rate_in_10_s.max"] == 1.0


def test_of_endpoints_without_a_limit_the_densest_second_and_the_first_moment_are_told() -> None:
    figures = pace([], [_every(20, 100), [0, 1, 2, 3 * SECOND]])
    assert figures["others_in_1_s.max"] == 50
    assert figures["others_in_first_100_ms.max"] == 5
    assert figures["limited_to_rate_in_1_s.max"] == 0.0
