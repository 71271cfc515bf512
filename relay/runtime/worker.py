"""What a worker process is made of: built once by its entry point, and handed down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from relay import archive, partitions, postgres, traces
from relay.catalog.secrets import Vault
from relay.clock import Clock
from relay.db import LOST, Database
from relay.delivery.addresses import guard_of
from relay.delivery.beats import BEAT_S, Beats
from relay.delivery.deliver import Deliverer
from relay.delivery.destinations import Destinations
from relay.delivery.fanout import FanOut
from relay.delivery.following import Following
from relay.delivery.holder import LaneHolder
from relay.delivery.holdings import Holdings
from relay.delivery.live import hints_for
from relay.delivery.oauth import Authorizing
from relay.delivery.recorder import Recorder
from relay.delivery.sender import Sender
from relay.delivery.taker import Taker
from relay.delivery.tally import tally
from relay.delivery.transforming import Transforming
from relay.delivery.transport import Transport
from relay.feed.publisher import Publisher
from relay.ids import PostgresTime, Uuid7
from relay.insight.leader import LeaderGauges
from relay.intake.taking_in import TakingIn
from relay.notifier import Notifier
from relay.queue import REDIS_TIMEOUT_S, UNREACHABLE, Queue
from relay.recovery.job_runner import JobRunner
from relay.redis_clients import Shares
from relay.runtime import postgres_time
from relay.runtime.hints import Hints
from relay.sandbox.pool import Sandbox
from relay.sandbox.process import Limits, answer_bytes
from relay.settings import Settings
from relay.tasks import cancel, every
from relay.upkeep import Upkeep
from relay.vitals import HEALTH_S, Vitals

if TYPE_CHECKING:
    from relay.traces.export import Traces

#: What the sender may use of SHUTDOWN_GRACE_S; the rest is for recording, giving back, and Dramatiq's own end.
_SHARE_OF_GRACE = 0.6


class Worker:
    """A worker process: fans out, sends, records, and runs the clock."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.time = PostgresTime()
        self.ids = Uuid7(self.time)
        self.holdings = Holdings()
        self.db = Database(settings, connections=settings.database_max_conns - 1, on_lost=self._distrust)
        # Of its own, so that no load can keep this process from beating.
        self._beat_db = Database(settings, connections=1, on_lost=self._distrust)
        pool_size = Shares(settings.redis_pool_size).queue
        self.queue = Queue(settings.redis_url, pool_size=pool_size, timeout_s=REDIS_TIMEOUT_S)
        self._hints = Hints(self.queue)
        self.beats = Beats(self._beat_db, self.holdings)
        self.transport = Transport(guard_of(settings), proxy=settings.egress_proxy)
        self.recorder = Recorder(
            self.db, self.holdings, on_dead=self._hints.announce_dead, on_waiting=self._hints.wake_clock
        )
        self.feed = Publisher(settings.redis_url)
        self.recorder.on_recorded.append(self.feed.hear)
        if settings.metrics_provider:
            self.recorder.on_recorded.append(tally)
        self.sandbox = Sandbox(limits=Limits(answer_bytes=answer_bytes(settings.max_payload_bytes)))
        self.sender = self._make_sender()
        self.deliverer = self._make_deliverer()
        following = Following(self.deliverer, beats=self.beats, holdings=self.holdings)
        self.recorder.next_step = following.step
        self.taker = Taker(self.db, self.deliverer, following, beats=self.beats, holdings=self.holdings)
        self.holder = self._make_holder()
        self.fanout = FanOut(
            self.db, ids=self.ids, on_waiting=self._hints.wake_clock, before_last_look=self._let_bells_ring
        )
        self.traces = self._begin_traces()
        self.notifier = Notifier(self.db, self.queue, ids=self.ids, time=self.time)
        self.jobs = JobRunner(self.db, self.queue, ids=self.ids, on_waiting=self._hints.wake_clock)
        self.clock = self._make_clock()
        self._taking_in = self._make_taking_in()
        self._vitals = Vitals(settings, self.db, self.queue, taken=lambda: self.sender.in_flight)
        self._beating: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stop_at: float | None = None

    def _begin_traces(self) -> Traces | None:
        begun = traces.begin(self.settings, service="relay-worker")
        if begun is not None:
            from relay.delivery.tracing import DeliverySpans

            self.sender.posting.spans = self.fanout.spans = DeliverySpans(begun, forwards=self.settings.traces_forward)
        return begun

    def _make_sender(self) -> Sender:
        settings, posting = self.settings, Authorizing(self.transport, self.beats)
        sender = Sender(posting, self.recorder, slots=settings.worker_concurrency, may_send=self.beats.may_send)
        sender.posting.transforming = Transforming(
            self.sandbox, guard=guard_of(settings), most_bytes=settings.max_payload_bytes
        )
        return sender

    def _make_deliverer(self) -> Deliverer:
        return Deliverer(
            self.db,
            beats=self.beats,
            holdings=self.holdings,
            destinations=Destinations(Vault.of(self.settings)),
            sender=self.sender,
            recorder=self.recorder,
        )

    def _make_holder(self) -> LaneHolder:
        return LaneHolder(
            self.db,
            self.deliverer,
            self.taker,
            self.sender,
            beats=self.beats,
            holdings=self.holdings,
            on_waiting=self._hints.wake_clock,
        )

    def _make_clock(self) -> Clock:
        days = self.settings.retention_days
        upkeep = Upkeep(self.db, retention_days=days, audit_days=self.settings.audit_retention_days)
        chores = [*self.notifier.chores(), *self.jobs.chores(), *upkeep.chores()]
        return Clock(
            self.db,
            self.queue,
            retention_days=days,
            maintain=self._maintain_partitions,
            chores=chores,
            gauges=LeaderGauges(asked=bool(self.settings.metrics_provider)),
        )

    def _make_taking_in(self) -> TakingIn:
        limit = self.settings.max_payload_bytes
        return TakingIn(self.db, leads=lambda: self.clock.leads, ring=self.queue.ring, max_payload_bytes=limit)

    async def open(self) -> None:
        """Start the pools and follow Postgres's time."""
        await self.db.open()
        await self._beat_db.open()
        self._tasks = [asyncio.create_task(postgres_time.follow(self.db, self.time))]
        await postgres_time.until_known(self.time)

    async def start(self) -> None:
        """Begin to beat and tick; while Postgres is away nothing is claimed."""
        await self.open()
        self._beating = asyncio.create_task(every(BEAT_S, self.beats.beat))
        self._tasks += [asyncio.create_task(self.clock.run()), asyncio.create_task(self._taking_in.run())]
        self._vitals.start()

    async def drain_outbox(self, shards: list[int]) -> None:
        """Fan out until these shards are empty, and hand out what may be sent at once."""
        try:
            async for dispatched in self.fanout.drain(shards):
                with suppress(*UNREACHABLE):
                    await self.queue.enqueue(hints_for(dispatched))
        except Exception:
            with suppress(*UNREACHABLE):
                await self.queue.mute(shards)
            raise

    async def _let_bells_ring(self, shards: Sequence[int]) -> None:
        with suppress(*UNREACHABLE):
            await self.queue.silence(shards)

    async def begin_stop(self) -> None:
        """Send nothing new; the grace runs from here."""
        self._stop_at = asyncio.get_running_loop().time() + self.settings.shutdown_grace_s * _SHARE_OF_GRACE
        await cancel(self._tasks)
        self.sender.stop()

    async def stop(self) -> None:
        """Finish what is being sent, within the grace, record it, and give the rest back."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._stop_at):
                await self.jobs.stop()
                await self.holder.stop()
                await self.sender.wait_until_idle()
        await self.sandbox.close()
        with suppress(TimeoutError, *LOST):
            async with asyncio.timeout(HEALTH_S):
                await self.recorder.end()
                await self._stop_beating()
                await self.beats.end()
        await self._stop_beating()
        await self._vitals.stop()
        await self.feed.close()
        await self.transport.close()
        await self.queue.close()
        await self._beat_db.close()
        await self.db.close()
        if self.traces is not None:
            await self.traces.end()

    async def _stop_beating(self) -> None:
        """Before the number goes: a beat without it would take a new one."""
        await cancel([self._beating] if self._beating else [])

    def _distrust(self) -> None:
        self.beats.distrust()

    def _maintain_partitions(self) -> None:
        with postgres.connect(self.settings.database_url) as conn:
            partitions.ensure(conn)
            put_away = archive.move if self.settings.retention_archive else partitions.drop
            partitions.retire(conn, keep_days=self.settings.retention_days, put_away=put_away)
            archive.put_back(conn)
