"""When a worker's consumer asks Redis for messages: as long as there may be more, and otherwise not before it is woken."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest

from relay.broker import RelayBroker, worker_broker

QUEUE = "fanout"
PREFETCH = 2


@pytest.fixture
def broker(redis_url: str) -> Iterator[RelayBroker]:
    broker = worker_broker(redis_url, pool_size=4, middleware=[])
    yield broker
    broker.close()


def enqueue(broker: RelayBroker, count: int) -> None:
    for n in range(count):
        broker.enqueue(dramatiq.Message(queue_name=QUEUE, actor_name="fan_out", args=(n,), kwargs={}, options={}))


def counting(broker: RelayBroker, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each look at Redis asks for, from now on."""
    asked: list[int] = []
    fetch = broker.do_fetch

    def counted(queue: str, room: int) -> Any:
        asked.append(room)
        return fetch(queue, room)

    monkeypatch.setattr(broker, "do_fetch", counted)
    return asked


def test_a_consumer_that_took_all_looks_again_when_woken_or_after_a_second(
    broker: RelayBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(broker, 1)
    consumer = broker.consume(QUEUE, prefetch=PREFETCH, timeout=1000)
    asked = counting(broker, monkeypatch)
    message = next(consumer)
    assert message is not None
    consumer.ack(message)
    enqueue(broker, 1)
    broker.woken[QUEUE].set()
    began = time.monotonic()
    second = next(consumer)
    assert second is not None
    assert time.monotonic() - began < 0.9
    consumer.ack(second)
    assert asked == [PREFETCH, PREFETCH]
    enqueue(broker, 1)  # and nobody wakes it
    assert next(consumer) is not None
    assert 0.9 < time.monotonic() - began < 5
    assert asked == [PREFETCH] * 3


def test_a_consumer_without_room_goes_on_as_soon_as_a_message_is_done(broker: RelayBroker) -> None:
    enqueue(broker, PREFETCH + 1)
    consumer = broker.consume(QUEUE, prefetch=PREFETCH, timeout=1000)
    taken = [next(consumer) for _ in range(PREFETCH)]
    done = threading.Timer(0.2, consumer.ack, (taken[0],))
    done.start()
    began = time.monotonic()
    while (last := next(consumer)) is None:
        pass
    assert last.args == (PREFETCH,)
    assert time.monotonic() - began < 0.9
    done.join()
