"""Jobs: work that outlives a process. Their rows, and what a client may do with them; `job_runner` does their work.

Every change of state is one guarded statement, and a chunk of work locks the row, so whoever comes second waits or loses.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from relay.db import Conn
from relay.errors import Conflict, NotFound
from relay.paging import COUNT_LIMIT, NEWEST, Page, exact_count, page
from relay.queue import Hint
from relay.recovery.pacing import TICK_S, eta_s


class JobKind(StrEnum):
    """REPLAY repeats deliveries; BACKFILL sends events to an endpoint that never got them; ERASURE empties events."""

    REPLAY = "replay"
    BACKFILL = "backfill"
    ERASURE = "erasure"


class JobStatus(StrEnum):
    """WAITING: for its items to be counted. The last three are final."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now; `total` is None until its items are counted, `cursor` the last item looked at."""

    id: UUID
    tenant_id: UUID
    kind: JobKind
    status: JobStatus
    dry_run: bool
    input: dict[str, Any]
    rate_per_sec: int | None
    cursor: UUID | None
    total: int | None
    done: int
    skipped: int
    failed: int
    result: dict[str, Any] | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    #: Until when it waits to keep its rate, and how long it exists; both as of the reading, negative when past.
    wait_s: float
    age_s: float

    @property
    def eta_s(self) -> float | None:
        """Estimate the seconds until it is through; None unless it runs."""
        if self.status is not JobStatus.RUNNING or self.total is None:
            return None
        looked_at = self.done + self.skipped + self.failed
        return eta_s(total=self.total, looked_at=looked_at, elapsed_s=self.age_s, rate_per_sec=self.rate_per_sec)


_COLUMNS = sql.SQL(
    """id, tenant_id, kind, status, dry_run, input, rate_per_sec, cursor, total, done, skipped, failed, result, error,
       created_at, finished_at, extract(epoch FROM next_at - now())::float8, extract(epoch FROM now() - created_at)::float8"""
)
_SELECT = sql.SQL("SELECT ") + _COLUMNS + sql.SQL(" FROM jobs ")
_RETURNING = sql.SQL(" RETURNING ") + _COLUMNS
_OPEN = sql.SQL("status IN ('waiting', 'running')")


async def create(
    conn: Conn,
    tenant_id: UUID,
    *,
    id: UUID,
    kind: JobKind,
    input: dict[str, Any],
    rate_per_sec: int | None = None,
    result: dict[str, Any] | None = None,
) -> Job:
    """Store a job that waits for its items to be counted."""
    rows = await conn.execute(
        sql.SQL("INSERT INTO jobs (id, tenant_id, kind, input, rate_per_sec, result) VALUES (%s, %s, %s, %s, %s, %s)")
        + _RETURNING,
        (id, tenant_id, kind, Jsonb(input), rate_per_sec, None if result is None else Jsonb(result)),
    )
    return _job((await rows.fetchall())[0])


async def create_counted(
    conn: Conn, tenant_id: UUID, *, id: UUID, kind: JobKind, input: dict[str, Any], total: int, skipped: int
) -> Job:
    """Store a dry run, which is done: what it would look at, and what of that it would skip."""
    rows = await conn.execute(
        sql.SQL(
            """INSERT INTO jobs (id, tenant_id, kind, status, dry_run, input, total, skipped, finished_at)
               VALUES (%s, %s, %s, 'done', true, %s, %s, %s, now())"""
        )
        + _RETURNING,
        (id, tenant_id, kind, Jsonb(input), total, skipped),
    )
    return _job((await rows.fetchall())[0])


async def find(conn: Conn, tenant_id: UUID, id: UUID) -> Job | None:
    """Return the client's job, or None."""
    rows = await conn.execute(_SELECT + sql.SQL("WHERE tenant_id = %s AND id = %s"), (tenant_id, id))
    row = await rows.fetchone()
    return _job(row) if row else None


async def list_(conn: Conn, tenant_id: UUID, *, first: int, after: UUID | None = None) -> Page[Job]:
    """Return the client's jobs, newest first."""
    rows = await conn.execute(
        _SELECT + sql.SQL("WHERE tenant_id = %s AND id < %s ORDER BY id DESC LIMIT %s"),
        (tenant_id, after or NEWEST, first + 1),
    )
    return page([_job(row) for row in await rows.fetchall()], first=first, after=after)


async def count(conn: Conn, tenant_id: UUID) -> int | None:
    """Count the client's jobs; None above 10 000."""
    rows = await conn.execute(
        "SELECT count(*) FROM (SELECT FROM jobs WHERE tenant_id = %s LIMIT %s) x", (tenant_id, COUNT_LIMIT + 1)
    )
    return exact_count((await rows.fetchall())[0][0])


async def pause(conn: Conn, tenant_id: UUID, id: UUID) -> Job:
    """Stop a job after its current chunk. Raises NotFound, and Conflict unless it is waiting or running."""
    rows = await conn.execute(
        sql.SQL("UPDATE jobs SET status = 'paused' WHERE tenant_id = %s AND id = %s AND ") + _OPEN + _RETURNING,
        (tenant_id, id),
    )
    return await _changed(conn, tenant_id, id, await rows.fetchone())


