"""Web processes and their beats: who is there, for whoever asks. Nothing is decided by it, so a beat may fail.

A process beats every 5 s in Postgres time and takes its row away when it ends; the row of one that was killed goes after
a minute. A schema that is older than this code has no such table, and a newer one may have no use for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from uuid import UUID, uuid4

import psycopg

from relay.db import LOST, Conn, Database
from relay.errors import RelayError

BEAT_S = 5.0
#: Who has not beaten for so long is not there: two beats may be late.
SILENT_S = 15.0
_GONE_S = 60.0
_END_S = 1.0
_HARMLESS = (*LOST, psycopg.Error, RelayError)
_LOG = logging.getLogger(__name__)


class Presence:
    """This web process in the list of those that live."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._id = uuid4()
        self._listed = False

    async def beat(self) -> None:
        """Beat once, and remove who has been silent for a minute. Never raises what Postgres may answer."""
        try:
            async with self._db.connection() as conn:
                await _beat(conn, self._id)
            self._listed = True
        except _HARMLESS as cause:
            _LOG.debug("no beat: %s", cause)

    async def end(self) -> None:
        """Leave the list, within a second or not at all."""
        if not self._listed:
            return
        with suppress(TimeoutError, *_HARMLESS):
            async with asyncio.timeout(_END_S), self._db.connection() as conn:
                await conn.execute("DELETE FROM web_processes WHERE id = %s", (self._id,))


async def _beat(conn: Conn, id: UUID) -> None:
    await conn.execute(
        """WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
                gone AS (DELETE FROM web_processes WHERE beat_at < now() - make_interval(secs => %(gone_s)s) AND id <> %(id)s)
           INSERT INTO web_processes (id, host, pid) SELECT %(id)s, %(host)s, %(pid)s FROM s
           ON CONFLICT (id) DO UPDATE SET beat_at = now()""",
        {"gone_s": _GONE_S, "id": id, "host": socket.gethostname(), "pid": os.getpid()},
    )


async def alive(conn: Conn) -> tuple[int, int]:
    """Web processes that beat, and the machines they are on."""
    rows = await conn.execute(
        "SELECT count(*), count(DISTINCT host) FROM web_processes WHERE beat_at >= now() - make_interval(secs => %s)",
        (SILENT_S,),
    )
    row = await rows.fetchone()
    return (row[0], row[1]) if row else (0, 0)
