"""Endpoints as the targets of replays: whether one may get anything, and in which lane it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from relay.catalog.partition_keys import partition_key
from relay.db import Conn
from relay.delivery.destinations import read_contents
from relay.delivery.live import FIFO, TEST_LANE, lane_of, tier_of_lane


class Refusal(Enum):
    """Why a delivery is not repeated, as a sentence."""

    SETTLED = "It was replayed or cancelled before."
    DELETED = "Its endpoint is deleted."
    DISABLED = "Its endpoint is disabled; resumeEndpoint enables it again."
    ERASED = "Its event is erased: there is nothing left to send."


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint that new deliveries may be made for; `path` is the JSONPath of its partition key, if it has one."""

    endpoint_id: UUID
    fifo: bool
    path: str | None

    def needs_payload(self, former: str | None = None) -> bool:
        """Tell whether `place` must be given the event's payload."""
        return self.fifo and self.path is not None and not self._keeps(former)

    def place(self, *, tier: int, former: str | None = None, payload: bytes = b"") -> tuple[int, str]:
        """Return tier and lane of a new delivery; `former` is the lane of the one it repeats.

        A test stays a test, and an order is kept per partition, in which all are of the normal tier.
        """
        if former is not None and self._keeps(former):
            return tier_of_lane(former), former
        if self.fifo:
            return 1, FIFO + partition_key(self.path, payload)
        return tier, lane_of(tier)

    def _keeps(self, former: str | None) -> bool:
        return former is not None and (former == TEST_LANE or (self.fifo and former.startswith(FIFO)))


async def targets(conn: Conn, tenant_id: UUID, endpoint_ids: Iterable[UUID]) -> dict[UUID, Target | Refusal]:
    """Return each of the client's endpoints as a target, or why it is none; one that is gone for good counts as deleted."""
    wanted = set(endpoint_ids)
    rows = await conn.execute(
        """SELECT id, deleted_at IS NOT NULL, status = 'disabled', fifo, fifo_partition_key FROM endpoints
           WHERE tenant_id = %s AND id = ANY(%s::uuid[])""",
        (tenant_id, list(wanted)),
    )
    found: dict[UUID, Target | Refusal] = dict.fromkeys(wanted, Refusal.DELETED)
    for id, deleted, disabled, fifo, path in await rows.fetchall():
        if not deleted:
            found[id] = Refusal.DISABLED if disabled else Target(id, fifo, path)
    return found


async def read_payloads(conn: Conn, event_ids: Iterable[UUID]) -> dict[UUID, bytes]:
    """Return the payloads of these events by id: what the lanes of `needs_payload` depend on."""
    wanted = set(event_ids)
    return {id: content.payload for id, content in (await read_contents(conn, wanted)).items()} if wanted else {}


async def erased(conn: Conn, event_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of the events that are erased; until the caller's commit no other of them will be."""
    rows = await conn.execute(
        "SELECT id, payload IS NULL FROM events WHERE id = ANY(%s::uuid[]) ORDER BY id FOR KEY SHARE",
        (list(set(event_ids)),),
    )
    return {row[0] async for row in rows if row[1]}
