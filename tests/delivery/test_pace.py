from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.outcomes import Reason
from relay.delivery.pace import Pace

MOST = st.integers(1, 1_000)


@dataclass(frozen=True)
class Answer:
    reason: Reason
    status: int
    latency_ms: float


LATENCIES = st.floats(0, 120_000)
CALM = st.builds(Answer, st.just(Reason.OK), st.integers(200, 299), LATENCIES)
TROUBLE = st.one_of(
    st.builds(Answer, st.sampled_from([Reason.RESPONSE_TIMEOUT, Reason.CONNECT_TIMEOUT]), st.just(0), LATENCIES),
    st.builds(Answer, st.just(Reason.THROTTLED), st.just(429), LATENCIES),
    st.builds(Answer, st.just(Reason.HTTP_SERVER_ERROR), st.just(503), LATENCIES),
)
OTHERS = st.one_of(
    st.builds(Answer, st.just(Reason.HTTP_SERVER_ERROR), st.just(500), LATENCIES),
    st.builds(Answer, st.just(Reason.CONNECTION_REFUSED), st.just(0), LATENCIES),
)


def learn(pace: Pace, answers: list[Answer]) -> None:
    for answer in answers:
        pace.learn(answer.reason, status=answer.status, latency_ms=answer.latency_ms)


@given(MOST, st.lists(st.one_of(CALM, TROUBLE, OTHERS), max_size=50))
def test_the_width_stays_between_one_and_the_endpoints_most(most: int, answers: list[Answer]) -> None:
    pace = Pace(most)
    assert 1 <= pace.width <= most
    for answer in answers:
        learn(pace, [answer])
        assert 1 <= pace.width <= most
        assert 0 <= pace.at_hand() <= 200


@given(MOST, st.lists(st.one_of(CALM, OTHERS), max_size=20), TROUBLE)
def test_trouble_halves_the_width(most: int, before: list[Answer], trouble: Answer) -> None:
    pace = Pace(most)
    learn(pace, before)
    width = pace.width
    learn(pace, [trouble])
    assert pace.width == max(1, width // 2)


@given(MOST, st.lists(st.one_of(CALM, TROUBLE, OTHERS), max_size=20), st.lists(CALM, min_size=10, max_size=10))
def test_ten_good_answers_bring_it_to_the_most(most: int, before: list[Answer], calm: list[Answer]) -> None:
    pace = Pace(most)
    learn(pace, [*before, *calm])
    assert pace.width == most


@given(MOST, st.lists(CALM, max_size=20), OTHERS)
def test_other_failures_leave_the_width_as_it_is(most: int, before: list[Answer], other: Answer) -> None:
    pace = Pace(most)
    learn(pace, before)
    width = pace.width
    learn(pace, [other])
    assert pace.width == width


@given(MOST, MOST, st.lists(st.one_of(CALM, TROUBLE), max_size=20))
def test_a_lowered_limit_holds_at_once(most: int, lowered: int, answers: list[Answer]) -> None:
    pace = Pace(most)
    learn(pace, answers)
    pace.limit(lowered)
    assert 1 <= pace.width <= lowered
    learn(pace, answers)
    assert 1 <= pace.width <= lowered


def test_nothing_is_kept_at_hand_for_an_endpoint_nobody_knows() -> None:
    assert Pace(20).at_hand() == 0


@given(st.floats(1_000, 120_000))
def test_little_is_kept_at_hand_for_a_slow_endpoint(latency_ms: float) -> None:
    pace = Pace(20)
    learn(pace, [Answer(Reason.OK, 200, latency_ms)] * 10)
    assert pace.at_hand() <= 5
