"""Running jobs: each as a task of the process's event loop, a chunk at a time.

A chunk is one transaction that locks the job, makes deliveries and moves the cursor: a doubled message, a kill -9 or two
processes at one job never do an item twice. A job that nobody is at is hinted by the clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from relay.catalog import endpoints
from relay.catalog.filters import Filter, Verdict, stored_filter
from relay.chores import Chore
from relay.db import LOST, REPEATABLE, Conn, Database
from relay.delivery import notices
from relay.delivery.filtering import look_into
from relay.delivery.live import tier_of
from relay.ids import Uuid7
from relay.queue import UNREACHABLE, Queue
from relay.recovery import erasing, items, jobs, repeat
from relay.recovery.items import Candidate, Scope
from relay.recovery.jobs import Job, JobKind
from relay.recovery.pacing import chunk_size, pause_s
from relay.recovery.repeat import Repeat
from relay.recovery.replay import Final, replay
from relay.recovery.replay_spec import ReplaySpec
from relay.recovery.targets import Refusal, Target, read_payloads, targets

#: Chunks under way in this process at once: a job is to leave connections to deliveries.
_AT_ONCE = 2
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Done:
    """What a chunk came to; `last` is None when there was nothing left."""

    last: UUID | None
    done: int = 0
    skipped: int = 0
    failed: int = 0


class JobRunner:
    """Runs the jobs that this process was asked to."""

    def __init__(
        self, db: Database, queue: Queue, *, ids: Uuid7, on_waiting: Callable[[], None] = lambda: None
    ) -> None:
        """`on_waiting` is called after a commit that made deliveries wait in lanes that are due."""
        self._db = db
        self._queue = queue
        self._ids = ids
        self._on_waiting = on_waiting
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._stopping = asyncio.Event()

    def chores(self) -> list[Chore]:
        """What the clock is to do for it."""
        return [Chore(self._hint_neglected, every_s=1.0)]

    async def _hint_neglected(self) -> None:
        async with self._db.connection() as conn:
            ids = await jobs.neglected(conn)
        if ids:
            with suppress(*UNREACHABLE):
                await self._queue.enqueue([jobs.hint(id) for id in ids])

    def start(self, id: UUID) -> None:
        """Run a job in a task, unless this process is at it; returns at once."""
        if self._stopping.is_set() or id in self._tasks:
            return
        task = self._tasks[id] = asyncio.get_running_loop().create_task(self._run(id))
        task.add_done_callback(lambda _: self._tasks.pop(id))

    async def stop(self) -> None:
        """Begin no further chunk, and wait for those under way: other processes go on with the jobs."""
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _run(self, id: UUID) -> None:
        try:
            await self._count(id)
            while not self._stopping.is_set() and (wait_s := await self._chunk(id)) is not None:
                await self._pause(wait_s)
        except LOST as cause:
            _LOG.info("job %s waits for Postgres: %s", id, cause, extra={"job_id": id})
        except Exception:
            _LOG.exception("job %s cannot go on", id, extra={"job_id": id})
            await self._give_up(id)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _give_up(self, id: UUID) -> None:
        async with self._db.transaction() as conn:
            await self._tell(
                conn,
                await jobs.fail(conn, id, error="Relay met an error of its own; the worker's log holds its trace."),
            )

    async def _tell(self, conn: Conn, ended: Job | None) -> None:
        """Tell the client of a job that ended; the clock finds the notice in the outbox."""
        if ended is not None:
            notice = notices.job_done(
                ended.tenant_id,
                ended.id,
                status=ended.status.name,
                done=ended.done,
                skipped=ended.skipped,
                failed=ended.failed,
            )
            await notices.tell(conn, [notice], ids=self._ids)

    async def _count(self, id: UUID) -> None:
        """Count the items of a job that waits for it."""
        async with self._db.connection() as conn:
            job = await jobs.begin(conn, id)
            scope = await _scope(conn, job) if job and job.kind is not JobKind.ERASURE else None
        if job is not None:
            total, _ = await (count(self._db, scope) if scope else erasing.count(self._db, erasing.scope_of(job)))
            async with self._db.connection() as conn:
                await jobs.begin_work(conn, id, total=total)

    async def _chunk(self, id: UUID) -> float | None:
        """Do what is due of a job; return how many seconds to wait then, None when it is over or another's."""
        try:
            async with self._turns, self._db.transaction() as conn:
                job = await jobs.lock_running(conn, id)
                if job is None:
                    return None
                if job.wait_s > 0:
                    return job.wait_s
                made = await self._work(conn, job)
        except REPEATABLE:
            return 0.0
        except erasing.MOVED:
            return erasing.AGAIN_S
        if made:
            self._on_waiting()
        return 0.0

    async def _work(self, conn: Conn, job: Job) -> int:
        """Do a chunk of a locked job; return how many deliveries it made."""
        if job.kind is JobKind.ERASURE:
            return await self._erase(conn, job)
        scope = await _scope(conn, job)
        gone = await _refusal(conn, scope)
        if gone is not None:
            await self._tell(conn, await jobs.fail(conn, job.id, error=gone.value))
            return 0
        limit = chunk_size(job.rate_per_sec)
        if job.kind is JobKind.BACKFILL:
            what = await self._backfill(conn, job, scope, limit=limit)
        else:
            what = await self._replay(conn, job, scope, limit=limit)
        if what.last is None:
            await self._tell(conn, await jobs.finish(conn, job.id))
            return 0
        await jobs.advance(
            conn,
            job.id,
            cursor=what.last,
            done=what.done,
            skipped=what.skipped,
            failed=what.failed,
            pause_s=pause_s(what.done, rate_per_sec=job.rate_per_sec),
        )
        return what.done

    async def _erase(self, conn: Conn, job: Job) -> int:
        """Empty a chunk of events; return how many deliveries may have to go on because of it."""
        what = await erasing.erase_next(conn, job)
        if what.last is None:
            await self._tell(conn, await jobs.finish(conn, job.id))
            return 0
        await jobs.advance(
            conn, job.id, cursor=what.cursor, done=what.done, skipped=what.skipped, failed=0, pause_s=what.pause_s
        )
        return what.done

    async def _replay(self, conn: Conn, job: Job, scope: Scope, *, limit: int) -> _Done:
        chunk = await items.next_finals(conn, scope, after=job.cursor, limit=limit)
        finals: list[Final] = chunk.items
        results = (await replay(conn, job.tenant_id, finals, ids=self._ids, job_id=job.id)).values()
        settled = sum(result is Refusal.SETTLED for result in results)
        done = sum(isinstance(result, UUID) for result in results)
        return _Done(chunk.last, done=done, skipped=settled, failed=len(finals) - done - settled)

    async def _backfill(self, conn: Conn, job: Job, scope: Scope, *, limit: int) -> _Done:
        endpoint_id = scope.spec.to_endpoint_id
        assert endpoint_id is not None
        # One backfill of an endpoint at a time, so that each sees what the other made.
        await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('backfill ' || %s, 0))", (str(endpoint_id),))
        target = (await targets(conn, job.tenant_id, [endpoint_id]))[endpoint_id]
        assert isinstance(target, Target)
        chunk = await items.next_events(conn, scope, after=job.cursor, limit=limit)
        wanted = await _let_through(conn, [one for one in chunk.items if not one.served], scope.filter)
        payloads = await read_payloads(conn, (one.event_id for one in wanted if target.needs_payload()))
        new = [self._repeat(one, target, payloads.get(one.event_id, b"")) for one in wanted]
        await repeat.insert(conn, job.tenant_id, new, job_id=job.id)
        return _Done(chunk.last, done=len(new), skipped=len(chunk.items) - len(new))

    def _repeat(self, candidate: Candidate, target: Target, payload: bytes) -> Repeat:
        tier, lane = target.place(tier=tier_of(candidate.priority), payload=payload)
        return Repeat(self._ids(), candidate.event_id, target.endpoint_id, tier, lane)


