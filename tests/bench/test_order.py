"""The order of arrivals held against that of acceptance: what could not have been so is a break, all else is none."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bench.accounting import order_breaks
from bench.records import Arrivals, Sent


def _sent(requests: Sequence[tuple[int, int, Sequence[int]]]) -> Sent:
    """Events by request: when it went out, when it was answered, the numbers in it."""
    rows = [(n, sent, answered, 1) for sent, answered, numbers in requests for n in numbers]
    return Sent(*(array("q", column) for column in zip(*rows, strict=True)))


def _arrived(numbers: Sequence[int], endpoint: int = 0) -> Arrivals:
    return Arrivals(array("q", numbers), array("q", [endpoint] * len(numbers)), array("q", range(len(numbers))))


def _one_after_the_other(count: int) -> Sent:
    return _sent([(10 * n, 10 * n + 5, [n]) for n in range(count)])


@given(st.integers(2, 40), st.data())
def test_one_swapped_pair_is_one_break(count: int, data: st.DataObject) -> None:
    order = list(range(count))
    assert order_breaks(_one_after_the_other(count), _arrived(order)) == 0
    place = data.draw(st.integers(1, count - 1))
    order[place - 1], order[place] = order[place], order[place - 1]
    assert order_breaks(_one_after_the_other(count), _arrived(order)) == 1


def test_a_swap_inside_one_list_is_a_break() -> None:
    lists = _sent([(0, 5, [0, 1, 2]), (10, 15, [3, 4, 5])])
    assert order_breaks(lists, _arrived([0, 1, 2, 3, 4, 5])) == 0
    assert order_breaks(lists, _arrived([0, 2, 1, 3, 4, 5])) == 1
    assert order_breaks(lists, _arrived([0, 1, 3, 2, 4, 5])) == 1


@given(st.integers(0, 2**16))
def test_events_that_were_under_way_together_have_no_order(seed: int) -> None:
    order = list(range(8))
    random.Random(seed).shuffle(order)
    assert order_breaks(_sent([(n, 100, [n]) for n in range(8)]), _arrived(order)) == 0


def test_what_comes_again_or_to_another_endpoint_breaks_no_order() -> None:
    sent = _one_after_the_other(4)
    assert order_breaks(sent, _arrived([0, 1, 2, 1, 3, 0])) == 0
    two = _arrived([3, 1])
    two.endpoint[1] = 7
    assert order_breaks(sent, two) == 0
