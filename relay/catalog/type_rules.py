"""What event types mean while events come and are shown: which are refused, what must fit, and what is blanked.

Kept in memory and compared with Postgres once a second, so that no event costs a statement. Only clients who described
a type or refuse unknown ones are kept; for all others the answer is one miss in a dictionary. Schemas are read and
compiled when the first event of their type comes, and those used lately are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import psycopg

from relay.catalog.known_schemas import Schemas
from relay.catalog.redaction import blanked
from relay.catalog.schemas import told
from relay.db import LOST, Conn, Database
from relay.errors import Invalid, Unavailable

#: Over all web processes a change holds within twice this.
REFRESH_S = 1.0
_NAMED = 20


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for a type: its redactPaths, and which revision of its schema; None: it has no schema."""

    id: UUID
    paths: tuple[str, ...]
    revision: int | None


@dataclass(frozen=True, slots=True)
class Rules:
    """A client's types by name; `refuses`: those that are not here."""

    version: int
    refuses: bool
    types: Mapping[str, Rule]


class TypeRules:
    """The rules of all clients that have any, as of the last `refresh`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[UUID, Rules] = {}
        self._schemas = Schemas(db)
        self._ready = False
        self._one_at_a_time = asyncio.Lock()

    async def refresh(self) -> None:
        """Read what has changed; called every second, and by whoever changed something in this process."""
        async with self._one_at_a_time, self._db.connection() as conn:
            rows = await conn.execute(
                """SELECT id, types_version, unknown_event_types = 'refuse' FROM tenants
                   WHERE types_version > 1 OR unknown_event_types = 'refuse'"""
            )
            found = {row[0]: (row[1], row[2]) for row in await rows.fetchall()}
            stale = [id for id, now in found.items() if self._version(id) != now]
            fresh = await _read(conn, stale) if stale else {}
        self._known = {id: rules for id, rules in {**self._known, **fresh}.items() if id in found}
        self._ready = True

    async def refresh_soon(self) -> None:
        """Refresh at the start, or after a change of this process; if that fails, the next second does it."""
        with suppress(*LOST, psycopg.Error):
            await self.refresh()

    def _version(self, tenant_id: UUID) -> tuple[int, bool] | None:
        known = self._known.get(tenant_id)
        return (known.version, known.refuses) if known else None

    def check(self, tenant_id: UUID, event_type: str) -> Rule | None:
        """Return what holds for a type; None: nothing. Raise Invalid for one that the client has not described, if it
        refuses those; Unavailable before any is read.
        """
        if not self._ready:
            raise Unavailable("The event types are not read yet; try again soon.", retry_after_s=1)
        rules = self._known.get(tenant_id)
        if rules is None:
            return None
        rule = rules.types.get(event_type)
        if rule is None and rules.refuses:
            raise Invalid(_refusal(event_type, sorted(rules.types)), field="eventType")
        return rule

    async def fit(self, rule: Rule, event_type: str, payload: bytes, *, is_json: bool) -> None:
        """Raise Invalid, with every place where, for a payload that does not fit the schema of its type."""
        if rule.revision is None:
            return
        if not is_json:
            sentence = f"contentType must be JSON, for the event type {event_type} has a schema."
            raise Invalid(sentence, field="contentType")
        schema = await self._schemas.get(rule.id, rule.revision)
        misfits = schema.misfits(payload) if schema is not None else []
        if misfits:
            of = f"payload does not fit the schema of {event_type} (revision {rule.revision}): "
            raise Invalid(of + told(misfits), field="payload")

    def shown(self, tenant_id: UUID, event_type: str | None, payload: bytes, *, is_json: bool) -> bytes | None:
        """Return the payload as it may be shown; None: not at all."""
        if not self._ready:
            return None
        rules = self._known.get(tenant_id)
        rule = rules.types.get(event_type) if rules is not None and event_type is not None else None
        if rule is None or not rule.paths:
            return payload
        return blanked(payload, rule.paths) if is_json else None


def _refusal(event_type: str, names: list[str]) -> str:
    if not names:
        return f"eventType {event_type} is not known, and this client allows none yet: createEventType makes one."
    allowed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return f"eventType {event_type} is not known; this client allows {allowed}. createEventType makes another."


async def _read(conn: Conn, tenant_ids: Iterable[UUID]) -> dict[UUID, Rules]:
    """The rules of these clients, of one moment."""
    rows = await conn.execute(
        """SELECT t.id, t.types_version, t.unknown_event_types = 'refuse', e.name, e.id, e.redact_paths,
                  CASE WHEN e.schema IS NOT NULL THEN e.revision END
           FROM tenants t LEFT JOIN event_types e ON e.tenant_id = t.id WHERE t.id = ANY(%s::uuid[])""",
        (list(tenant_ids),),
    )
    found: dict[UUID, tuple[int, bool, dict[str, Rule]]] = {}
    async for id, version, refuses, name, type_id, paths, revision in rows:
        types = found.setdefault(id, (version, refuses, {}))[2]
        if name is not None:
            types[name] = Rule(type_id, tuple(paths), revision)
    return {id: Rules(*rules) for id, rules in found.items()}
