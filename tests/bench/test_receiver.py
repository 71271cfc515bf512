"""The benchmark's receiver answers as a URL says, and records what counts as an arrival."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

from bench.programs import Receiver, receiving

HTTP = urllib3.PoolManager(retries=False, maxsize=4)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def post(url: str, *, timeout_s: float = 10.0) -> urllib3.BaseHTTPResponse:
    return HTTP.request("POST", url, body=b'{"n":7}', timeout=timeout_s)


def endpoints_reached(receiver: Receiver) -> list[int]:
    return list(receiver.arrivals().endpoint)


def test_an_answer_comes_after_the_time_asked_for_and_the_arrival_counts_from_its_start(receiver: Receiver) -> None:
    began = time.monotonic()
    assert post(f"{receiver.url(1)}?after_ms=200").status == 200
    assert time.monotonic() - began >= 0.19
    arrivals = receiver.arrivals()
    assert arrivals.at_ns[list(arrivals.endpoint).index(1)] < (began + 0.15) * 1e9


def test_a_refusal_has_its_retry_after_and_is_no_arrival(receiver: Receiver) -> None:
    answer = post(f"{receiver.url(2)}?status=429&retry_after_s=3")
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")
    assert post(f"{receiver.url(2)}?status=500").status == 500
    assert 2 not in endpoints_reached(receiver)


def test_a_black_hole_never_answers_and_counts_nothing(receiver: Receiver) -> None:
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        post(f"{receiver.url(3)}?never", timeout_s=0.3)
    assert 3 not in endpoints_reached(receiver)


def test_what_is_held_is_answered_when_its_name_is_released_and_at_once_from_then_on(receiver: Receiver) -> None:
    with ThreadPoolExecutor(2) as threads:
        held = [threads.submit(post, f"{receiver.url(4)}?held=gate&after_ms=1") for _ in range(2)]
        deadline = time.monotonic() + 5
        while endpoints_reached(receiver).count(4) < 2 and time.monotonic() < deadline:
            pass
        assert not any(one.done() for one in held)
        receiver.release("gate")
        assert [one.result(5).status for one in held] == [200, 200]
    assert post(f"{receiver.url(4)}?held=gate").status == 200


def test_what_goes_aside_is_answered_and_not_recorded(receiver: Receiver) -> None:
    before = receiver.count()
    assert post(f"{receiver.url_aside(5)}?after_ms=1").status == 200
    assert receiver.count() == before


def test_what_fails_is_refused_counted_and_no_arrival_until_it_is_healed(receiver: Receiver) -> None:
    url = f"{receiver.url(6)}?failing=storm"
    receiver.fail("storm")
    assert [post(url).status, post(url).status, post(receiver.url(7)).status] == [500, 500, 200]
    assert (receiver.refused("storm"), receiver.refused("another")) == (2, 0)
    receiver.heal("storm")
    assert post(url).status == 200
    assert receiver.refused("storm") == 2
    assert endpoints_reached(receiver).count(6) == 1
