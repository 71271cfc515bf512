"""The ledger's walk: chunk by chunk in the order of ids, each check of a chunk one statement, and so one snapshot.

What moves while the ledger is read is therefore never an offender: whoever moves a record does it in one transaction. A
statement is to take less than a second, whatever the size of the tables; sizes of chunks adapt to that.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from relay.db import Conn, Database
from relay.delivery import lanes
from relay.delivery.deliveries import ID_SLACK_S
from relay.ids import floor_at, unix_time
from relay.settings import Settings
from relay.verify import deliveries, events, jobs, moving
from relay.verify.findings import Check, Chunk, Found
from relay.verify.kept import whole_since

STATEMENT_S = 0.5
_FIRST_SIZE = 1_000
_SIZES = (100, 20_000)
_LANES = 1_000


@dataclass(frozen=True, slots=True)
class _Walk:
    """A table to go through: where its next chunk ends, and what is compared in it."""

    bound: Callable[[Conn, Chunk, int], Awaitable[UUID]]
    checks: tuple[Callable[[Conn, Chunk], Awaitable[Found]], ...]


_EVENTS = _Walk(events.bound, (events.placed, events.matched))
_DELIVERIES = _Walk(deliveries.bound, (deliveries.delivered, deliveries.dead, deliveries.attempted))
_LETTERS = _Walk(deliveries.letter_bound, (deliveries.letters,))


async def sweep(
    db: Database, *, since: datetime, keep_days: int, statement_s: float = STATEMENT_S
) -> AsyncIterator[Found]:
    """Compare what was accepted and made since then, and all that is under way; yield what each statement found.

    No connection is held between two of them. Nothing older than RETENTION_DAYS is compared, for parts of it may be gone;
    nor is anything up to the last day that was archived.
    `statement_s`: what a statement is to take.
    """
    now = datetime.now(UTC)
    async with db.connection() as conn:
        whole = await whole_since(conn, now=now)
    kept = max(now - timedelta(days=keep_days), whole + timedelta(seconds=ID_SLACK_S))
    since = max(since, kept)
    compared = Chunk(floor_at(since.timestamp()), floor_at(now.timestamp() + ID_SLACK_S))
    for check in (moving.owned, moving.unclaimed, events.set_aside):
        async with db.connection() as conn:
            found = await check(conn)
        yield found
    async for found in _sleeping(db):
        yield found
    for walk in (_EVENTS, _DELIVERIES, _LETTERS):
        async for found in _walk(db, walk, compared, statement_s=statement_s):
            yield found
    async for found in _jobs(db, since=since, kept=kept, statement_s=statement_s):
        yield found


async def _walk(db: Database, walk: _Walk, whole: Chunk, *, statement_s: float) -> AsyncIterator[Found]:
    after, size = whole.after, _FIRST_SIZE
    while after < whole.upto:
        async with db.connection() as conn:
            chunk = Chunk(after, await walk.bound(conn, Chunk(after, whole.upto), size))
        slowest_s = 0.0
        for check in walk.checks:
            began = time.monotonic()
            async with db.connection() as conn:
                found = await check(conn, chunk)
            slowest_s = max(slowest_s, time.monotonic() - began)
            yield found
        after, size = chunk.upto, next_size(size, slowest_s, statement_s)


def next_size(size: int, took_s: float, statement_s: float) -> int:
    """How large the next chunk is to be when one of `size` took so long: half above the time given, double well below."""
    smallest, largest = _SIZES
    if took_s > statement_s:
        return max(smallest, size // 2)
    return min(largest, size * 2) if took_s < statement_s / 4 else size


async def _sleeping(db: Database) -> AsyncIterator[Found]:
    after: tuple[UUID, str] | None = (UUID(int=0), "")
    while after is not None:
        async with db.connection() as conn:
            some = await lanes.with_waiting(conn, after=after, limit=_LANES)
            found = await moving.asleep(conn, some)
        yield found
        after = some[-1] if len(some) == _LANES else None


async def _jobs(db: Database, *, since: datetime, kept: datetime, statement_s: float) -> AsyncIterator[Found]:
    async with db.connection() as conn:
        found = await jobs.added_up(conn, since)
    yield found
    async with db.connection() as conn:
        said = await jobs.done(conn, since=since, oldest=kept)
    if not said:
        return
    tally = jobs.Tally(said)
    theirs = Chunk(floor_at(unix_time(min(said)) - ID_SLACK_S), floor_at(time.time() + ID_SLACK_S))
    async for found in _walk(db, _Walk(deliveries.bound, (tally.count,)), theirs, statement_s=statement_s):
        yield found
    async with db.connection() as conn:
        found = tally.compare(await jobs.done(conn, since=since, oldest=kept))
    yield found


async def verify(settings: Settings, *, since: datetime) -> dict[Check, Found]:
    """Read the whole ledger; what each check found."""
    db = Database(settings, connections=1)
    await db.open()
    try:
        total: dict[Check, Found] = {}
        async for found in sweep(db, since=since, keep_days=settings.retention_days):
            total[found.check] = total[found.check] + found if found.check in total else found
        return total
    finally:
        await db.close()
