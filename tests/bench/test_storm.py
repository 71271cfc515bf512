"""The figures of the retry storm tell an endpoint that is overrun from one that is not."""

from __future__ import annotations

from bench.storm import at_once, to_limit

SECOND = 10**9


def _every(gap_ms: int, count: int) -> list[int]:
    return [index * gap_ms * SECOND // 1000 for index in range(count)]


def test_an_endpoint_that_gets_what_its_limit_allows_is_at_one() -> None:
    figures = to_limit([_every(50, 400)])
    assert figures["limited_to_rate_in_1_s.max"] == figures["limited_to_rate_in_10_s.max"] == 1.0


def test_the_worst_endpoint_counts_and_a_burst_shows_in_the_short_window() -> None:
    figures = to_limit([_every(50, 400), _every(10, 40)])
    assert figures["limited_to_rate_in_1_s.max"] == 2.0
    assert figures["limited_to_rate_in_10_s.max"] == 1.0


def test_what_comes_before_an_answer_can_have_left_is_under_way_at_once() -> None:
    figures = at_once([[0, *(SECOND + at for at in _every(1, 40))], _every(20, 100)], processes=1)
    assert figures["others_in_1_s.max"] == 50
    assert figures["others_at_once_to_width.max"] == 18 / 20
    assert figures["others_at_once_at_first_to_width.max"] == 18 / 2


def test_an_endpoint_that_gets_two_at_first_is_at_one_and_one_that_got_nothing_counts_nothing() -> None:
    slow = [0, SECOND, SECOND, SECOND + SECOND // 10]
    assert at_once([slow, [0]], processes=1)["others_at_once_at_first_to_width.max"] == 1.0
    assert set(at_once([], processes=2).values()) == {0.0}
