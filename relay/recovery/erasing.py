"""Erasing events, a chunk at a time: what waits is cancelled, what is being sent is waited for, then all of it is emptied.

A chunk is one transaction with the job's cursor and its receipt, so that a kill -9 neither forgets nor counts twice.
Replays look at the event under a lock that this waits for, and a worker that claims an erased event sends nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.errors import UndefinedTable

from relay.db import Conn, Database
from relay.delivery.ending import end
from relay.delivery.outcomes import Cancelled, Reason
from relay.intake import outbox
from relay.recovery import jobs
from relay.recovery.emptying import empty
from relay.recovery.erase_items import EraseScope, Item, next_items, places
from relay.recovery.erase_spec import EraseSpec, kept
from relay.recovery.jobs import Job

CHUNK = 100
_LOOK = 1_000
_LOOK_TO_COUNT = 10_000
#: Between two chunks, for others to have their turn; and how long to wait for what is being sent.
_PAUSE_S = 0.05
AGAIN_S = 0.25


class DayMovedError(Exception):
    """A day went into the archive, or came back, while a chunk looked for its rows."""


MOVED = (DayMovedError, UndefinedTable)


@dataclass(frozen=True, slots=True)
class Erased:
    """What a chunk came to; `last` is None when there was nothing left. Next is what comes after `cursor`."""

    last: UUID | None
    cursor: UUID | None = None
    done: int = 0
    skipped: int = 0
    pause_s: float = _PAUSE_S


def scope_of(job: Job) -> EraseScope:
    """What a job is about."""
    return EraseScope(job.tenant_id, EraseSpec.from_json(job.input), before=job.created_at)


async def count(db: Database, scope: EraseScope) -> tuple[int, int]:
    """Count the events in a scope, and those of them that are erased already."""
    total, skipped, after = 0, 0, None
    while True:
        async with db.connection() as conn:
            found, last = await next_items(conn, scope, await places(conn), after=after, look=_LOOK_TO_COUNT)
        if last is None:
            return total, skipped
        total, skipped, after = total + len(found), skipped + sum(one.erased for one in found), last


async def erase_next(conn: Conn, job: Job) -> Erased:
    """Empty the next events of a locked job, up to the first that is being sent; note it in the job's receipt."""
    where = await places(conn)
    found, last = await next_items(conn, scope_of(job), where, after=job.cursor, look=_LOOK)
    if last is None:
        if await places(conn) != where:
            raise DayMovedError
        await jobs.keep(conn, job.id, input=kept(job.input), result=_receipt(job, [], {}))
        return Erased(None)
    chunk, cursor = (found[:CHUNK], found[CHUNK - 1].id) if len(found) > CHUNK else (found, last)
    wanted = [one for one in chunk if not one.erased]
    busy, cancelled = await _stop(conn, job.tenant_id, [one.id for one in wanted])
    ready = list(wanted)
    if busy:
        first = min(busy)
        ready = [one for one in wanted if one.id < first]
        chunk = [one for one in chunk if one.id < first]
        cursor = chunk[-1].id if chunk else job.cursor
    counts = await empty(conn, job.tenant_id, ready, where)
    if await places(conn) != where:
        raise DayMovedError
    await jobs.keep(conn, job.id, input=job.input, result=_receipt(job, ready, {**counts, "cancelled": cancelled}))
    return Erased(last, cursor, len(ready), len(chunk) - len(ready), AGAIN_S if busy else _PAUSE_S)


def _receipt(job: Job, erased: Sequence[Item], counts: dict[str, int]) -> dict[str, Any]:
    """The receipt with a chunk added. sha256: over the one before, as bytes, with the next event's id behind it."""
    before = job.result or {}
    digest = bytes.fromhex(before.get("sha256", ""))
    for one in erased:
        digest = hashlib.sha256(digest + one.id.bytes).digest()
    names = ("deliveries", "cancelled", "attempts")
    return {
        "askedBy": before.get("askedBy"),
        "events": before.get("events", 0) + len(erased),
        **{name: before.get(name, 0) + counts.get(name, 0) for name in names},
        "sha256": digest.hex(),
    }


async def _stop(conn: Conn, tenant_id: UUID, ids: Sequence[UUID]) -> tuple[set[UUID], int]:
    """Let no delivery of these events begin; return the events that are being sent, and how many were cancelled."""
    if not ids:
        return set(), 0
    await conn.execute("SELECT FROM events WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE", (list(ids),))
    unplanned = await _take_out(conn, tenant_id, ids)
    await conn.execute(
        """SELECT FROM lanes WHERE key LIKE 'fifo:%%' AND (endpoint_id, key) IN (
               SELECT endpoint_id, lane FROM live WHERE event_id = ANY(%s::uuid[])) ORDER BY endpoint_id, key FOR UPDATE""",
        (list(ids),),
    )
    rows = await conn.execute(
        """SELECT id, event_id, endpoint_id, lane, owner IS NOT NULL FROM live WHERE event_id = ANY(%s::uuid[])
           ORDER BY id FOR UPDATE""",
        (list(ids),),
    )
    found = await rows.fetchall()
    idle = [row for row in found if not row[4]]
    await end(conn, [row[0] for row in idle], Cancelled(Reason.ERASED))
    # One of them may have been the head of a lane, which would sleep until its time.
    await conn.execute(
        """UPDATE lanes l SET ready_at = least(l.ready_at, now()) FROM unnest(%s::uuid[], %s::text[]) AS u (endpoint_id, key)
           WHERE l.endpoint_id = u.endpoint_id AND l.key = u.key AND l.key LIKE 'fifo:%%'""",
        ([row[2] for row in idle], [row[3] for row in idle]),
    )
    return {row[1] for row in found if row[4]}, len(idle) + unplanned


async def _take_out(conn: Conn, tenant_id: UUID, ids: Sequence[UUID]) -> int:
    """Cancel those of the events that are not fanned out; return how many."""
    rows = await conn.execute(
        """SELECT id FROM events e WHERE id = ANY(%s::uuid[])
           AND NOT EXISTS (SELECT FROM fanouts f WHERE f.event_id = e.id)""",
        (list(ids),),
    )
    unproven = [row[0] async for row in rows]
    if not unproven:
        return 0
    shard = await outbox.wait_for_shard(conn, tenant_id)
    rows = await conn.execute(
        """WITH s AS (DELETE FROM scheduled WHERE event_id = ANY(%(ids)s::uuid[]) RETURNING event_id),
        o AS (DELETE FROM outbox WHERE shard = %(shard)s AND event_id = ANY(%(ids)s::uuid[]) RETURNING event_id),
        p AS (
            INSERT INTO fanouts (event_id, tenant_id, matched, config_version, cancelled)
            SELECT x.event_id, t.id, 0, t.config_version, true
            FROM (SELECT event_id FROM s UNION SELECT event_id FROM o) x, tenants t WHERE t.id = %(tenant)s
            RETURNING event_id)
        SELECT count(*) FROM p""",
        {"ids": unproven, "shard": shard, "tenant": tenant_id},
    )
    return (await rows.fetchall())[0][0]
