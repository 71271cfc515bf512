"""Which changes of an endpoint would tear apart an order that its FIFO lanes hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from relay.db import Conn
from relay.errors import Conflict


async def check_order(conn: Conn, id: UUID, *, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raise Conflict where a change of these columns would send what comes next past what waits in FIFO lanes."""
    field = _reordering(before, after)
    if field is None:
        return
    rows = await conn.execute("SELECT 1 FROM live WHERE endpoint_id = %s AND seq IS NOT NULL LIMIT 1", (id,))
    if await rows.fetchone():
        raise Conflict(
            f"{field} cannot change while the endpoint's FIFO lanes hold deliveries: drain them first.", field=field
        )


def _reordering(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    if before["fifo"] and not after["fifo"]:
        return "fifo"
    return "fifoPartitionKey" if before["fifo_partition_key"] != after["fifo_partition_key"] else None
