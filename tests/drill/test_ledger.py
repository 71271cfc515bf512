"""The account of a drill: what counts as lost, repeated and out of order."""

from __future__ import annotations

import math

import pytest

from relay.drill.ledger import Break, Ledger, Repeat


class Time:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def ledger(time: Time) -> Ledger:
    return Ledger(("/a", "/o"), frozenset({"/o"}), time)


def test_an_accepted_event_is_missing_until_it_arrived_everywhere(ledger: Ledger, time: Time) -> None:
    ledger.accept(1)
    time.now = 5.0
    ledger.accept(2)
    assert (ledger.missing(), ledger.missing(accepted_before=4.0)) == (4, 2)
    ledger.arrive("/a", "0", 1)
    ledger.arrive("/o", "0", 1)
    assert (ledger.missing(), ledger.missing(accepted_before=4.0)) == (2, 0)
    assert (ledger.accepted, ledger.arrived, ledger.accepted_since(5.0)) == (2, 2, 1)


def test_what_arrives_before_its_answer_is_not_missing(ledger: Ledger) -> None:
    ledger.arrive("/a", "0", 1)
    ledger.accept(1)
    assert ledger.missing() == 1


def test_a_repeat_tells_when_it_came_first(ledger: Ledger, time: Time) -> None:
    ledger.arrive("/a", "0", 1)
    time.now = 2.0
    ledger.arrive("/a", "0", 1)
    assert ledger.repeats == [Repeat("/a", 1, 0.0, 2.0)]


def test_order_is_kept_by_lane_and_a_repeat_of_the_last_is_no_break(ledger: Ledger, time: Time) -> None:
    for lane, n in (("0", 4), ("1", 1), ("0", 8), ("0", 8), ("1", 5)):
        time.now += 1
        ledger.arrive("/o", lane, n)
        ledger.arrive("/a", lane, -n)  # here nobody asked for order
    assert ledger.breaks == []
    ledger.arrive("/o", "0", 4)
    assert ledger.breaks == [Break("/o", "0", 4, after=8)]


def test_how_long_99_percent_took_is_of_those_accepted_in_between(ledger: Ledger, time: Time) -> None:
    assert math.isnan(ledger.p99_ms(since=0.0, until=9.0))
    for n in range(100):
        time.now = 0.0
        ledger.accept(n)
        time.now = n / 1000
        ledger.arrive("/a", "0", n)
    time.now = 10.0
    ledger.accept(100)
    time.now = 20.0
    ledger.arrive("/a", "0", 100)
    assert ledger.p99_ms(since=0.0, until=9.0) == pytest.approx(98.0)
