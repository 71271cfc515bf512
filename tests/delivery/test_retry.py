from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.retry import DEFAULT_SCHEDULE_MS, JITTER, RetryPolicy, parse_retry_after, retry_delay_s

# What an endpoint may ask for: see relay/catalog/policies.py.
RETRIES = st.integers(0, 100)
DELAYS = st.integers(0, 604_800_000)
SCHEDULED = st.builds(RetryPolicy, max_retries=RETRIES, schedule_ms=st.lists(DELAYS, min_size=1, max_size=100))
BACKOFF = st.builds(
    RetryPolicy,
    max_retries=RETRIES,
    schedule_ms=st.none(),
    backoff_ms=st.integers(1, 604_800_000),
    backoff_mult=st.floats(1, 100),
    backoff_max_ms=st.integers(1, 604_800_000),
)
POLICIES = st.one_of(SCHEDULED, BACKOFF)
ATTEMPTS = st.integers(1, 10_000)
LUCK = st.floats(0, 1, exclude_max=True)


@given(POLICIES, ATTEMPTS, LUCK)
def test_a_delay_stays_within_the_policy_and_its_jitter(policy: RetryPolicy, attempts: int, luck: float) -> None:
    delay_s = retry_delay_s(policy, attempts=attempts, random=lambda: luck)
    if delay_s is not None:
        plain_s = policy.delay_ms(attempts) / 1000
        assert 0 <= plain_s <= policy.longest_ms() / 1000
        assert plain_s * (1 - JITTER) - 1e-6 <= delay_s <= plain_s * (1 + JITTER) + 1e-6
        assert math.isfinite(delay_s)


@given(POLICIES, ATTEMPTS, LUCK, st.none() | st.floats(0, 1e9))
def test_no_delay_is_longer_than_the_policys_longest_and_its_jitter(
    policy: RetryPolicy, attempts: int, luck: float, retry_after_s: float | None
) -> None:
    delay_s = retry_delay_s(policy, attempts=attempts, random=lambda: luck, retry_after_s=retry_after_s)
    assert delay_s is None or delay_s <= policy.longest_ms() / 1000 * (1 + JITTER) + 1e-6


@given(POLICIES, ATTEMPTS, LUCK, st.floats(0, 1e9))
def test_nothing_is_tried_earlier_than_a_retry_after_asks_up_to_the_policys_longest(
    policy: RetryPolicy, attempts: int, luck: float, retry_after_s: float
) -> None:
    delay_s = retry_delay_s(policy, attempts=attempts, random=lambda: luck, retry_after_s=retry_after_s)
    assert delay_s is None or delay_s >= min(retry_after_s, policy.longest_ms() / 1000)


@given(BACKOFF.filter(lambda policy: policy.backoff_mult >= 1.5), LUCK, LUCK)
def test_backoff_grows_whatever_the_jitter_until_it_reaches_its_longest(
    policy: RetryPolicy, one: float, two: float
) -> None:
    first = retry_delay_s(policy, attempts=1, random=lambda: one)
    second = retry_delay_s(policy, attempts=2, random=lambda: two)
    if first is not None and second is not None and policy.delay_ms(2) < policy.longest_ms():
        assert first <= second + 1e-6


@given(POLICIES, ATTEMPTS)
def test_there_is_a_next_attempt_exactly_while_retries_are_left(policy: RetryPolicy, attempts: int) -> None:
    delay_s = retry_delay_s(policy, attempts=attempts, random=lambda: 0.5)
    assert (delay_s is None) is (attempts > policy.max_retries)


@given(BACKOFF, st.integers(1, 9_999))
def test_backoff_never_shrinks(policy: RetryPolicy, attempts: int) -> None:
    assert policy.delay_ms(attempts) <= policy.delay_ms(attempts + 1)


@given(BACKOFF)
def test_backoff_begins_with_its_first_delay_and_multiplies(policy: RetryPolicy) -> None:
    first = min(policy.backoff_ms, policy.backoff_max_ms)
    assert policy.delay_ms(1) == first
    assert policy.delay_ms(2) == pytest.approx(min(policy.backoff_ms * policy.backoff_mult, policy.backoff_max_ms))


@given(SCHEDULED, ATTEMPTS)
def test_a_schedule_is_followed_and_its_last_delay_repeats(policy: RetryPolicy, attempts: int) -> None:
    assert policy.schedule_ms is not None
    expected = policy.schedule_ms[attempts - 1] if attempts <= len(policy.schedule_ms) else policy.schedule_ms[-1]
    assert policy.delay_ms(attempts) == expected


@given(POLICIES, ATTEMPTS, LUCK, st.floats(0, 1e9))
def test_a_retry_after_only_lengthens_and_never_beyond_the_policys_longest(
    policy: RetryPolicy, attempts: int, luck: float, retry_after_s: float
) -> None:
    own_s = retry_delay_s(policy, attempts=attempts, random=lambda: luck)
    obeyed_s = retry_delay_s(policy, attempts=attempts, random=lambda: luck, retry_after_s=retry_after_s)
    assert (own_s is None) is (obeyed_s is None)
    if own_s is not None and obeyed_s is not None:
        assert obeyed_s == max(own_s, min(retry_after_s, policy.longest_ms() / 1000))


def test_the_default_policy_makes_eleven_attempts_over_about_34_hours() -> None:
    policy = RetryPolicy()
    delays = [retry_delay_s(policy, attempts=n, random=lambda: 0.5) for n in range(1, 12)]
    assert delays == [*(ms / 1000 for ms in DEFAULT_SCHEDULE_MS), None]
    assert 33 < sum(DEFAULT_SCHEDULE_MS) / 3_600_000 < 35


NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def own_time_zone() -> Iterator[None]:
    yield
    time.tzset()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("Monday, 23-Nov-26 12:00:30 GMT", 30.0),
        ("Mon Nov 23 12:00:30 2026", 30.0),
        ("Mon, 23 Nov 2026 12:00:30 -0000", 30.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("Mon, 99 Foo 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms_wherever_the_machine_is(
    value: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    assert parse_retry_after(value, now_s=NOW) == seconds


@given(st.text())
def test_no_retry_after_raises(value: str) -> None:
    found = parse_retry_after(value, now_s=NOW)
    assert found is None or found >= 0
