"""The outbox: accepted and not fanned out. Order is `n`, which Postgres hands out after what was acknowledged before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from relay.db import Conn

SHARDS = range(16)
_LOCK = 7001


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that waits for its fan-out, and its tenant's `config_version` as it was read with it."""

    shard: int
    n: int
    tenant_id: UUID
    event_id: UUID
    config_version: int


@dataclass(frozen=True, slots=True)
class Head:
    """The oldest entries of some shards. Transactions below `xmin` had ended then; see `Hints` for `ceiling`."""

    entries: list[Entry]
    xmin: int
    ceiling: int
    cut: bool


@dataclass(slots=True)
class Hints:
    """Where to begin looking in each shard, so that dead rows under an old snapshot cost nothing.

    A number is passed over only when nothing smaller can still commit. Whoever has a smaller n than a drain saw took its
    transaction id before that drain looked, and so before the drain took its own: the ceiling. (The snapshot's xmax is
    none: it lies above what is completed, and a younger transaction with a smaller n may still run.) The drain's n
    becomes the hint once a later drain, not cut by its limit, finds that all below that ceiling have ended.
    """

    low: dict[int, int] = field(default_factory=dict[int, int])
    _seen: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])

    def of(self, shards: Sequence[int]) -> list[int]:
        """The smallest n worth looking at, shard by shard."""
        return [self.low.get(shard, 0) for shard in shards]

    def forget(self, shards: Sequence[int]) -> None:
        """Begin at the very first n again: there is work that the hint passes over, as when somebody put it back by hand."""
        for shard in shards:
            self.low.pop(shard, None)

    def learn(self, shards: Sequence[int], head: Head) -> None:
        """Take in what a drain saw, after its commit."""
        for shard in shards:
            seen = self._seen.get(shard)
            if seen and head.xmin >= seen[0] and not head.cut:
                self.low[shard] = seen[1] + 1
                del self._seen[shard]
            drained = [entry.n for entry in head.entries if entry.shard == shard]
            if drained and shard not in self._seen:
                self._seen[shard] = (head.ceiling, max(drained))


async def lock_shards(conn: Conn, shards: Sequence[int]) -> list[int]:
    """Lock those of the shards that nobody else drains, until the transaction ends; return them."""
    rows = await conn.execute(
        "SELECT s FROM unnest(%b::int[]) AS s WHERE pg_try_advisory_xact_lock(%s, s) ORDER BY s", (list(shards), _LOCK)
    )
    return [row[0] async for row in rows]


async def wait_for_shard(conn: Conn, tenant_id: UUID) -> int:
    """Lock a tenant's shard until the transaction ends, once a fan-out that is under way there is over; return it."""
    rows = await conn.execute(
        """SELECT s, pg_advisory_xact_lock(%s, s) FROM (
               SELECT get_byte(uuid_send(%s::uuid), 15) & 15 AS s OFFSET 0) x""",
        (_LOCK, tenant_id),
    )
    return (await rows.fetchall())[0][0]


async def read_head(conn: Conn, shards: Sequence[int], *, hints: Hints, limit: int) -> Head:
    """Read the oldest entries of shards that the caller has locked, in order."""
    rows = await conn.execute(
        """WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS snap),
        h AS MATERIALIZED (
            SELECT o.shard, o.n, o.tenant_id, o.event_id
            FROM unnest(%b::int2[], %b::int8[]) AS u (shard, hint)
            CROSS JOIN LATERAL (
                SELECT shard, n, tenant_id, event_id FROM outbox
                WHERE shard = u.shard AND n >= u.hint AND failed_reason IS NULL ORDER BY n LIMIT %s) o
            ORDER BY o.n LIMIT %s)
        SELECT pg_snapshot_xmin(snap)::text::int8, CASE WHEN h.n IS NOT NULL THEN pg_current_xact_id()::text::int8 END,
               h.shard, h.n, h.tenant_id, h.event_id, coalesce(t.config_version, 0)
        FROM s LEFT JOIN h ON true LEFT JOIN tenants t ON t.id = h.tenant_id ORDER BY h.n""",
        (list(shards), hints.of(shards), limit, limit),
    )
    found = await rows.fetchall()
    entries = [Entry(*row[2:]) for row in found if row[2] is not None]
    return Head(entries, xmin=found[0][0], ceiling=found[0][1] or 0, cut=len(entries) >= limit)


async def remove(conn: Conn, entries: Sequence[Entry]) -> None:
    """Delete entries whose deliveries the same transaction stores."""
    await conn.execute(
        "DELETE FROM outbox o USING unnest(%b::int2[], %b::int8[]) AS u (shard, n) WHERE o.shard = u.shard AND o.n = u.n",
        ([entry.shard for entry in entries], [entry.n for entry in entries]),
    )


async def take_out(conn: Conn, shard: int, event_id: UUID) -> bool:
    """Delete the entry of an event from a shard that the caller has locked; False when it is not there."""
    done = await conn.execute("DELETE FROM outbox WHERE shard = %s AND event_id = %s", (shard, event_id))
    return done.rowcount > 0


async def set_aside(conn: Conn, entry: Entry, *, reason: str) -> None:
    """Take an entry that cannot be fanned out from everybody's way; it stays, with its reason, to be seen."""
    await conn.execute(
        "UPDATE outbox SET failed_reason = %s WHERE shard = %s AND n = %s", (reason, entry.shard, entry.n)
    )


async def shards_with_work(conn: Conn) -> list[int]:
    """The shards in which something waits."""
    rows = await conn.execute(
        """SELECT s FROM generate_series(0, 15) AS s
           WHERE EXISTS (SELECT 1 FROM outbox WHERE shard = s AND failed_reason IS NULL)"""
    )
    return [row[0] async for row in rows]


async def take_in_scheduled(conn: Conn, *, limit: int) -> dict[int, int]:
    """Move scheduled events whose time has come into the outbox, in one statement; return how many each shard got."""
    rows = await conn.execute(
        """WITH due AS (
               DELETE FROM scheduled s USING (
                   SELECT event_id FROM scheduled WHERE due_at <= now() ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED) x
               WHERE s.event_id = x.event_id RETURNING s.event_id, s.tenant_id, s.due_at),
           o AS (
               INSERT INTO outbox (shard, tenant_id, event_id)
               SELECT get_byte(uuid_send(tenant_id), 15) & 15, tenant_id, event_id FROM due ORDER BY due_at, event_id
               RETURNING shard)
           SELECT shard, count(*) FROM o GROUP BY shard""",
        (limit,),
    )
    return {row[0]: row[1] async for row in rows}
