"""What `relay worker` runs: the broker, its middleware in order, and the actors."""

from __future__ import annotations

import os
import sys
from uuid import UUID

import dramatiq

from actors.middleware.breaker import CircuitBreaker
from actors.middleware.retry import SafeRetries
from actors.process import Loop, Process
from relay.broker import worker_broker
from relay.delivery.lanes import Lane
from relay.delivery.live import Dispatched
from relay.processes import PAGES_LISTENER
from relay.queue import QUEUES
from relay.redis_clients import Shares
from relay.settings import SettingsError, read_settings

try:
    _settings = read_settings()
except SettingsError as error:
    sys.exit(f"{error}")

process = Process(_settings, pages_listener=os.environ.get(PAGES_LISTENER))
broker = worker_broker(
    _settings.redis_url,
    pool_size=Shares(_settings.redis_pool_size).broker,
    # The circuit breaker last: what it skips, nothing behind it may have begun.
    middleware=[SafeRetries(), Loop(), process, CircuitBreaker(process)],
)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUES["fan_out"])
async def fan_out(shards: list[int]) -> None:
    """Turn the events of these outbox shards into deliveries."""
    await process.relay.drain_outbox(shards)


async def _deliver(ids: list[str], fences: list[int], *, tier: int) -> None:
    dispatched = [Dispatched(UUID(id), fence) for id, fence in zip(ids, fences, strict=True)]
    await process.relay.deliverer.deliver(dispatched, tier=tier)


@dramatiq.actor(queue_name=QUEUES["deliver_high"])
async def deliver_high(ids: list[str], fences: list[int]) -> None:
    """Send these deliveries of priorities 1 to 3."""
    await _deliver(ids, fences, tier=0)


@dramatiq.actor(queue_name=QUEUES["deliver_normal"])
async def deliver_normal(ids: list[str], fences: list[int]) -> None:
    """Send these deliveries of priorities 4 to 7."""
    await _deliver(ids, fences, tier=1)


@dramatiq.actor(queue_name=QUEUES["deliver_low"])
async def deliver_low(ids: list[str], fences: list[int]) -> None:
    """Send these deliveries of priorities 8 to 10."""
    await _deliver(ids, fences, tier=2)


@dramatiq.actor(queue_name=QUEUES["lane"])
async def lane(endpoints: list[str], keys: list[str], fences: list[int]) -> None:
    """Hold each of these lanes until it is empty, gated, or its time is over."""
    handed_out = zip(map(UUID, endpoints), keys, fences, strict=True)
    await process.relay.holder.hold([Lane(*one) for one in handed_out])


@dramatiq.actor(queue_name=QUEUES["dead_letter"])
async def dead_letter(ids: list[str]) -> None:
    """See to what follows from these deaths."""
    await process.relay.notifier.tell_of_dead([UUID(id) for id in ids])


@dramatiq.actor(queue_name=QUEUES["housekeeping"])
async def housekeeping(job: str) -> None:
    """Go on with this job, unless somebody else is at it."""
    process.relay.jobs.start(UUID(job))
