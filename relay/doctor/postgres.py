"""Postgres itself: reached, new enough, durable, at the right time, over an encrypted connection."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import LiteralString

from psycopg.conninfo import conninfo_to_dict

from relay.db import Conn
from relay.doctor.given import Given
from relay.doctor.proxy import through_proxy
from relay.doctor.verdict import Check, Scope, Verdict, bad, doubtful, good
from relay.migrate import newest_migration, schema_version

_OLDEST = 15
_SKEW_WARN_S, _SKEW_FAIL_S = 1.0, 5.0
_ENCRYPTED = ("require", "verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class Server:
    """A connection on which each statement is its own transaction, and what was given."""

    conn: Conn
    given: Given


async def value(conn: Conn, query: LiteralString, *parameters: object) -> object:
    """The one value that a query returns."""
    row = await (await conn.execute(query, parameters)).fetchone()
    return row[0] if row else None


async def show(conn: Conn, setting: str) -> str | None:
    """A setting of Postgres as text; None where there is none of that name."""
    found = await value(conn, "SELECT current_setting(%s, true)", setting)
    return None if found is None else str(found)


async def reachable(server: Server) -> Verdict:
    """Whether Postgres answers and takes writes."""
    began = time.monotonic()
    standby = await value(server.conn, "SELECT pg_is_in_recovery()")
    took_ms = (time.monotonic() - began) * 1000
    version = await show(server.conn, "server_version")
    if standby:
        return bad(
            f"PostgreSQL {version} answers, but is a standby that takes no writes.",
            "Name the primary in DATABASE_URL, or all hosts with target_session_attrs=read-write.",
        )
    return good(f"PostgreSQL {version} answers in {took_ms:.0f} ms and takes writes.")


async def version(server: Server) -> Verdict:
    """Whether this Postgres is one that Relay is tested with."""
    return supported(int(await show(server.conn, "server_version_num") or 0))


def supported(number: int) -> Verdict:
    """Judge a `server_version_num`."""
    if number // 10_000 < _OLDEST:
        return bad(
            f"Postgres is version {number // 10_000}, and Relay needs {_OLDEST}.",
            f"Upgrade Postgres to {_OLDEST} or later.",
        )
    return good(f"Postgres is version {number // 10_000}, and Relay needs {_OLDEST}.")


async def schema(server: Server) -> Verdict:
    """Whether the migrations of this release are applied."""
    there, needed = await schema_version(server.conn), newest_migration()
    if there < needed:
        return bad(f"The schema is at migration {there}, and this Relay needs {needed}.", "Run `relay migrate`.")
    return good(f"The schema is at migration {there}, and this Relay needs {needed}.")


async def synchronous_commit(server: Server) -> Verdict:
    """Whether a 2xx means that the event is on disk."""
    mode = await show(server.conn, "synchronous_commit")
    if mode == "off":
        return bad(
            "synchronous_commit is off: events that were accepted could be lost, so Relay refuses to work.",
            "Set synchronous_commit to on for the server, the database and the role.",
        )
    standbys = await show(server.conn, "synchronous_standby_names")
    if mode == "local" and standbys:
        return doubtful(
            f"synchronous_commit is local although {standbys} is to confirm: a failover may lose the newest.",
            "Set synchronous_commit to on.",
        )
    waits = f", confirmed by {standbys}" if standbys else ""
    return good(f"synchronous_commit is {mode}{waits}.")


async def fsync(server: Server) -> Verdict:
    """Whether what is committed survives a power cut."""
    off = [name for name in ("fsync", "full_page_writes") if await show(server.conn, name) == "off"]
    if off:
        return bad(
            f"{' and '.join(off)} off: a power cut may destroy the database.",
            f"Set {' and '.join(off)} to on and reload Postgres.",
        )
    return good("fsync and full_page_writes are on.")


async def clock_skew(server: Server) -> Verdict:
    """Whether this machine and Postgres agree on the time."""
    before = time.time()
    theirs = float(str(await value(server.conn, "SELECT extract(epoch FROM clock_timestamp())::float8")))
    skew = theirs - (before + time.time()) / 2
    reason = f"This machine's clock is {abs(skew):.1f} s {'behind' if skew > 0 else 'ahead of'} Postgres's."
    if abs(skew) >= _SKEW_FAIL_S:
        return bad(reason, "Run a time service (chrony, systemd-timesyncd) on every machine.")
    if abs(skew) >= _SKEW_WARN_S:
        return doubtful(reason, "See that the time service of both machines works.")
    return good(reason)


async def encrypted(server: Server) -> Verdict:
    """Whether this very connection is encrypted and would not have been made otherwise."""
    if str(server.conn.info.host).startswith("/"):
        return good("Postgres is reached by a Unix socket, which no network sees.")
    wanted = sslmode(server.given)
    here = bool(server.conn.pgconn.ssl_in_use)
    if await through_proxy(server.conn):
        behind = await value(server.conn, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        way = f"The way to the proxy is {_words(here)}, the one from there to Postgres {_words(bool(behind))}"
        here = here and bool(behind)
    else:
        way = f"This connection is {_words(here)}"
    reason = f"{way}; sslmode is {wanted}."
    if not here or wanted not in _ENCRYPTED:
        return bad(
            reason, "Switch TLS on in Postgres and put sslmode=verify-full (at least require) into DATABASE_URL."
        )
    return good(reason)


def sslmode(given: Given) -> str:
    """The sslmode that connections are made with."""
    written = conninfo_to_dict(given.settings.database_url).get("sslmode")
    return str(written or given.environ.get("PGSSLMODE") or "prefer")


def _words(is_encrypted: bool) -> str:  # noqa: FBT001
    return "encrypted" if is_encrypted else "in the clear"


CHECKS = (
    Check("postgres", reachable, Scope.EVERYWHERE),
    Check("postgres-version", version, Scope.EVERYWHERE),
    Check("schema", schema, Scope.EVERYWHERE),
    Check("synchronous-commit", synchronous_commit, Scope.EVERYWHERE),
    Check("fsync", fsync),
    Check("clock-skew", clock_skew),
    Check("database-tls", encrypted),
)
