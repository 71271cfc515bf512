"""What follows from a death: a line in the log, a notice, and after a 410 the end of the endpoint. Once, whatever is lost.

`dead_letters.told` is set in the transaction that sees to it. A message asks for it at once, and the clock finds what
no message came for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from relay.db import Conn
from relay.delivery import disabling, notices
from relay.delivery.notices import Notice
from relay.delivery.outcomes import Reason

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Death:
    """A delivery that died and of which nobody was told."""

    id: UUID
    tenant_id: UUID
    endpoint_id: UUID
    event_id: UUID
    reason: Reason


async def take(conn: Conn, ids: Sequence[UUID]) -> list[Death]:
    """Take those of these deaths that nobody was told of; the caller sees to them in the same transaction."""
    rows = await conn.execute(
        """UPDATE dead_letters SET told = true WHERE NOT told AND id IN (
               SELECT id FROM dead_letters WHERE id = ANY(%s::uuid[]) AND NOT told ORDER BY id FOR UPDATE SKIP LOCKED)
           RETURNING id, tenant_id, endpoint_id, event_id, reason""",
        (list(ids),),
    )
    return [_death(row) async for row in rows]


async def take_forgotten(conn: Conn, *, silent_s: float, limit: int) -> list[Death]:
    """Take up to `limit` deaths of more than `silent_s` seconds ago that nobody was told of, as `take` does."""
    rows = await conn.execute(
        """UPDATE dead_letters SET told = true WHERE NOT told AND id IN (
               SELECT id FROM dead_letters WHERE NOT told AND died_at < now() - make_interval(secs => %s)
               ORDER BY died_at LIMIT %s FOR UPDATE SKIP LOCKED)
           RETURNING id, tenant_id, endpoint_id, event_id, reason""",
        (silent_s, limit),
    )
    return [_death(row) async for row in rows]


def _death(row: tuple[UUID, UUID, UUID, UUID, str]) -> Death:
    return Death(*row[:4], Reason(row[4]))


async def see_to(conn: Conn, deaths: Sequence[Death]) -> list[Notice]:
    """Log these deaths, disable endpoints that are gone, and return what is to be told."""
    for death in deaths:
        ids = {"tenant_id": death.tenant_id, "endpoint_id": death.endpoint_id, "event_id": death.event_id}
        extra = {**ids, "delivery_id": death.id, "reason": death.reason.value}
        _LOG.warning("delivery %s is dead: %s", death.id, death.reason.name, extra=extra)
    told = await _told_of(conn, deaths)
    return [*map(_notice, told), *await _disable_gone(conn, deaths, told)]


async def _told_of(conn: Conn, deaths: Sequence[Death]) -> list[Death]:
    rows = await conn.execute(
        "SELECT id, type FROM events WHERE id = ANY(%s::uuid[])", (list({death.event_id for death in deaths}),)
    )
    silent = {row[0] async for row in rows if not notices.is_told_of(row[1])}
    return [death for death in deaths if death.event_id not in silent]


def _notice(death: Death) -> Notice:
    return notices.dead(
        death.tenant_id, death.endpoint_id, delivery_id=death.id, event_id=death.event_id, reason=death.reason
    )


async def _disable_gone(conn: Conn, deaths: Sequence[Death], told: Sequence[Death]) -> list[Notice]:
    gone = {(death.tenant_id, death.endpoint_id) for death in deaths if death.reason is Reason.GONE}
    spoken_of = {death.endpoint_id for death in told if death.reason is Reason.GONE}
    said: list[Notice] = []
    await disabling.lock(conn, (endpoint_id for _, endpoint_id in gone))
    for tenant_id, endpoint_id in sorted(gone):
        if await disabling.disable(conn, tenant_id, endpoint_id, reason=Reason.GONE):
            extra = {"tenant_id": tenant_id, "endpoint_id": endpoint_id}
            _LOG.warning("endpoint %s answered 410 and is disabled", endpoint_id, extra=extra)
            if endpoint_id in spoken_of:
                said.append(notices.disabled(tenant_id, endpoint_id, reason=Reason.GONE))
    return said
