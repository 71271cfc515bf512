"""What `relay.send_event` was called for, from the commit of the calling transaction to the events that it becomes.

The SQL function checks what is wrong at first sight and leaves a row; everything else is what every event goes through:
the same rules, the same statement, the same idempotency keys. A row is gone in the transaction that stores its event, so
each becomes one event at most; what breaks a rule is set aside with its reason.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from relay.db import Conn
from relay.errors import Invalid, RelayError, TooLarge
from relay.intake.accept import Accepted, Candidate, NewEvent, originals, store
from relay.intake.outbox import Entry, Head, Hints
from relay.intake.specs import SendEventSpec, is_json
from relay.strict_json import check_strict

MAX_ROWS = 500
MAX_BYTES = 8 << 20
_LOCK = 7014
_LOCK_TIMEOUT_MS = 250
#: One row of numbers, of which the hints know one "shard".
_PLACE = 0
_write = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Row:
    """A call of `relay.send_event` that is committed. `payload` is None when it has more `size` bytes than may be."""

    n: int
    id: UUID
    tenant_id: UUID
    type: str
    size: int
    payload: bytes | None
    content_type: str
    headers: dict[str, str] | None
    subject: str | None
    priority: int
    key: str | None
    deliver_at: datetime | None

    @property
    def is_json(self) -> bool:
        """Whether its payload is JSON text."""
        return is_json(self.content_type)

    def to_event(self, *, max_payload_bytes: int) -> NewEvent:
        """Return the event to accept, checked as one that comes by HTTP. Raises Invalid, and TooLarge."""
        if self.payload is None:
            raise TooLarge(f"payload has {self.size} bytes; the limit is {max_payload_bytes}.", field="payload")
        spec = SendEventSpec(
            event_type=self.type,
            headers=self.headers,
            priority=self.priority,
            deliver_at=self.deliver_at,
            content_type=self.content_type,
            subject=self.subject,
            idempotency_key=self.key,
        )
        payload = self.payload
        if self.is_json:
            _check_json(payload)
        else:
            payload = _write(base64.b64encode(payload).decode())
        return spec.to_event(self.tenant_id, payload, max_payload_bytes=max_payload_bytes)


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest rows that wait, and what the hints are to learn of them."""

    rows: list[Row]
    head: Head


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a batch: rows stored, known by their key before, refused; the outbox shards that got work."""

    stored: int
    repeated: int
    refused: Mapping[int, RelayError]
    left: frozenset[int]
    shards: frozenset[int]


async def ever_called(conn: Conn) -> bool:
    """Tell whether anybody has ever called `relay.send_event` in this database."""
    return (await (await conn.execute("SELECT is_called FROM producer_events_n_seq")).fetchall())[0][0]


async def waits(conn: Conn, hints: Hints) -> bool:
    """Tell whether something waits: all that is asked while nothing does."""
    rows = await conn.execute(
        "SELECT EXISTS (SELECT 1 FROM producer_events WHERE n >= %s AND refused IS NULL)", hints.of([_PLACE])
    )
    return (await rows.fetchall())[0][0]


async def read(conn: Conn, *, hints: Hints, limit: int, max_payload_bytes: int) -> Batch:
    """Read the oldest rows, up to `limit` and about 8 MiB; the snapshot is older than the ceiling."""
    rows = await conn.execute(
        """WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS snap),
        h AS MATERIALIZED (
            SELECT n, octet_length(payload) AS size FROM producer_events
            WHERE n >= %(hint)s AND refused IS NULL ORDER BY n LIMIT %(limit)s),
        w AS (
            SELECT n, size, coalesce(sum(size) FILTER (WHERE size <= %(most)s)
                OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before FROM h)
        SELECT pg_snapshot_xmin(snap)::text::int8, CASE WHEN w.n IS NOT NULL THEN pg_current_xact_id()::text::int8 END,
               (SELECT count(*) FROM h), p.n, p.id, p.tenant_id, p.type, w.size,
               CASE WHEN w.size <= %(most)s THEN p.payload END, p.content_type, p.headers, p.subject, p.priority, p.key,
               p.deliver_at
        FROM s LEFT JOIN w ON w.before < %(bytes)s LEFT JOIN producer_events p USING (n) ORDER BY p.n""",
        {"hint": hints.of([_PLACE])[0], "limit": limit, "most": max_payload_bytes, "bytes": MAX_BYTES},
    )
    found = await rows.fetchall()
    waiting = [Row(*row[3:]) for row in found if row[3] is not None]
    cut = found[0][2] >= limit or found[0][2] > len(waiting)
    entries = [Entry(_PLACE, row.n, row.tenant_id, row.id, 0) for row in waiting]
    return Batch(waiting, Head(entries, xmin=found[0][0], ceiling=found[0][1] or 0, cut=cut))


async def claim(conn: Conn, rows: Sequence[Row]) -> dict[int, UUID]:
    """Lock those of the rows that wait still, and return their numbers and ids in order; none while somebody else takes in.

    The lock lasts as long as the transaction. Whoever takes in with an old snapshot finds the rows gone, for it locks them.
    """
    found = await conn.execute(
        """WITH l AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(%s) AS is_mine)
           SELECT p.n, p.id FROM l JOIN producer_events p ON l.is_mine AND p.n = ANY(%s::int8[]) AND p.refused IS NULL
           ORDER BY p.n FOR UPDATE OF p""",
        (_LOCK, [row.n for row in rows]),
    )
    return {row[0]: row[1] async for row in found}


def learn(hints: Hints, batch: Batch, settled: Settled) -> None:
    """Take in what a batch saw, after its commit; what was left, or is in somebody else's hands, is not passed over."""
    head = batch.head
    if settled.stored + settled.repeated + len(settled.refused) + len(settled.left) < len(batch.rows):
        return
    if settled.left:
        before = [entry for entry in head.entries if entry.n < min(settled.left)]
        head = Head(before, head.xmin, head.ceiling, cut=True)
    hints.learn([_PLACE], head)


