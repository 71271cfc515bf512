"""Endpoints as the targets of replays: whether one may get anything, and in which lane it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from relay.db import Conn
from relay.delivery.live import FIFO, TEST_LANE, lane_of


class Refusal(Enum):
    """Why a delivery is not repeated, as a sentence."""

    SETTLED = "It was replayed or cancelled before."
    DELETED = "Its endpoint is deleted."
    DISABLED = "Its endpoint is disabled; resumeEndpoint enables it again."


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint that new deliveries may be made for."""

    endpoint_id: UUID
    fifo: bool

    def place(self, *, tier: int, former: str | None = None) -> tuple[int, str]:
        """Return tier and lane of a new delivery; `former` is the lane of the one it repeats.

        A test stays a test, and an order is kept per partition, in which all are of the normal tier.
        """
        if former == TEST_LANE:
            return 0, TEST_LANE
        if self.fifo:
            return 1, former if former is not None and former.startswith(FIFO) else FIFO
        return tier, lane_of(tier)


async def targets(conn: Conn, tenant_id: UUID, endpoint_ids: Iterable[UUID]) -> dict[UUID, Target | Refusal]:
    """Return each of the client's endpoints as a target, or why it is none; one that is gone for good counts as deleted."""
    wanted = set(endpoint_ids)
    rows = await conn.execute(
        """SELECT id, deleted_at IS NOT NULL, status = 'disabled', fifo FROM endpoints
           WHERE tenant_id = %s AND id = ANY(%s::uuid[])""",
        (tenant_id, list(wanted)),
    )
    found: dict[UUID, Target | Refusal] = dict.fromkeys(wanted, Refusal.DELETED)
    for id, deleted, disabled, fifo in await rows.fetchall():
        if not deleted:
            found[id] = Refusal.DISABLED if disabled else Target(id, fifo)
    return found
