"""docs/outbox.md: every block of it runs, and does what the page says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import psycopg
import pytest

from tests.documents import ROOT, blocks_of

PAGE = ROOT / "docs" / "outbox.md"


def block(language: str, holds: str) -> str:
    """The one block of this language that holds this text."""
    (text,) = [one.text for one in blocks_of(PAGE) if one.language == language and holds in one.text]
    return text


class Application:
    """An application's database: its orders, and Relay in the same."""

    def __init__(self, url: str) -> None:
        self.conn = psycopg.connect(url, autocommit=True)
        self.conn.execute(
            "CREATE TABLE orders (id int PRIMARY KEY, paid bool DEFAULT false, shipped bool DEFAULT false)"
        )
        self.conn.execute("INSERT INTO orders SELECT generate_series(41, 45)")
        self.conn.execute("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'shop')")

    def run(self, holds: str) -> psycopg.Cursor[Any]:
        """Run the SQL block that holds this text."""
        return self.conn.execute(block("sql", holds).encode())

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self.conn.execute(query.encode()).fetchall()


@pytest.fixture
def app(database_url: str) -> Iterator[Application]:
    app = Application(database_url)
    yield app
    app.conn.close()


def test_no_block_is_left_out() -> None:
    assert [one.language for one in blocks_of(PAGE)] == ["sql"] * 3 + ["python"] * 2 + ["sql"] * 3


def test_plain_sql_a_trigger_and_what_is_refused(app: Application) -> None:
    app.run("'order-42-paid'")
    assert app.ask("SELECT id FROM orders WHERE paid") == [(42,)]
    app.run("CREATE TRIGGER")
    app.conn.execute("UPDATE orders SET shipped = true WHERE id IN (41, 42)")
    app.conn.execute("UPDATE orders SET shipped = true, paid = false WHERE id = 42")
    assert app.ask("SELECT type, convert_from(payload, 'UTF8')::jsonb, key FROM producer_events ORDER BY n") == [
        ("order.paid", {"order": 42}, "order-42-paid"),
        ("order.shipped", {"id": 41, "paid": False, "shipped": True}, "order-41-shipped"),
        ("order.shipped", {"id": 42, "paid": True, "shipped": True}, "order-42-shipped"),
    ]
    app.conn.execute("UPDATE producer_events SET refused = 'of the test'")
    assert [row[-1] for row in app.run("SELECT n, id").fetchall()] == ["of the test"] * 3
    app.run("SET refused = NULL")
    assert len(app.run("SELECT n, id").fetchall()) == 2


def test_the_role_is_there_and_can_be_given(app: Application) -> None:
    with pytest.raises(psycopg.errors.DuplicateObject):
        app.run("CREATE ROLE relay_producer")
    app.conn.execute("CREATE ROLE shop_app")
    try:
        app.run("GRANT relay_producer")
        app.conn.execute("SET ROLE shop_app")
        app.conn.execute("SELECT relay.send_event('shop', 'order.paid', '{}')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.ask("SELECT * FROM producer_events")
    finally:
        app.conn.execute("RESET ROLE")
        app.conn.execute("DROP ROLE shop_app")


def test_python_with_psycopg(app: Application) -> None:
    names: dict[str, Any] = {}
    exec(compile(block("python", "import psycopg"), str(PAGE), "exec"), names)
    _pays(app, lambda order: names["pay"](app.conn, order))


def test_python_with_a_cursor_where_djangos_would_be(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    db, django = ModuleType("django.db"), ModuleType("django")
    db.__dict__.update(connection=app.conn, transaction=Atomic(app.conn))
    monkeypatch.setitem(sys.modules, "django", django)
    monkeypatch.setitem(sys.modules, "django.db", db)
    names: dict[str, Any] = {}
    exec(compile(block("python", "django"), str(PAGE), "exec"), names)
    _pays(app, names["pay"])


class Atomic:
    """Django's `transaction`, as far as the page uses it."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    def atomic(self, do: Any) -> Any:
        @contextmanager
        def around() -> Iterator[None]:
            with self._conn.transaction():
                yield

        return around()(do)


def _pays(app: Application, pay: Any) -> None:
    """It marks the order and sends the event, and neither where the event is refused."""
    pay(43)
    app.conn.execute("UPDATE tenants SET unknown_event_types = 'refuse'")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"order\.paid is not known"):
        pay(44)
    assert app.ask("SELECT id FROM orders WHERE paid") == [(43,)]
    assert app.ask("SELECT payload, key FROM producer_events") == [(b'{"order": 43}', "order-43-paid")]