async def settle(conn: Conn, events: Mapping[int, NewEvent | RelayError], ids: Mapping[int, UUID]) -> Settled:
    """Store the events of these rows, set the refused ones aside and remove the others; all in the caller's transaction.

    A second one with the key of another in the batch is left for the next, as is one that lost to a key gone meanwhile.
    """
    refused = {n: event for n, event in events.items() if isinstance(event, RelayError)}
    places = {ids[n]: n for n in events}
    candidates = list(_candidates(events, ids))
    receipts: dict[UUID, Accepted] = {}
    shards: frozenset[int] = frozenset()
    repeated: set[int] = set()
    if candidates:
        stored = await store(conn, candidates, lock_timeout_ms=_LOCK_TIMEOUT_MS)
        receipts, shards = stored.receipts, stored.shards
    losers = [one for one in candidates if one.id not in receipts]
    if losers:
        for id, found in (await originals(conn, losers)).items():
            if isinstance(found, Accepted):
                repeated.add(places[id])
            else:
                refused[places[id]] = found
    done = {places[id] for id in receipts} | repeated
    await _remove(conn, done)
    await set_aside(conn, refused)
    return Settled(len(receipts), len(repeated), refused, frozenset(events.keys() - done - refused.keys()), shards)


def _candidates(events: Mapping[int, NewEvent | RelayError], ids: Mapping[int, UUID]) -> Iterable[Candidate]:
    seen: set[tuple[UUID, str]] = set()
    for n, event in events.items():
        if isinstance(event, RelayError):
            continue
        if event.idempotency_key is None:
            yield Candidate(ids[n], event)
        elif (key := (event.tenant_id, event.idempotency_key)) not in seen:
            seen.add(key)
            yield Candidate(ids[n], event, event.request_hash())


async def _remove(conn: Conn, numbers: Iterable[int]) -> None:
    await conn.execute("DELETE FROM producer_events WHERE n = ANY(%s::int8[])", (sorted(numbers),))


async def set_aside(conn: Conn, refused: Mapping[int, RelayError]) -> None:
    """Take rows that cannot become events from everybody's way; they stay, with their reasons, to be seen."""
    if refused:
        await conn.execute(
            """UPDATE producer_events p SET refused = u.reason FROM unnest(%s::int8[], %s::text[]) AS u (n, reason)
               WHERE p.n = u.n""",
            (list(refused), [str(error)[:1000] for error in refused.values()]),
        )


async def forget_refused(conn: Conn, *, keep_days: int, limit: int = 2_000) -> int:
    """Delete what was refused and is older than what is kept; return how many."""
    done = await conn.execute(
        """DELETE FROM producer_events WHERE n IN (
               SELECT n FROM producer_events
               WHERE refused IS NOT NULL AND sent_at < now() - make_interval(days => %s) ORDER BY n LIMIT %s)""",
        (keep_days, limit),
    )
    return done.rowcount


def _check_json(payload: bytes) -> None:
    """Raise Invalid for what Postgres takes for JSON and another reader does not, or reads in another way."""
    try:
        check_strict(payload, what="payload")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
        raise Invalid(f"payload must be JSON: {cause}", field="payload") from cause
