"""The role that may call `relay.send_event` and nothing else, and the path on which Relay's own role finds its tables."""

from __future__ import annotations

import logging

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from relay.partitions import home

ROLE = "relay_producer"
_LOG = logging.getLogger(__name__)


def ensure(conn: Connection[TupleRow]) -> None:
    """Make the role where Relay's own may, let it call `relay.send_event`, and keep Relay's tables first in the path.

    Without the right to make roles it says in the log what is missing; all else works. Needs autocommit, safe to repeat.
    """
    _keep_path(conn)
    if not _exists(conn):
        _create(conn)
    if _exists(conn):
        _grant(conn)


def _exists(conn: Connection[TupleRow]) -> bool:
    return conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() is not None


def _create(conn: Connection[TupleRow]) -> None:
    try:
        conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(ROLE)))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return  # another database of this server was migrated at the same moment
    except psycopg.errors.InsufficientPrivilege:
        _LOG.info("there is no role %s, and this one may not make it: docs/outbox.md says what to do", ROLE)


def _grant(conn: Connection[TupleRow]) -> None:
    missing = conn.execute(
        """SELECT FROM pg_proc p WHERE p.pronamespace = 'relay'::regnamespace AND p.proname = 'send_event'
             AND NOT (has_function_privilege(%s, p.oid, 'EXECUTE') AND has_schema_privilege(%s, 'relay', 'USAGE'))""",
        (ROLE, ROLE),
    )
    if missing.fetchone() is not None:
        conn.execute(
            """GRANT USAGE ON SCHEMA relay TO relay_producer;
               GRANT EXECUTE ON FUNCTION
                   relay.send_event(text, text, bytea, text, jsonb, text, int, timestamptz, text),
                   relay.send_event(text, text, text, text, jsonb, text, int, timestamptz, text),
                   relay.send_event(text, text, jsonb, text, jsonb, text, int, timestamptz)
               TO relay_producer"""
        )


def _keep_path(conn: Connection[TupleRow]) -> None:
    """The schema `relay` comes first in the path of a role of that name, and a release before this one would make its
    tables anew in it: have it come no more, in this database."""
    if conn.execute("SELECT current_schema()").fetchone() == (home(conn),):
        return
    row = conn.execute("SELECT current_user::text, current_database()::text").fetchall()[0]
    conn.execute(
        sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}").format(
            *(sql.Identifier(name) for name in row), sql.Identifier(home(conn))
        )
    )
