"""The audit log: who changed what. An entry is written in the transaction of its change, so neither is without the other.

Nothing alters an entry (a trigger refuses it); `forget` removes those whose time is over.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from relay.db import Conn
from relay.delivery.masking import MASK, is_secret, masked
from relay.ids import Uuid7, floor_at
from relay.paging import COUNT_LIMIT, NEWEST, Page, exact_count, page
from relay.specs import check_text

_DAY_S = 86_400
_URL_SECRETS = re.compile(r"^(https?://)(?:[^/?#@]*@)?([^?#]*)(?:[?#].*)?$", re.DOTALL)
_SECRET_TEXT = re.compile(r"\b(rly_|whsec_|whsk_)[A-Za-z0-9+/=_-]{12,}")
_HEADERS = "customHeaders"
_ids = Uuid7()


class Subject(StrEnum):
    """What a change is about: the `subjectType` of its entry."""

    CLIENT = "client"
    API_KEY = "apiKey"
    ENDPOINT = "endpoint"
    EVENT_TYPE = "eventType"
    EVENT = "event"
    DELIVERY = "delivery"
    JOB = "job"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something: a key's name and id, or only a name. `acts_for`: an operator, for a client not its own."""

    name: str
    key_id: UUID | None = None
    acts_for: bool = False
    ip: str | None = None
    request_id: str | None = None


#: Whoever sits at the database.
CLI: Final = Actor("cli")


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to what: `action` is the mutation's name, `before` and `after` are fields by their API names."""

    action: str
    subject: Subject
    subject_id: UUID | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What may be seen of something secret; another `version` is another secret, which may look the same."""

    seen: Any
    version: Any = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is shown."""

    id: UUID
    tenant_id: UUID
    at: datetime
    actor: str
    actor_key: UUID | None
    acts_for: bool
    action: str
    subject_type: str
    subject_id: UUID | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    ip: str | None
    request_id: str | None

    @property
    def who(self) -> str:
        """The key's id and name, or `cli`; an operator who acted for the client is called one."""
        key = f"{self.actor_key} " if self.actor_key else ""
        return f"{key}{self.actor}{' (operator)' if self.acts_for else ''}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: `since` inclusive, `until` exclusive; `actor` is a key's id or name, both as shown, or cli.

    A text that no row can hold is refused with Invalid.
    """

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    subject_id: UUID | None = None

    def __post_init__(self) -> None:
        check_text(self.actor, field="actor")
        check_text(self.action, field="action")


async def write(conn: Conn, tenant_id: UUID, change: Change, *, actor: Actor, id: UUID | None = None) -> None:
    """Add an entry to the caller's open transaction: of `before` and `after` what differs, secrets masked."""
    before, after = _differing(change.before, change.after)
    await conn.execute(
        """INSERT INTO audit_log (id, tenant_id, actor, actor_key, acts_for, action, subject_type, subject_id, before,
                                  after, ip, request_id)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            id or _ids(), tenant_id, actor.name, actor.key_id, actor.acts_for, change.action, change.subject,
            change.subject_id, _json(before), _json(after), actor.ip, actor.request_id,
        ),
    )  # fmt: skip


def fields_of(record: object, names: Iterable[str]) -> dict[str, Any]:
    """Return these attributes of a record as an entry shows them, by their API names."""
    return {_camel(name): getattr(record, name) for name in names}


def without_secrets(value: Any) -> Any:
    """Return a value as JSON may hold it, with all that is secret replaced by ***: by its name, or as it is spelled."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return value.name
        case Mapping():
            return {
                str(name): MASK if is_secret(str(name)) else without_secrets(inner) for name, inner in value.items()
            }
        case list() | tuple() | set() | frozenset():
            shown = [without_secrets(inner) for inner in value]
            return shown if isinstance(value, (list, tuple)) else sorted(shown)
        case datetime():
            return value.isoformat()
        case _:
            return _masked_text(str(value))


def _masked_text(text: str) -> str:
    url = _URL_SECRETS.match(text)
    if url:
        query = f"?{MASK}" if "?" in text or "#" in text else ""
        text = f"{url[1]}{url[2]}{query}"
    return _SECRET_TEXT.sub(rf"\1{MASK}", text)


def _differing(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Only the fields that changed, where there are both; compared as they are, before anything is masked."""
    if before is None or after is None:
        return before, after
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}


def _json(fields: Mapping[str, Any] | None) -> Jsonb | None:
    return None if fields is None else Jsonb({name: _shown(name, value) for name, value in fields.items()})


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, Known):
        return value.seen
    if name == _HEADERS and value:
        return masked(value.items())
    return MASK if value is not None and is_secret(name) else without_secrets(value)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_COLUMNS = sql.SQL(
    """id, tenant_id, at, actor, actor_key, acts_for, action, subject_type, subject_id, before, after, ip, request_id"""
)
_WHERE = sql.SQL(
    """ FROM audit_log WHERE (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s) AND id < %(after)s
          AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
          AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
          AND (%(actor)s::text IS NULL OR actor = %(actor)s OR actor_key::text = %(actor)s
               OR actor_key::text || ' ' || actor || CASE WHEN acts_for THEN ' (operator)' ELSE '' END = %(actor)s)
          AND (%(action)s::text IS NULL OR action = %(action)s)
          AND (%(subject)s::uuid IS NULL OR subject_id = %(subject)s) """
)


async def list_(
    conn: Conn, tenant_id: UUID | None, wanted: Wanted, *, first: int, after: UUID | None = None
) -> Page[Entry]:
    """Return a client's entries, newest first; None: those of all clients."""
    rows = await conn.execute(
        sql.SQL("SELECT ") + _COLUMNS + _WHERE + sql.SQL("ORDER BY id DESC LIMIT %(limit)s"),
        _parameters(tenant_id, wanted, after=after, limit=first + 1),
        prepare=False,
    )
    return page([Entry(*row) for row in await rows.fetchall()], first=first, after=after)


async def count(conn: Conn, tenant_id: UUID | None, wanted: Wanted) -> int | None:
    """Count a client's entries, or with None those of all; None above 10 000."""
    rows = await conn.execute(
        sql.SQL("SELECT count(*) FROM (SELECT 1") + _WHERE + sql.SQL("LIMIT %(limit)s) x"),
        _parameters(tenant_id, wanted, after=None, limit=COUNT_LIMIT + 1),
        prepare=False,
    )
    return exact_count((await rows.fetchall())[0][0])


def _parameters(tenant_id: UUID | None, wanted: Wanted, *, after: UUID | None, limit: int) -> dict[str, Any]:
    return {
        "tenant": tenant_id,
        "after": after or NEWEST,
        "limit": limit,
        "since": wanted.since,
        "until": wanted.until,
        "actor": wanted.actor,
        "action": wanted.action,
        "subject": wanted.subject_id,
    }


async def forget(conn: Conn, *, keep_days: int, limit: int = 5_000) -> int:
    """Remove the oldest entries that are older than `keep_days` (30 at least), in the caller's transaction; how many."""
    await conn.execute("SELECT set_config('relay.audit_retention', 'on', true)")
    done = await conn.execute(
        """DELETE FROM audit_log WHERE id IN (
               SELECT id FROM audit_log WHERE id < %s AND at < now() - make_interval(days => greatest(%s, 30))
               ORDER BY id LIMIT %s)""",
        (floor_at(time.time() - (keep_days - 1) * _DAY_S), keep_days, limit),
    )
    return done.rowcount
