"""Ids only grow within a process, whatever the clock does; fences are random and fit a bigint."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Unavailable
from relay.ids import PostgresTime, Uuid7, fence, floor_at, unix_time

times = st.lists(st.floats(min_value=0, max_value=4e9), min_size=1, max_size=50)


def _clock(moments: list[float]) -> Uuid7:
    rest: Iterator[float] = iter(moments)
    return Uuid7(now=lambda: next(rest))


@given(times)
def test_ids_grow_strictly_though_the_clock_goes_back(moments: list[float]) -> None:
    new_id = _clock(moments)
    made = [new_id() for _ in moments]
    assert made == sorted(set(made))


@given(times)
def test_every_id_is_a_version_7_uuid(moments: list[float]) -> None:
    new_id = _clock(moments)
    for _ in moments:
        made = new_id()
        assert made.version == 7
        assert made.variant == "specified in RFC 4122"


@given(st.floats(min_value=1, max_value=4e9))
def test_an_id_tells_its_moment_to_the_millisecond(moment: float) -> None:
    assert 0 <= moment - unix_time(_clock([moment])()) < 0.001


@given(st.floats(min_value=1, max_value=4e9))
def test_the_floor_of_a_moment_is_not_above_any_id_of_it(moment: float) -> None:
    assert floor_at(moment) <= _clock([moment])()


def test_ten_thousand_ids_of_one_millisecond_are_different_and_sorted() -> None:
    moment = time.time()
    new_id = Uuid7(now=lambda: moment)
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_fences_are_positive_bigints_and_do_not_repeat() -> None:
    made = {fence() for _ in range(10_000)}
    assert len(made) == 10_000
    assert all(0 <= one < 1 << 62 for one in made)


def test_before_postgres_has_told_its_time_there_is_none_and_no_id_spoils_those_that_follow() -> None:
    postgres_time = PostgresTime()
    new_id = Uuid7(postgres_time)
    with pytest.raises(Unavailable, match="not told its time"):
        new_id()
    postgres_time.measured(1_000_000.0, at=time.monotonic())
    assert unix_time(new_id()) == pytest.approx(1_000_000.0, abs=5)


def test_a_clock_that_is_set_anew_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres_time = PostgresTime()
    postgres_time.measured(1_000_000.0, at=time.monotonic())
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert postgres_time() == pytest.approx(1_000_000.0, abs=5)
