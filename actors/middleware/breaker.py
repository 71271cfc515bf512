"""The circuit breaker middleware: the one place where breaker decisions enter a worker. Without it no circuit opens."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from dramatiq import Broker, Middleware, Worker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import SkipMessage

from actors.process import Process, on_loop
from relay.db import LOST
from relay.delivery import notices
from relay.delivery.breaker import Breaker
from relay.delivery.counters import Counters
from relay.delivery.gates import Closed, Opened
from relay.delivery.live import Dispatched
from relay.errors import RelayError
from relay.redis_clients import Shares


class CircuitBreaker(Middleware):
    """Takes out of each message what a gate holds, and lets the breaker hear of outcomes and answer who may probe."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._breaker: Breaker | None = None

    @property
    def breaker(self) -> Breaker:
        """The process's breaker; there between boot and shutdown."""
        assert self._breaker is not None
        return self._breaker

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Connect the breaker to the worker that `Process` built, before the first message."""
        on_loop(self._connect())

    async def _connect(self) -> None:
        relay = self._process.relay
        connections = Shares(relay.settings.redis_pool_size).counters
        self._breaker = Breaker(relay.db, Counters(relay.settings.state_url, connections=connections))
        self._breaker.on_opened.append(self._opened)
        self._breaker.on_closed.append(self._closed)
        relay.recorder.on_recorded.append(self._breaker.hear)
        relay.taker.may_probe = self._breaker.may_probe
        relay.recorder.on_end = self._breaker.close

    def _opened(self, opened: Sequence[Opened]) -> None:
        self._process.relay.feed.hear_circuits(opened)
        self._process.relay.notifier.tell_soon(
            [notices.circuit_opened(one.tenant_id, one.endpoint_id, next_probe_at=one.next_probe_at) for one in opened]
        )

    def _closed(self, closed: Sequence[Closed]) -> None:
        self._process.relay.feed.hear_circuits(closed)
        self._process.relay.notifier.tell_soon(
            [notices.circuit_closed(one.tenant_id, one.endpoint_id) for one in closed]
        )

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Put back into their lanes those of a message's deliveries that a gate holds; skip it when none is left.

        Without Postgres the message goes on as it is: the claim takes nothing that a gate holds.
        """
        if not message.actor_name.startswith("deliver_") or not self.breaker.may_be_closed():
            return
        ids: list[str] = message.kwargs["ids"]
        fences: list[int] = message.kwargs["fences"]
        dispatched = [Dispatched(UUID(id), fence) for id, fence in zip(ids, fences, strict=True)]
        try:
            parked = on_loop(self.breaker.park(dispatched))
        except (*LOST, RelayError):
            return
        left = [one for one in dispatched if one.id not in parked]
        if not left:
            raise SkipMessage("every delivery of the message is behind a gate")
        message.kwargs["ids"] = [one.id.hex for one in left]
        message.kwargs["fences"] = [one.fence for one in left]
