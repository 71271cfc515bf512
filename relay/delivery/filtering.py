"""Looking into events during fan-out: what they hold is read at once for all of a batch, and filters are asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from uuid import UUID

from relay import metrics
from relay.catalog.filters import Seen, Verdict
from relay.catalog.subscribers import Subscriber
from relay.db import Conn

#: So many filters are asked before others get their turn.
_AT_ONCE = 200
_LOG = logging.getLogger(__name__)


async def look_into(conn: Conn, event_ids: Sequence[UUID]) -> dict[UUID, Seen]:
    """Read events for their filters and partition keys, in one statement; those that were erased have no payload."""
    rows = await conn.execute(
        "SELECT id, coalesce(payload, ''), headers, type FROM events WHERE id = ANY(%s::uuid[])", (event_ids,)
    )
    return {row[0]: Seen(bytes(row[1]), row[2], row[3]) async for row in rows}


async def let_through(seen: Seen, targets: Sequence[Subscriber], *, event_id: UUID) -> list[Subscriber]:
    """Return those whose filters let the event through. Filters that cannot be evaluated do not; the log names them."""
    passing: list[Subscriber] = []
    unfinished: list[Subscriber] = []
    for number, target in enumerate(targets, start=1):
        verdict = Verdict.PASSES if target.filter is None else target.filter.verdict(seen)
        if verdict is Verdict.PASSES:
            passing.append(target)
        elif verdict is Verdict.UNFINISHED:
            unfinished.append(target)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    if unfinished:
        _warn(event_id, unfinished)
    metrics.FILTERED_OUT.labels("refused").inc(len(targets) - len(passing) - len(unfinished))
    return passing


def _warn(event_id: UUID, targets: Sequence[Subscriber]) -> None:
    metrics.FILTERED_OUT.labels("unfinished").inc(len(targets))
    _LOG.warning(
        "the filters of %d endpoints could not be evaluated on event %s, which is not sent there; the first is %s",
        len(targets),
        event_id,
        targets[0].id,
        extra={"event_id": event_id, "endpoint_id": targets[0].id},
    )
