"""How Relay connects to Postgres: what it asks of a server, and what it makes of a pooler or a standby in the way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_dumps

from relay.errors import Unavailable

Conn = AsyncConnection[TupleRow]

_CONNECT_S = 5
#: With several hosts the next one is tried sooner: the first may be a machine that is gone and refuses nothing.
_CONNECT_ONE_OF_S = 2
#: A machine that vanished answers nothing, not even with a refusal: the kernel gives its connections up after 10 s,
#: whether a statement was on its way (`tcp_user_timeout`) or its result was waited for (keep-alives).
_VANISHED = {
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_LOG = logging.getLogger(__name__)

set_json_dumps(msgspec.json.encode)  # a tenth of what the standard library takes; headers are written for each attempt


def conninfo(url: str) -> str:
    """The URL with Relay's time-outs; what the URL itself says about them stands."""
    given = conninfo_to_dict(url)
    seconds = _CONNECT_ONE_OF_S if "," in str(given.get("host") or "") else _CONNECT_S
    options: dict[str, Any] = {"connect_timeout": seconds, "application_name": "relay", **_VANISHED, **given}
    return make_conninfo("", **options)


def connect(url: str) -> Connection[TupleRow]:
    """Connect for schema work: each statement is its own transaction, and nothing is prepared, as poolers need it."""
    return psycopg.connect(conninfo(url), autocommit=True, prepare_threshold=None)


def remembering(on_refused: Callable[[Exception], None]) -> type[Conn]:
    """A class of connections that tells why one could not be made: a pool only says that it has none."""

    class Remembering(AsyncConnection[TupleRow]):
        @classmethod
        async def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:
            try:
                return await super().connect(conninfo, **kwargs)
            except psycopg.Error as cause:
                on_refused(cause)
                raise

    return Remembering


async def prepare_writer(conn: Conn) -> None:
    """Refuse a server on which accepted events could be lost, or that only reads; prepare nothing through a pooler."""
    rows = await conn.execute(
        "SELECT current_setting('synchronous_commit'), current_setting('transaction_read_only'), pg_backend_pid()"
    )
    ((durability, read_only, pid),) = await rows.fetchall()
    if durability == "off":
        raise Unavailable("Postgres has synchronous_commit off by default: accepted events could be lost. Turn it on.")
    if read_only == "on":
        raise Unavailable("The Postgres of DATABASE_URL only reads: it is a standby, or was set read-only.")
    _mind_a_pooler(conn, pid=pid)


async def prepare_reader(conn: Conn) -> None:
    """Prepare nothing through a pooler."""
    ((pid,),) = await (await conn.execute("SELECT pg_backend_pid()")).fetchall()
    _mind_a_pooler(conn, pid=pid)


def _mind_a_pooler(conn: Conn, *, pid: int) -> None:
    """A pooler tells its clients process numbers of its own, and may lend the session to another of them next."""
    if pid != conn.info.backend_pid and conn.prepare_threshold is not None:
        conn.prepare_threshold = None
        _LOG.warning("a pooler stands before Postgres, so nothing is prepared: set DATABASE_PGBOUNCER=true")


def one_line(error: Exception) -> str:
    """What an error of libpq says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
