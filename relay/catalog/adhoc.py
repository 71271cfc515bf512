"""The hidden endpoints of createEvent: one for each client and URL, with lane and limits like any other."""

from __future__ import annotations

from uuid import UUID

from relay.catalog import endpoints
from relay.catalog.policies import new_columns
from relay.db import Conn
from relay.delivery.addresses import Guard, check_url


async def ensure(conn: Conn, tenant_id: UUID, url: str, *, id: UUID, guard: Guard) -> UUID:
    """Return the id of the client's hidden endpoint for a URL, made (with `id`) when missing. Raises Invalid."""
    check_url(url, guard=guard, field="destination")
    found = await _find(conn, tenant_id, url)
    if found is not None:
        return found
    columns = {**new_columns(), "id": id, "kind": "adhoc", "url": url, "event_types": []}
    if await endpoints.insert(conn, tenant_id, columns):
        return id
    winner = await _find(conn, tenant_id, url)
    if winner is None:
        raise LookupError(f"the hidden endpoint of {url} was made by somebody else and is not to be seen")
    return winner


async def _find(conn: Conn, tenant_id: UUID, url: str) -> UUID | None:
    rows = await conn.execute(
        "SELECT id FROM endpoints WHERE tenant_id = %s AND url = %s AND kind = 'adhoc'", (tenant_id, url)
    )
    row = await rows.fetchone()
    return row[0] if row else None
