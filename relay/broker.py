"""The workers' side of the queues: Dramatiq's Redis broker, woken instead of polling, and safe against what was lost."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import redis
from dramatiq import Broker, Message, Middleware, Worker
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from redis.client import PubSub

from relay.queue import CLOCK, NAMESPACE, QUEUES, UNREACHABLE, WAKE_CHANNEL
from relay.redis_clients import Limits, client

_LOOK_S = 1.0
_HEARTBEAT_TIMEOUT_MS = 90_000
_HEARTBEAT_S = 5.0
_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2.0
#: As long as nothing rings, this often the bell is asked whether it still hangs there.
_QUIET_S = 2.0
_LOG = logging.getLogger(__name__)


def worker_broker(redis_url: str, *, pool_size: int, middleware: list[Middleware]) -> RelayBroker:
    """The broker of a worker process; the middleware list is complete, nothing is added to it but wake-up and heartbeat."""
    broker = RelayBroker(
        client=_client(redis_url, connections=pool_size),
        middleware=[Wake(redis_url), Heartbeat(), *middleware],
        namespace=NAMESPACE,
        heartbeat_timeout=_HEARTBEAT_TIMEOUT_MS,
        maintenance_chance=20_000,
        dead_message_ttl=86_400_000,
    )
    for queue in QUEUES.values():
        broker.declare_queue(queue)
    return broker


def _client(redis_url: str, *, connections: int, decode_responses: bool = False) -> redis.Redis:
    limits = Limits(connections, timeout_s=_TIMEOUT_S, connect_timeout_s=_CONNECT_TIMEOUT_S)
    return client(redis_url, limits, decode_responses=decode_responses)


class RelayBroker(RedisBroker):
    """Dramatiq's Redis broker whose consumers wait to be woken instead of polling. Same keys, same scripts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.woken: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self.held: defaultdict[str, set[str]] = defaultdict(set)
        self.on_clock: Callable[[], object] = lambda: None

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        """Consumers that wait for `woken`, and look by themselves once a second."""
        return _WokenConsumer


class _WokenConsumer(_RedisConsumer):
    """Fetches when woken, and as long as there may be more than it took.

    What Redis thinks this process holds and it does not, a new consumer gives back. Stock consumers lose such messages
    for the life of the process when a fetch's answer is lost (dramatiq issue 527), and take a time-out for a bug instead
    of a lost connection (issue 894).
    """

    broker: RelayBroker

    def __init__(self, broker: RelayBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)
        self._held = broker.held[queue_name]
        self._may_be_more = True
        if queue_name.endswith(".DQ"):
            self._held.clear()
        try:
            self._give_back_orphans()
        except UNREACHABLE as cause:
            raise ConnectionClosed(cause) from None

    def _give_back_orphans(self) -> None:
        key = f"{self.broker.namespace}:__acks__.{self.broker.broker_id}.{self.queue_name}"
        acks: set[bytes] = self.broker.client.smembers(key)  # pyright: ignore[reportAssignmentType]
        orphans = [id for id in (ack.decode() for ack in acks) if id not in self._held]
        if orphans:
            self.broker.do_requeue(self.queue_name, *orphans)

    def __next__(self) -> Any:
        woken = self.broker.woken[self.queue_name]
        try:
            if not self.message_cache:
                if not self._may_be_more:
                    woken.wait(_LOOK_S)
                self._fetch(woken)
                if not self.message_cache:
                    return None
            message = super().__next__()
        except redis.TimeoutError as cause:
            raise ConnectionClosed(cause) from None
        except redis.ConnectionError as cause:
            raise ConnectionClosed(cause) from None
        if message is not None:
            self._held.add(message.options["redis_message_id"])
        return message

    def _fetch(self, woken: threading.Event) -> None:
        """Fill the cache. Before it looks for room it says that there may be more, so that whoever makes room wakes it."""
        self._may_be_more = True
        woken.clear()
        room = self.prefetch - self.outstanding_message_count
        if room <= 0:
            woken.wait(_LOOK_S)
            return
        self.message_cache = self.broker.do_fetch(self.queue_name, room)
        self._may_be_more = len(self.message_cache) == room

    def ack(self, message: Any) -> None:
        try:
            super().ack(message)
        except redis.TimeoutError as cause:
            raise ConnectionClosed(cause) from None
        self._release(message)

    def nack(self, message: Any) -> None:
        try:
            super().nack(message)
        except redis.TimeoutError as cause:
            raise ConnectionClosed(cause) from None
        self._release(message)

    def requeue(self, messages: Any) -> None:
        messages = list(messages)
        try:
            super().requeue(messages)
        except UNREACHABLE as cause:
            raise ConnectionClosed(cause) from None
        for message in messages:
            self._held.discard(message.options["redis_message_id"])

    def close(self) -> None:
        cached = [Message.decode(data) for data in self.message_cache if data]
        self.message_cache = []
        self.requeue(cached)

    def _release(self, message: Any) -> None:
        self._held.discard(message.options["redis_message_id"])
        if self._may_be_more:
            self.broker.woken[self.queue_name].set()


class Wake(Middleware):
    """One thread a process that hears of each enqueue and wakes the queue's consumer, or the clock."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._stopped = threading.Event()
        self._broker: RelayBroker | None = None
        self._heard = False

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start to listen."""
        assert isinstance(broker, RelayBroker)
        self._broker = broker
        threading.Thread(target=self._run, daemon=True, name="wake").start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Stop to listen, and let every consumer see that it is over."""
        self._stopped.set()
        assert isinstance(broker, RelayBroker)
        for woken in list(broker.woken.values()):
            woken.set()

    def _run(self) -> None:
        assert self._broker is not None
        while not self._stopped.is_set():
            try:
                self._listen(self._broker)
            except UNREACHABLE as cause:
                if self._heard:
                    _LOG.warning("Redis is away, work goes on when it is back: %s", cause)
                self._heard = False
                self._stopped.wait(0.2)

    def _listen(self, broker: RelayBroker) -> None:
        with (
            _client(self._redis_url, connections=1, decode_responses=True) as connected,
            connected.pubsub() as bell,
        ):
            bell.subscribe(WAKE_CHANNEL)
            if not self._heard:
                _LOG.info("Redis is there")
            self._heard = True
            for woken in list(broker.woken.values()):
                woken.set()
            asked = False
            while not self._stopped.is_set():
                message = bell.get_message(timeout=_QUIET_S)
                if message is None:
                    _ask(bell, asked=asked)
                elif message["type"] == "message":
                    _wake(broker, str(message["data"]))
                asked = message is None


def _ask(bell: PubSub, *, asked: bool) -> None:
    """A server that vanished without a word, as in a failover, would never ring again: it has to answer."""
    if asked:
        raise redis.TimeoutError("no answer")
    bell.ping()


def _wake(broker: RelayBroker, who: str) -> None:
    if who == CLOCK:
        broker.on_clock()
    else:
        broker.woken[who].set()


class Heartbeat(Middleware):
    """Beats from a thread of its own, so that a process whose consumers are all full is not taken for dead."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start to beat."""
        assert isinstance(broker, RelayBroker)
        threading.Thread(target=self._run, args=(broker,), daemon=True, name="heartbeat").start()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Stop."""
        self._stopped.set()

    def _run(self, broker: RelayBroker) -> None:
        while not self._stopped.wait(_HEARTBEAT_S):
            try:
                broker.client.zadd(f"{broker.namespace}:__heartbeats__", {broker.broker_id: int(time.time() * 1000)})
            except UNREACHABLE as cause:
                _LOG.debug("no heartbeat to Redis: %s", cause)