async def resume(conn: Conn, tenant_id: UUID, id: UUID) -> Job:
    """Let a paused job go on where it stopped. Raises NotFound, and Conflict unless it is paused."""
    rows = await conn.execute(
        sql.SQL(
            """UPDATE jobs SET status = CASE WHEN total IS NULL THEN 'waiting' ELSE 'running' END, next_at = now()
               WHERE tenant_id = %s AND id = %s AND status = 'paused'"""
        )
        + _RETURNING,
        (tenant_id, id),
    )
    return await _changed(conn, tenant_id, id, await rows.fetchone())


async def cancel(conn: Conn, tenant_id: UUID, id: UUID) -> Job:
    """End a job after its current chunk; what it made stays. Raises NotFound, and Conflict when it is over."""
    rows = await conn.execute(
        sql.SQL(
            """UPDATE jobs SET status = 'cancelled', finished_at = now()
               WHERE tenant_id = %s AND id = %s AND status IN ('waiting', 'running', 'paused')"""
        )
        + _RETURNING,
        (tenant_id, id),
    )
    return await _changed(conn, tenant_id, id, await rows.fetchone())


async def _changed(conn: Conn, tenant_id: UUID, id: UUID, row: tuple[Any, ...] | None) -> Job:
    if row is not None:
        return _job(row)
    found = await find(conn, tenant_id, id)
    if found is None:
        raise NotFound("There is no job with this id.")
    raise Conflict(f"The job is {found.status.name}.")


def _job(row: tuple[Any, ...]) -> Job:
    values: list[Any] = list(row)
    values[2], values[3] = JobKind(values[2]), JobStatus(values[3])
    return Job(*values)


# ---- the runner's side ----------------------------------------------------------------------------------------------


def hint(id: UUID) -> Hint:
    """The message that lets a worker go on with a job."""
    return Hint("housekeeping", {"job": id.hex})


async def neglected(conn: Conn, *, limit: int = 100) -> list[UUID]:
    """Open jobs that somebody should be at and nobody is."""
    rows = await conn.execute(
        sql.SQL("SELECT id FROM jobs WHERE ") + _OPEN
        + sql.SQL(" AND next_at < now() - interval '1 s' ORDER BY next_at LIMIT %s"),
        (limit,),
    )  # fmt: skip
    return [row[0] async for row in rows]


async def begin(conn: Conn, id: UUID) -> Job | None:
    """Take on the counting of a waiting job for 10 s, after which others may; None when it is not to be begun."""
    rows = await conn.execute(
        sql.SQL(
            """UPDATE jobs SET next_at = now() + interval '10 s'
               WHERE id = %s AND status = 'waiting' AND next_at <= now()"""
        )
        + _RETURNING,
        (id,),
    )
    row = await rows.fetchone()
    return _job(row) if row else None


async def begin_work(conn: Conn, id: UUID, *, total: int) -> None:
    """Let a counted job run, unless it was paused or cancelled meanwhile."""
    await conn.execute(
        "UPDATE jobs SET status = 'running', total = %s, next_at = now() WHERE id = %s AND status = 'waiting'",
        (total, id),
    )


async def lock_running(conn: Conn, id: UUID) -> Job | None:
    """Lock a running job for a chunk of its work; None when it does not run, or somebody else is at it."""
    rows = await conn.execute(_SELECT + sql.SQL("WHERE id = %s AND status = 'running' FOR UPDATE SKIP LOCKED"), (id,))
    row = await rows.fetchone()
    return _job(row) if row else None


async def advance(
    conn: Conn, id: UUID, *, cursor: UUID | None, done: int, skipped: int, failed: int, pause_s: float
) -> None:
    """Note a chunk of a locked job, and that the next may follow `pause_s` seconds after this one was due."""
    await conn.execute(
        """UPDATE jobs SET cursor = %s, done = done + %s, skipped = skipped + %s, failed = failed + %s,
               next_at = greatest(next_at, now() - make_interval(secs => %s)) + make_interval(secs => %s)
           WHERE id = %s""",
        (cursor, done, skipped, failed, TICK_S, pause_s, id),
    )


async def finish(conn: Conn, id: UUID) -> Job | None:
    """End a locked job that has looked at everything; what it looked at in the end is its total."""
    rows = await conn.execute(
        sql.SQL(
            """UPDATE jobs SET status = 'done', finished_at = now(), total = done + skipped + failed
               WHERE id = %s AND status = 'running'"""
        )
        + _RETURNING,
        (id,),
    )
    row = await rows.fetchone()
    return _job(row) if row else None


async def fail(conn: Conn, id: UUID, *, error: str) -> Job | None:
    """End an open job that cannot go on, and say why; None when it is not open."""
    rows = await conn.execute(
        sql.SQL("UPDATE jobs SET status = 'failed', finished_at = now(), error = %s WHERE id = %s AND ")
        + _OPEN + _RETURNING,
        (error, id),
    )  # fmt: skip
    row = await rows.fetchone()
    return _job(row) if row else None


async def keep(conn: Conn, id: UUID, *, input: dict[str, Any], result: dict[str, Any]) -> None:
    """Note with a locked job what it came to so far, and its input as it may be kept."""
    await conn.execute("UPDATE jobs SET input = %s, result = %s WHERE id = %s", (Jsonb(input), Jsonb(result), id))
