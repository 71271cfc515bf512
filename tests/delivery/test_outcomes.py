from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.outcomes import Dead, Delivered, Reason, Retry, decide, reason_of
from relay.delivery.retry import RetryPolicy


@given(
    reason=st.sampled_from(Reason),
    retries=st.integers(0, 100),
    attempts=st.integers(1, 200),
    luck=st.floats(0, 1, exclude_max=True),
    status=st.none() | st.sampled_from([404, 410, 503]),
    terminal=st.frozensets(st.sampled_from([404, 410, 503])),
    retry_after_s=st.one_of(st.none(), st.floats(0, 1e9)),
)
def test_every_reason_has_one_outcome(
    reason: Reason,
    retries: int,
    attempts: int,
    luck: float,
    status: int | None,
    terminal: frozenset[int],
    retry_after_s: float | None,
) -> None:
    policy = RetryPolicy(max_retries=retries, terminal=terminal)
    outcome = decide(reason, policy, attempts=attempts, random=lambda: luck, status=status, retry_after_s=retry_after_s)
    match outcome:
        case Delivered():
            assert reason is Reason.OK
        case Dead(Reason.TERMINAL_STATUS):
            assert status in terminal
        case Dead(why):
            assert why is (Reason.GONE if reason is Reason.GONE else Reason.ATTEMPTS_EXHAUSTED)
            assert reason is Reason.GONE or attempts > retries
        case Retry(why, delay_s):
            assert why is reason
            assert attempts <= retries
            assert status not in terminal
            assert delay_s >= 0
        case _:
            pytest.fail(f"an attempt cannot mean {outcome}")


@given(st.integers(0, 999))
def test_delivered_is_2xx_and_nothing_else(status: int) -> None:
    assert (reason_of(status) is Reason.OK) is (200 <= status < 300)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (301, Reason.HTTP_REDIRECT),
        (400, Reason.HTTP_CLIENT_ERROR),
        (408, Reason.HTTP_CLIENT_ERROR),
        (410, Reason.GONE),
        (429, Reason.THROTTLED),
        (500, Reason.HTTP_SERVER_ERROR),
        (503, Reason.HTTP_SERVER_ERROR),
        (599, Reason.HTTP_SERVER_ERROR),
    ],
)
def test_a_status_has_its_reason(status: int, reason: Reason) -> None:
    assert reason_of(status) is reason


def test_a_410_is_final_though_retries_are_left() -> None:
    assert decide(Reason.GONE, RetryPolicy(), attempts=1, random=lambda: 0.5) == Dead(Reason.GONE)


@given(st.integers(100, 599), st.frozensets(st.integers(100, 599)), st.integers(1, 10))
def test_an_answer_is_tried_again_unless_it_is_good_gone_or_listed(
    status: int, listed: frozenset[int], attempts: int
) -> None:
    policy = RetryPolicy(max_retries=10, terminal=frozenset(code for code in listed if code // 100 != 2))
    outcome = decide(reason_of(status), policy, attempts=attempts, random=lambda: 0.5, status=status)
    if status // 100 == 2:
        assert outcome == Delivered()
    elif status == 410:
        assert outcome == Dead(Reason.GONE)
    elif status in policy.terminal:
        assert outcome == Dead(Reason.TERMINAL_STATUS)
    else:
        assert isinstance(outcome, Retry)


@pytest.mark.parametrize("status", [301, 400, 404, 408, 425, 429, 500, 502, 503, 504])
def test_a_failure_that_is_not_listed_is_tried_again(status: int) -> None:
    outcome = decide(reason_of(status), RetryPolicy(), attempts=1, random=lambda: 0.5, status=status)
    assert outcome == Retry(reason_of(status), 1.0)


@pytest.mark.parametrize(
    "reason", [Reason.DNS_FAILED, Reason.CONNECTION_REFUSED, Reason.CONNECT_TIMEOUT, Reason.RESPONSE_TIMEOUT]
)
def test_an_attempt_without_an_answer_is_tried_again(reason: Reason) -> None:
    policy = RetryPolicy(terminal=frozenset(range(300, 600)))
    assert decide(reason, policy, attempts=1, random=lambda: 0.5) == Retry(reason, 1.0)
