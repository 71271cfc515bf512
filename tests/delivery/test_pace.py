"""The width of an endpoint, played against endpoints that behave in every way there is."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

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
SCRIPTS = st.lists(st.one_of(CALM, TROUBLE, OTHERS), max_size=50)


def calm(latency_ms: float) -> Answer:
    return Answer(Reason.OK, 200, latency_ms)


@dataclass
class Endpoint:
    """Has as many requests in flight as its width allows, and answers each as it is told to."""

    pace: Pace
    now_s: float = 1_000.0
    answered: int = 0
    _begun: int = 0
    _flights: list[tuple[float, int, Answer]] = field(default_factory=list[tuple[float, int, Answer]])

    def play(self, answers: list[Answer]) -> None:
        """Give these answers, and go on until all have arrived."""
        left = iter(answers)
        while self._begin(lambda: next(left, None)):
            self._arrive()

    def play_on(self, answer: Callable[[], Answer], *, until: Callable[[], bool]) -> None:
        """Answer like this until something holds."""
        while not until():
            self._begin(answer)
            self._arrive()

    def _begin(self, answer: Callable[[], Answer | None]) -> bool:
        """Fill the width; False when nothing is in flight."""
        while len(self._flights) < self.pace.width and (given := answer()) is not None:
            self._begun += 1
            heapq.heappush(self._flights, (self.now_s + given.latency_ms / 1000, self._begun, given))
        return bool(self._flights)

    def _arrive(self) -> None:
        self.now_s, _, answer = heapq.heappop(self._flights)
        self.answered += 1
        self.pace.learn(answer.reason, status=answer.status, latency_ms=answer.latency_ms, now_s=self.now_s)


def played(most: int, answers: list[Answer]) -> Endpoint:
    endpoint = Endpoint(Pace(most))
    endpoint.play(answers)
    return endpoint


def one_by_one(endpoint: Endpoint, answers: list[Answer]) -> None:
    """Answers to requests of which each begins when the one before was answered."""
    for answer in answers:
        endpoint.now_s += answer.latency_ms / 1000
        endpoint.pace.learn(answer.reason, status=answer.status, latency_ms=answer.latency_ms, now_s=endpoint.now_s)


@given(MOST, SCRIPTS)
def test_the_width_stays_between_one_and_the_endpoints_most(most: int, script: list[Answer]) -> None:
    endpoint = Endpoint(Pace(most))
    assert 1 <= endpoint.pace.width <= most

    def within() -> bool:
        assert 1 <= endpoint.pace.width <= most
        assert 0 <= endpoint.pace.at_hand() <= 200
        return endpoint.answered >= len(script)

    left = iter(script)
    endpoint.play_on(lambda: next(left, calm(10)), until=within)


@given(MOST, SCRIPTS, TROUBLE)
def test_trouble_halves_the_width(most: int, before: list[Answer], trouble: Answer) -> None:
    endpoint = played(most, before)
    width = endpoint.pace.width
    one_by_one(endpoint, [trouble])
    assert endpoint.pace.width == max(1, width // 2)


@given(MOST, SCRIPTS, st.data())
def test_three_signals_make_it_fall_whatever_came_before(most: int, before: list[Answer], data: st.DataObject) -> None:
    endpoint = played(most, before)
    width, goods = endpoint.pace.width, [one.latency_ms for one in before if one.reason is Reason.OK]
    slow = st.builds(calm, st.floats(10 * max(goods, default=0) + 200, 2_000_000))
    widths: list[int] = []
    for signal in data.draw(st.lists(st.one_of(TROUBLE, slow) if goods else TROUBLE, min_size=3, max_size=3)):
        one_by_one(endpoint, [signal])
        widths.append(endpoint.pace.width)
    assert min(widths) < max(2, width)


def seconds_until_at_the_most(endpoint: Endpoint, latency_ms: float, *, most: int) -> float:
    """Answer at this latency until the width stays where it belongs, and tell when that began."""
    began_s, streak, at_the_most_s = endpoint.now_s, 0, endpoint.now_s

    def settled() -> bool:
        nonlocal streak, at_the_most_s
        if endpoint.pace.width < most:
            streak, at_the_most_s = 0, float("inf")
        else:
            streak, at_the_most_s = streak + 1, min(at_the_most_s, endpoint.now_s)
        return streak > 100

    endpoint.play_on(lambda: calm(latency_ms), until=settled)
    return at_the_most_s - began_s


@given(MOST, SCRIPTS, st.floats(0.5, 3_500))
def test_thirty_seconds_of_calm_bring_it_back_to_the_most(most: int, before: list[Answer], latency_ms: float) -> None:
    """At whatever latency it is calm now, a much higher one than before included."""
    assert seconds_until_at_the_most(played(most, before), latency_ms, most=most) <= 30


@given(MOST, SCRIPTS, st.floats(3_500, 120_000))
def test_eight_answers_of_calm_bring_a_very_slow_endpoint_back(
    most: int, before: list[Answer], latency_ms: float
) -> None:
    assert seconds_until_at_the_most(played(most, before), latency_ms, most=most) <= 8.001 * latency_ms / 1000


@given(st.integers(2, 1_000), st.floats(1, 500))
def test_one_slow_moment_halves_the_width_once(most: int, latency_ms: float) -> None:
    """All that was in flight then comes late, and says no more than the first of it."""
    endpoint = played(most, [calm(latency_ms)] * 20)
    endpoint.play_on(lambda: calm(latency_ms), until=lambda: endpoint.pace.width == most)
    for _ in range(most):
        endpoint.pace.learn(Reason.OK, status=200, latency_ms=10_000, now_s=endpoint.now_s)
    assert endpoint.pace.width == most // 2


@given(st.integers(0, 1_000), st.floats(1, 1_000), st.sampled_from([0.3, 0.8, 1.2]))
def test_latencies_that_only_vary_keep_the_width_high(seed: int, typical_ms: float, spread: float) -> None:
    """Most answers of such an endpoint are many times slower than its quickest."""
    chance = random.Random(seed)
    endpoint = Endpoint(Pace(20))
    widths: list[int] = []

    def enough() -> bool:
        widths.append(endpoint.pace.width)
        return len(widths) == 1_000

    endpoint.play_on(lambda: calm(typical_ms * chance.lognormvariate(0, spread)), until=enough)
    assert sum(widths) / len(widths) > 14


@given(MOST, st.lists(CALM, max_size=20), OTHERS)
def test_other_failures_leave_the_width_as_it_is(most: int, before: list[Answer], other: Answer) -> None:
    endpoint = played(most, before)
    width = endpoint.pace.width
    one_by_one(endpoint, [other])
    assert endpoint.pace.width == width


@given(MOST, MOST, st.lists(st.one_of(CALM, TROUBLE), max_size=20))
def test_a_lowered_limit_holds_at_once(most: int, lowered: int, answers: list[Answer]) -> None:
    endpoint = played(most, answers)
    endpoint.pace.limit(lowered)
    assert 1 <= endpoint.pace.width <= lowered
    endpoint.play(answers)
    assert 1 <= endpoint.pace.width <= lowered


@given(MOST, SCRIPTS, SCRIPTS)
def test_after_a_reset_nothing_is_remembered(most: int, before: list[Answer], after: list[Answer]) -> None:
    known, fresh = played(most, before), Endpoint(Pace(most))
    known.pace.reset()
    fresh.now_s = known.now_s
    for answer in after:
        one_by_one(known, [answer])
        one_by_one(fresh, [answer])
        assert (known.pace.width, known.pace.at_hand()) == (fresh.pace.width, fresh.pace.at_hand())


def test_nothing_is_kept_at_hand_for_an_endpoint_nobody_knows() -> None:
    assert Pace(20).at_hand() == 0


@given(st.floats(1_000, 120_000))
def test_little_is_kept_at_hand_for_a_slow_endpoint(latency_ms: float) -> None:
    assert played(20, [calm(latency_ms)] * 10).pace.at_hand() <= 5
