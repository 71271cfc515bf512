"""Relay's own processes, as their beats in Postgres show them: the clock, web, workers."""

from __future__ import annotations

from relay import presence
from relay.delivery import beats
from relay.doctor.postgres import Server
from relay.doctor.verdict import Check, Scope, Verdict, bad, doubtful, good

_LEAST_WEB, _LEAST_WORKERS = 2, 3
_LONGEST_WAIT_S = 60.0


async def clock_leader(server: Server) -> Verdict:
    """Whether some worker's clock holds the lease, without which nothing that is due is started."""
    rows = await server.conn.execute(
        "SELECT extract(epoch FROM until - now())::float8 FROM leases WHERE name = 'clock'"
    )
    row = await rows.fetchone()
    if row is None:
        return bad("No clock has ever led: no worker ran on this database.", "Start workers (`relay worker`).")
    if row[0] < 0:
        return bad(
            f"No clock has led for {-row[0]:.0f} s: retries and scheduled events wait.",
            "Start workers (`relay worker`), and see in their logs what the clock says.",
        )
    return good("The clock of a worker leads.")


async def sql_events(server: Server) -> Verdict:
    """Whether what `relay.send_event` was called for is taken in, and none of it was refused."""
    rows = await server.conn.execute(
        """SELECT (SELECT extract(epoch FROM clock_timestamp() - sent_at)::float8 FROM producer_events
                   WHERE refused IS NULL ORDER BY n LIMIT 1),
                  (SELECT count(*) FROM producer_events WHERE refused IS NOT NULL)"""
    )
    waits_s, refused = (await rows.fetchall())[0]
    if waits_s is not None and waits_s > _LONGEST_WAIT_S:
        return bad(
            f"Events from SQL (relay.send_event) wait, the oldest for {waits_s:.0f} s.",
            "See in the log of the worker whose clock leads why they are not taken in.",
        )
    if refused:
        return doubtful(
            f"{refused} events from SQL (relay.send_event) were refused and are set aside.",
            "Their reasons are in producer_events; docs/outbox.md says how to let them come again.",
        )
    return good("No event from SQL waits or was refused.")


async def web_processes(server: Server) -> Verdict:
    """Whether a second web process accepts events when one ends."""
    count, hosts = await presence.alive(server.conn)
    reason = f"{count} web processes on {hosts} machines beat; {_LEAST_WEB} are needed."
    if count < _LEAST_WEB:
        return bad(reason, "Start more web processes (WEB_CONCURRENCY, or more machines).")
    return good(reason)


async def worker_processes(server: Server) -> Verdict:
    """Whether enough workers are left when one ends."""
    count = await beats.alive(server.conn)
    reason = f"{count} worker processes beat; {_LEAST_WORKERS} are needed."
    if count < _LEAST_WORKERS:
        return bad(reason, "Start more worker processes (WORKER_PROCESSES, or more machines).")
    return good(reason)


CHECKS = (
    Check("clock-leader", clock_leader, Scope.EVERYWHERE),
    Check("sql-events", sql_events, Scope.EVERYWHERE),
    Check("web-processes", web_processes),
    Check("worker-processes", worker_processes),
)
