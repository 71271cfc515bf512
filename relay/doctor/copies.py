"""What is left when the primary is gone: backups, the archived log, replicas."""

from __future__ import annotations

from datetime import datetime

from relay.doctor.postgres import Server, show, value
from relay.doctor.proxy import connect
from relay.doctor.verdict import Check, Verdict, bad, doubtful, good, unseen

#: A backup a day, and two hours for it to be made.
_BACKUP_H = 26.0
_LAG_BYTES, _LAG_S = 16 << 20, 30.0


async def backup_age(server: Server) -> Verdict:
    """Whether the newest backup is of the last day, as far as the doctor is told."""
    age = server.given.backup_age_h
    if age is None:
        return unseen(
            "when the newest backup was made.",
            "Tell it: `--backup-age HOURS`, or `--backup-file PATH` of the newest one.",
        )
    if age > _BACKUP_H:
        return bad(
            f"The newest backup is {age:.0f} hours old; {_BACKUP_H:.0f} are the limit.",
            "See why no newer backup was made, and make one now.",
        )
    return good(f"The newest backup is {age:.0f} hours old.")


async def archiving(server: Server) -> Verdict:
    """Whether the write-ahead log is archived, without which a backup brings back its own moment only."""
    if await show(server.conn, "archive_mode") == "off":
        return doubtful(
            "archive_mode is off: after a loss only the moment of a backup comes back.",
            "Archive the write-ahead log, unless your provider does so by itself.",
        )
    rows = await server.conn.execute(
        """SELECT archived_count, failed_count, last_archived_time, last_failed_time,
                  last_failed_time IS NOT NULL AND last_failed_time > coalesce(last_archived_time, '-infinity'), now()
           FROM pg_stat_archiver"""
    )
    row = await rows.fetchone()
    assert row is not None
    archived, failed, last, last_failed, failing, now = row
    if failing:
        return bad(
            f"Archiving the write-ahead log failed {_ago(last_failed, now)}, {failed} times in all: it fills the disk.",
            "See archive_command and its errors in the log of Postgres.",
        )
    if not archived:
        return unseen(
            "any segment that was archived since Postgres's numbers were reset.",
            "Run `SELECT pg_switch_wal()` and ask again.",
        )
    return good(f"{archived} segments of the write-ahead log are archived, the last {_ago(last, now)}.")


def _ago(then: datetime, now: datetime) -> str:
    return f"{(now - then).total_seconds() / 60:.0f} min ago"


async def replica_lag(server: Server) -> Verdict:
    """Whether replicas follow closely: those that the primary knows, and the one of DATABASE_REPLICA_URL."""
    if server.given.settings.database_replica_url:
        found = await _replica_of_the_url(server)
        if found is not None:
            return found
    rows = await server.conn.execute(
        """SELECT coalesce(application_name, '?'), pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint,
                  extract(epoch FROM replay_lag)::float8 FROM pg_stat_replication
           WHERE state IS DISTINCT FROM 'backup' AND NOT pg_is_in_recovery()"""
    )
    lags = await rows.fetchall()
    if not lags:
        return doubtful(
            "No replica follows this Postgres: when its machine is lost, a backup has to be restored.",
            "Run a standby, unless your provider keeps one that Postgres does not show.",
        )
    if any(behind is None for _, behind, _ in lags):
        return unseen(
            f"how far {len(lags)} replicas are behind, which this user may not read.",
            "Grant the role pg_monitor to Relay's user.",
        )
    name, behind, seconds = max(lags, key=lambda lag: lag[1])
    reason = f"Of {len(lags)} replicas, {name} is furthest behind: {behind / (1 << 20):.1f} MiB, {seconds or 0:.0f} s."
    return _judged(reason, behind=behind, seconds=seconds or 0)


async def _replica_of_the_url(server: Server) -> Verdict | None:
    """What is wrong with the replica of DATABASE_REPLICA_URL; None: nothing is."""
    here = await value(server.conn, "SELECT pg_current_wal_lsn()::text")
    async with await connect(server.given.settings.database_replica_url) as replica:
        if not await value(replica, "SELECT pg_is_in_recovery()"):
            return doubtful(
                "DATABASE_REPLICA_URL names no standby: reads that may be stale go to a primary.",
                "Name a standby in DATABASE_REPLICA_URL, or leave it empty.",
            )
        behind = int(
            str(await value(replica, "SELECT pg_wal_lsn_diff(%s::pg_lsn, pg_last_wal_replay_lsn())::bigint", here))
        )
    found = _judged(
        f"The replica of DATABASE_REPLICA_URL is {behind / (1 << 20):.1f} MiB behind.", behind=behind, seconds=0
    )
    return found if found.fix else None


def _judged(reason: str, *, behind: int, seconds: float) -> Verdict:
    if behind > _LAG_BYTES or seconds > _LAG_S:
        return bad(
            f"{reason} The limits are {_LAG_BYTES >> 20} MiB and {_LAG_S:.0f} s.",
            "See that the replica is up, is not paused, and has the disks and network of the primary.",
        )
    return good(reason)


CHECKS = (
    Check("backup-age", backup_age),
    Check("wal-archiving", archiving),
    Check("replica-lag", replica_lag),
)