async def count(db: Database, scope: Scope) -> tuple[int, int]:
    """Count the items in a scope, and those of them that are to be skipped."""
    total, skipped, after = 0, 0, None
    while True:
        async with db.connection() as conn:
            after, found, settled = await items.count_next(conn, scope, after=after)
        if after is None:
            return total, skipped
        total, skipped = total + found, skipped + settled


async def _scope(conn: Conn, job: Job) -> Scope:
    spec = ReplaySpec.from_json(job.input)
    found = await endpoints.find(conn, job.tenant_id, spec.to_endpoint_id) if spec.to_endpoint_id is not None else None
    if found is None:
        return Scope(job.tenant_id, spec, before=job.created_at)
    filter = None if found.filter is None else stored_filter(found.filter)
    return Scope(job.tenant_id, spec, before=job.created_at, patterns=found.event_types, filter=filter)


async def _let_through(conn: Conn, found: list[Candidate], filter: Filter | None) -> list[Candidate]:
    """Leave out what fan-out would have left out, too."""
    if filter is None or not found:
        return found
    seen = await look_into(conn, [one.event_id for one in found])
    return [one for one in found if one.event_id in seen and filter.verdict(seen[one.event_id]) is Verdict.PASSES]


async def _refusal(conn: Conn, scope: Scope) -> Refusal | None:
    """Why nothing can be made for the one endpoint that the job is about."""
    id = scope.spec.own_endpoint_id
    found = (await targets(conn, scope.tenant_id, [id]))[id] if id else None
    return found if isinstance(found, Refusal) else None
