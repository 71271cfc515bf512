"""What a worker must know to send: where to and how (cached by version), and what (read for each batch)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from relay.catalog import credentials
from relay.catalog.policies import PayloadFormat
from relay.catalog.secrets import Vault
from relay.catalog.transformations import Transformation, transformation_of
from relay.db import Conn
from relay.delivery.authorization import Credentials
from relay.delivery.live import Claimed
from relay.delivery.retry import RetryPolicy
from relay.errors import Unavailable

_CACHED = 20_000


@dataclass(frozen=True, slots=True)
class Destination:
    """An endpoint as the sender needs it. `secrets` come newest first, each with the Unix time it ends (None: never).

    `rate_limit_per_sec` 0 is no limit. `unreadable` says why nothing can be sent: a secret cannot be opened.
    """

    id: UUID
    version: int
    tenant_id: UUID
    url: str
    timeout_ms: int
    max_concurrency: int
    rate_limit_per_sec: int
    circuit_threshold: int
    policy: RetryPolicy
    headers: tuple[tuple[str, str], ...]
    secrets: tuple[tuple[str, float | None], ...]
    disabled: bool
    deleted: bool
    credentials: Credentials | None = None
    transformation: Transformation | None = None
    unreadable: str | None = None
    format: PayloadFormat = PayloadFormat.RAW
    gzip: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What an event sends: the stored bytes, never changed, or nothing when `erased`.

    `max_attempts` overrides the endpoint's.
    """

    event_id: UUID
    payload: bytes
    content_type: str
    headers: dict[str, str] | None
    max_attempts: int | None
    event_type: str | None = None
    erased: bool = False
    subject: str | None = None


class Destinations:
    """Destinations by endpoint; a claim brings the endpoint's version, so what changed is read anew."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._known: dict[UUID, Destination] = {}

    async def of(self, conn: Conn, claimed: Iterable[Claimed]) -> dict[UUID, Destination]:
        """The destinations of these deliveries by endpoint, at least as new as their claims."""
        return await self._newer(conn, {one.endpoint_id: one.endpoint_version for one in claimed})

    async def get(self, conn: Conn, endpoint_id: UUID) -> Destination:
        """What is known of an endpoint, however old, or what is there now."""
        return (await self._newer(conn, {endpoint_id: 0}))[endpoint_id]

    async def _newer(self, conn: Conn, wanted: dict[UUID, int]) -> dict[UUID, Destination]:
        stale = [id for id, version in wanted.items() if self._is_stale(id, version)]
        if stale:
            if len(self._known) + len(stale) > _CACHED:
                self._known.clear()
                stale = list(wanted)
            self._known.update(await self._read(conn, stale))
        return {id: self._known[id] for id in wanted}

    def _is_stale(self, id: UUID, version: int) -> bool:
        """What could not be read is read anew each time: `relay keys rotate` may have mended it."""
        known = self._known.get(id)
        return known is None or known.version < version or known.unreadable is not None

    def known(self, endpoint_id: UUID) -> Destination | None:
        """What was last read of an endpoint."""
        return self._known.get(endpoint_id)

    async def _read(self, conn: Conn, ids: Sequence[UUID]) -> dict[UUID, Destination]:
        rows = await conn.execute(
            """SELECT id, version, tenant_id, url, timeout_ms, max_concurrency, max_retries, retry_schedule,
                      retry_backoff_ms, retry_backoff_mult, retry_backoff_max, custom_headers, deleted_at IS NOT NULL,
                      CASE kind WHEN 'adhoc' THEN tenant_id ELSE id END, rate_limit_per_sec, status = 'disabled',
                      circuit_threshold, terminal_status_codes,
                      EXISTS (SELECT FROM credentials WHERE endpoint_id = endpoints.id), format, gzip,
                      transformation, transformation_on_error
               FROM endpoints WHERE id = ANY(%b::uuid[])""",
            (list(ids),),
        )
        endpoints = await rows.fetchall()
        unreadable: dict[UUID, str] = {}
        secrets = await self._secrets(conn, {row[13] for row in endpoints}, unreadable)
        authorized = {row[0]: row[1] for row in endpoints if row[18]}
        opened = await credentials.opened(conn, authorized, self._vault, unreadable) if authorized else {}
        return {
            row[0]: Destination(
                id=row[0],
                version=row[1],
                tenant_id=row[2],
                url=row[3],
                timeout_ms=row[4],
                max_concurrency=row[5],
                rate_limit_per_sec=row[14],
                circuit_threshold=row[16],
                policy=RetryPolicy(*row[6:11], terminal=frozenset(row[17])),
                headers=tuple((row[11] or {}).items()),
                secrets=secrets.get(row[13], ()),
                disabled=row[15],
                deleted=row[12],
                credentials=opened.get(row[0]),
                transformation=transformation_of(row[21], row[22]),
                unreadable=unreadable.get(row[13]) or unreadable.get(row[0]),
                format=PayloadFormat(row[19]),
                gzip=row[20],
            )
            for row in endpoints
        }

    async def _secrets(
        self, conn: Conn, owners: set[UUID], unreadable: dict[UUID, str]
    ) -> dict[UUID, tuple[tuple[str, float | None], ...]]:
        """What signs, by owner; an owner of one that cannot be opened gets into `unreadable`, and holds up no other."""
        rows = await conn.execute(
            """SELECT owner_id, sealed, key_id, extract(epoch FROM expires_at)::float8 FROM secrets
               WHERE owner_id = ANY(%b::uuid[]) AND (expires_at IS NULL OR expires_at > now()) ORDER BY owner_id, slot""",
            (list(owners),),
        )
        found: dict[UUID, tuple[tuple[str, float | None], ...]] = {}
        async for owner, sealed, key_id, expires_at in rows:
            try:
                secret = self._vault.open(bytes(sealed), owner=owner, key_id=bytes(key_id))
            except Unavailable as cause:
                unreadable[owner] = str(cause)
                continue
            found[owner] = (*found.get(owner, ()), (secret, expires_at))
        return found


async def read_contents(conn: Conn, event_ids: Iterable[UUID]) -> dict[UUID, Content]:
    """The contents of these events by id; one that is missing is gone for good."""
    rows = await conn.execute(
        """SELECT id, coalesce(payload, ''), content_type, headers, max_attempts, type, payload IS NULL, subject
           FROM events WHERE id = ANY(%b::uuid[])""",
        (list(set(event_ids)),),
    )
    return {row[0]: Content(*row) for row in await rows.fetchall()}
