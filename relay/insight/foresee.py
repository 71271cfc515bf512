"""Who would get an event that nobody has sent, and why not: worked out from the endpoints as they are.

Nothing is stored. Endpoints are read in pieces and stop being read when enough of them match, so that the cost is
bounded by what is asked for, and by the filters that say no.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from uuid import UUID

from relay.catalog.filters import Failing, Seen, Verdict, stored_filter
from relay.catalog.subscriptions import patterns_for
from relay.db import Conn
from relay.insight.explain import FanoutDecision, FanoutReason, refusal, with_gates
from relay.paging import NEWEST

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Imagined:
    """An event as `explain` is asked about it."""

    type: str
    payload: bytes
    headers: dict[str, str] | None = None


async def foresee(
    conn: Conn, tenant_id: UUID, event: Imagined, *, endpoint_id: UUID | None = None, first: int = 100
) -> list[FanoutDecision]:
    """Return up to `first` decisions: who would get it, whose filter refuses it, then the others; newest endpoints first.

    About one endpoint only, if given.
    """
    found = await _asked(conn, tenant_id, event, endpoint_id=endpoint_id, first=first)
    if len(found) < first:
        found += await _not_subscribed(conn, tenant_id, event.type, endpoint_id=endpoint_id, first=first - len(found))
    return await with_gates(conn, found)


async def _asked(
    conn: Conn, tenant_id: UUID, event: Imagined, *, endpoint_id: UUID | None, first: int
) -> list[FanoutDecision]:
    """Those subscribed to the type: matches, then refusals of their filters."""
    seen = Seen(event.payload, event.headers, event.type)
    # Endpoints often share a filter, so each is asked once.
    passes = cache(partial(_passes, seen=seen))
    matched: list[FanoutDecision] = []
    refused: list[FanoutDecision] = []
    async for id, filter in _subscribed(conn, tenant_id, event.type, endpoint_id=endpoint_id):
        if passes(filter):
            matched.append(_decision(id, FanoutReason.MATCHED))
        elif len(refused) < first:
            refused.append(_decision(id, FanoutReason.FILTERED_OUT, refusal(filter, seen)))
        if len(matched) == first:
            break
    return (matched + refused)[:first]


def _passes(filter: str | None, *, seen: Seen) -> bool:
    return filter is None or stored_filter(filter).verdict(seen) is Verdict.PASSES


async def _subscribed(
    conn: Conn, tenant_id: UUID, event_type: str, *, endpoint_id: UUID | None
) -> AsyncIterator[tuple[UUID, str | None]]:
    """The active endpoints that want events of this type, with their filters."""
    before = NEWEST
    while True:
        rows = await conn.execute(
            """SELECT id, filter::text FROM endpoints
               WHERE tenant_id = %(tenant)s AND kind = 'subscribed' AND deleted_at IS NULL AND status <> 'disabled'
                 AND event_types && %(patterns)s::text[] AND id < %(before)s
                 AND (%(endpoint)s::uuid IS NULL OR id = %(endpoint)s)
               ORDER BY id DESC LIMIT %(limit)s""",
            {
                "tenant": tenant_id,
                "patterns": patterns_for(event_type),
                "before": before,
                "endpoint": endpoint_id,
                "limit": _AT_ONCE,
            },
        )
        found = await rows.fetchall()
        for row in found:
            yield row[0], row[1]
        if len(found) < _AT_ONCE:
            return
        before = found[-1][0]
        await asyncio.sleep(0)  # other requests have their turn


async def _not_subscribed(
    conn: Conn, tenant_id: UUID, event_type: str, *, endpoint_id: UUID | None, first: int
) -> list[FanoutDecision]:
    rows = await conn.execute(
        """SELECT id, status = 'disabled' FROM endpoints
           WHERE tenant_id = %(tenant)s AND kind = 'subscribed' AND deleted_at IS NULL
             AND (status = 'disabled' OR NOT event_types && %(patterns)s::text[])
             AND (%(endpoint)s::uuid IS NULL OR id = %(endpoint)s)
           ORDER BY id DESC LIMIT %(first)s""",
        {"tenant": tenant_id, "patterns": patterns_for(event_type), "endpoint": endpoint_id, "first": first},
    )
    why = {True: FanoutReason.ENDPOINT_DISABLED, False: FanoutReason.TYPE_NOT_SUBSCRIBED}
    return [_decision(row[0], why[row[1]]) async for row in rows]


def _decision(endpoint_id: UUID, why: FanoutReason, failing: Failing | None = None) -> FanoutDecision:
    return FanoutDecision(
        endpoint_id, why, delivery_id=None, recorded=False, decided_at=datetime.now(UTC), failing=failing
    )
