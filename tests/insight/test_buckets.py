from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.insight import buckets
from relay.insight.buckets import Grain, Granularity, Window, ceil, floor, pieces

NOW = datetime(2026, 3, 4, 12, 34, 56, tzinfo=UTC)  # a Wednesday
MINUTES = st.integers(0, 60 * 24 * 40).map(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n))
SIZES = {Grain.MINUTE: timedelta(minutes=1), Grain.HOUR: timedelta(hours=1), Grain.DAY: timedelta(days=1)}


@given(MINUTES, MINUTES, MINUTES, MINUTES, st.sampled_from(Grain))
def test_pieces_cover_a_window_exactly_with_whole_closed_rollups(
    since: datetime, until: datetime, hours: datetime, days: datetime, coarsest: Grain
) -> None:
    closed = {Grain.HOUR: floor(hours, Granularity.HOUR), Grain.DAY: floor(min(hours, days), Granularity.DAY)}
    found = list(pieces(Window(since, until), coarsest=coarsest, closed=closed))
    at = since
    for piece in found:
        assert piece.since == at < piece.until
        at = piece.until
        assert SIZES[piece.grain] <= SIZES[coarsest]
        assert floor(piece.since, Granularity(piece.grain)) == piece.since
        assert floor(piece.until, Granularity(piece.grain)) == piece.until
        assert piece.until <= closed.get(piece.grain, piece.until)
    assert at == max(since, until) or since >= until
    assert len(found) <= 5, "coarse in the middle, finer at both ends"


@given(MINUTES, st.sampled_from(Granularity))
def test_a_bucket_begins_at_most_its_length_before_what_is_in_it(at: datetime, granularity: Granularity) -> None:
    begins = floor(at, granularity)
    assert begins <= at < begins + granularity.step
    assert ceil(at, granularity) in {begins, begins + granularity.step}


def test_weeks_begin_on_monday_in_utc() -> None:
    east = NOW.astimezone(tz=None)
    assert floor(east, Granularity.WEEK) == datetime(2026, 3, 2, tzinfo=UTC)
    found = buckets.series(NOW - timedelta(days=8), None, Granularity.WEEK, now=NOW)
    assert buckets.starts(found, Granularity.WEEK) == [
        datetime(2026, 2, 23, tzinfo=UTC),
        datetime(2026, 3, 2, tzinfo=UTC),
    ]


def test_a_window_is_rounded_outwards_to_what_is_kept_of_then() -> None:
    until = NOW - timedelta(hours=1)
    for age, unit in ((timedelta(hours=30), Granularity.MINUTE), (timedelta(days=3), Granularity.HOUR),
                      (timedelta(days=90), Granularity.DAY)):  # fmt: skip
        found = buckets.window(NOW - age, until, now=NOW)
        assert (found.since, found.until) == (floor(NOW - age, unit), ceil(until, unit))
    found = buckets.window(None, NOW + timedelta(days=5), now=NOW)
    assert found.until - found.since == timedelta(days=1, minutes=1)


@pytest.mark.parametrize(
    ("since", "until", "field"),
    [(NOW + timedelta(1), None, "since"), (NOW, NOW - timedelta(1), "since"), (NOW - timedelta(500), None, "since")],
)
def test_a_window_without_figures_is_invalid(since: datetime, until: datetime | None, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        buckets.window(since, until, now=NOW)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("days", "granularity", "why"),
    [(1.5, Granularity.MINUTE, "2161 buckets; at most 1500"), (3, Granularity.MINUTE, "kept for 2 days"),
     (40, Granularity.HOUR, "kept for 35 days")],
)  # fmt: skip
def test_too_many_buckets_and_buckets_too_fine_are_invalid(days: float, granularity: Granularity, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        buckets.series(NOW - timedelta(days=days), None, granularity, now=NOW)
    assert refused.value.field == "granularity"
