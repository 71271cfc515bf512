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
    retry_after_s=st.one_of(st.none(), st.floats(0, 1e9)),
)
def test_every_reason_has_one_outcome(
    reason: Reason, retries: int, attempts: int, luck: float, retry_after_s: float | None
) -> None:
    policy = RetryPolicy(max_retries=retries)
    outcome = decide(reason, policy, attempts=attempts, random=lambda: luck, retry_after_s=retry_after_s)
    match outcome:
        case Delivered():
            assert reason is Reason.OK
        case Dead(why):
            assert why is (Reason.GONE if reason is Reason.GONE else Reason.ATTEMPTS_EXHAUSTED)
            assert reason is Reason.GONE or attempts > retries
        case Retry(why, delay_s):
            assert why is reason
            assert attempts <= retries
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
