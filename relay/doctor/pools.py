"""Connections: whether all processes may have theirs at once, and whether a pooler in between fits the settings."""

from __future__ import annotations

from relay import presence
from relay.delivery import beats
from relay.doctor.postgres import Server
from relay.doctor.proxy import Mode, mode_of, through_proxy
from relay.doctor.verdict import Check, Verdict, bad, doubtful, good, unseen

#: Kept free for migrations, this command and whoever looks into the database by hand.
_SPARE = 5
#: A new release starts a quarter more processes than run before it.
_SURGE = 1.25


async def pgbouncer(server: Server) -> Verdict:
    """Whether DATABASE_PGBOUNCER says what stands between."""
    said = server.given.settings.database_pgbouncer
    if not await through_proxy(server.conn):
        if said:
            return doubtful(
                "DATABASE_PGBOUNCER is true, but this connection goes to Postgres itself: plans are made anew.",
                "Name PgBouncer in DATABASE_URL, or set DATABASE_PGBOUNCER=false.",
            )
        return good("Connections go to Postgres itself, and DATABASE_PGBOUNCER is false.")
    mode = await mode_of(server.conn, server.given.settings.database_url)
    if mode is Mode.STATEMENT:
        return bad(
            "A pooler stands between and takes no transactions (statement mode).",
            "Set pool_mode = transaction in PgBouncer.",
        )
    if mode is Mode.SESSION:
        return doubtful(
            "A pooler stands between in session mode: each of Relay's connections keeps one of Postgres.",
            "Set pool_mode = transaction in PgBouncer, and DATABASE_PGBOUNCER=true.",
        )
    if not said:
        return bad(
            "A pooler in transaction mode stands between and DATABASE_PGBOUNCER is false: statements are prepared"
            " on connections that somebody else gets.",
            "Set DATABASE_PGBOUNCER=true.",
        )
    return good("A pooler in transaction mode stands between, and DATABASE_PGBOUNCER is true.")


async def connections(server: Server) -> Verdict:
    """Whether `max_connections` is enough for the pools of all living processes, and for a release on top."""
    row = await (
        await server.conn.execute(
            """SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                      - coalesce(current_setting('reserved_connections', true)::int, 0),
                      coalesce((SELECT sum(numbackends) FROM pg_stat_database), 0)::int,
                      (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'relay%%')::int"""
        )
    ).fetchone()
    assert row is not None
    limit, used, ours = row
    if await through_proxy(server.conn):
        reason = f"how many connections the pooler in between opens at most; now {used} of {limit} are in use."
        return unseen(reason, "See that the sum of PgBouncer's pools is below max_connections of Postgres.")
    return judged(server, limit=limit, others=max(0, used - ours), processes=await _processes(server))


async def _processes(server: Server) -> int:
    """Those that live; before the first release those that this environment would start."""
    web, _ = await presence.alive(server.conn)
    settings = server.given.settings
    return web + await beats.alive(server.conn) or settings.web_concurrency + settings.worker_processes


def judged(server: Server, *, limit: int, others: int, processes: int) -> Verdict:
    """Compare what may be opened with what Postgres takes."""
    each = server.given.settings.database_max_conns
    needed = processes * each + others + _SPARE
    reason = (
        f"{processes} processes with {each} connections each, {others} of others and {_SPARE} to spare are {needed}"
        f" of {limit}"
    )
    fix = "Raise max_connections, lower DATABASE_MAX_CONNS, or put PgBouncer in between."
    if needed > limit:
        return bad(f"{reason}: too many.", fix)
    if processes * each * _SURGE + others + _SPARE > limit:
        return doubtful(f"{reason}: a release, which runs a quarter more for a while, has no room.", fix)
    return good(f"{reason}.")


CHECKS = (
    Check("pgbouncer", pgbouncer),
    Check("max-connections", connections),
)
