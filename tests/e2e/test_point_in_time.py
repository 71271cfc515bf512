"""docs/backups.md, followed line by line on Debian's Postgres: back to a moment, by a dump, and old days as files."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from relay import partitions
from relay.cli.main import main
from relay.delivery import beats
from relay.migrate import migrate
from relay.settings import Settings
from tests.aged import fill
from tests.debian import DebianPostgres, debian_cluster
from tests.documents import ROOT, blocks_of
from tests.e2e.system import wait_until
from tests.running import until, until_so, until_true, worker
from tests.shop import Shop, accepted, open_shop
from tests.sink import Answer, Arrival, Sink

pytestmark = pytest.mark.system
BLOCKS = [block.text for block in blocks_of(ROOT / "docs" / "backups.md") if block.language in ("sh", "conf", "sql")]
TODAY = datetime.now(UTC).date()
OLD = TODAY - timedelta(days=40)
PATIENT = {"retry_schedule": [100], "max_retries": 100, "circuit_reset_ms": 500}


class Page:
    """The blocks of the page, by a word that only one of them holds, with this test's folders in them."""

    def __init__(self, server: DebianPostgres) -> None:
        self._server = server
        self._left = list(BLOCKS)

    def block(self, word: str, **more: str) -> str:
        """Take a block, which must not have been taken before; `more` stands for other words of it."""
        (text,) = [block for block in BLOCKS if word in block]
        self._left.remove(text)
        replaced = {
            "/var/backups/relay": str(self._server.folder / "backups"),
            "/var/lib/postgresql/15": str(self._server.folder),
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        for old, new in replaced.items():
            text = text.replace(old, new)
        return text

    def finish(self) -> None:
        """Nothing on the page was left out."""
        assert self._left == []


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    with debian_cluster() as server:
        yield server


@pytest.fixture(scope="module")
def page(server: DebianPostgres) -> Iterator[Page]:
    """The page, whose first block configures the server; in the end all of it was followed."""
    page = Page(server)
    server.run("mkdir -p backups/{base,wal}")
    server.write(server.data / "postgresql.conf", page.block("archive_command"))
    server.start()
    migrate(server.url)
    yield page
    page.finish()


async def relay(settings: Settings, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Run lines that begin with `relay`, each to its good end."""
    for name in ("database_url", "redis_url", "signing_key"):
        monkeypatch.setenv(name.upper(), getattr(settings, name))
    for line in script.splitlines():
        assert await asyncio.to_thread(main, shlex.split(line)[1:]) == 0, line


async def test_old_days_as_files_and_a_dump_are_read_without_relay(
    server: DebianPostgres, page: Page, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(server.url, autocommit=True) as conn:
        partitions.ensure(conn, now=datetime.combine(OLD, datetime.min.time(), UTC))
        fill(conn, OLD, 50)
        before = conn.execute("SELECT * FROM events ORDER BY id").fetchall()
        mine = settings.model_copy(update={"database_url": server.url})
        # The files belong to whoever runs `relay`.
        backups = server.folder / "backups"
        backups.chmod(0o777)
        await relay(mine, monkeypatch, page.block("relay archive put", **{"2026_10_01": str(OLD)}))
        assert conn.execute("SELECT count(*) FROM events").fetchall() == [(0,)]
        for path in (backups / "days").rglob("*"):
            path.chmod(0o755)
        (backups / "days").chmod(0o755)
        server.run(page.block("CREATE TABLE looked_at", **{"2026_10_01": str(OLD)}))
        assert conn.execute("SELECT * FROM looked_at ORDER BY id").fetchall() == before
        conn.execute("DROP TABLE looked_at")
        conn.execute("CREATE DATABASE restored")
        restored = server.url.removesuffix("relay") + "restored"
        fill(conn, TODAY, 20)
        server.run(page.block("pg_dump"), RESTORED_URL=restored)
        with psycopg.connect(restored) as other:
            rows = "SELECT * FROM attempts ORDER BY delivery_id"
            assert other.execute(rows).fetchall() == conn.execute(rows).fetchall()
        migrate(restored)
        conn.execute("TRUNCATE events, history, attempts, fanouts, dead_letters")


class Receiver:
    """Answers so that at T some deliveries have arrived, some wait and some are being sent; later all arrive."""

    def __init__(self) -> None:
        self.broken = {"/later", "/fifo"}
        self.hangs = True

    def __call__(self, arrival: Arrival) -> Answer:
        if arrival.path == "/slow" and self.hangs:
            return Answer(delay_s=60)
        return Answer(503 if arrival.path in self.broken else 200)


async def test_back_to_a_moment_before_the_damage(
    server: DebianPostgres, page: Page, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = settings.model_copy(update={"database_url": server.url})
    receiver = Receiver()
    with Sink(receiver) as sink:
        ids, moment = await until_the_damage(server, page, mine, sink, tmp_path)
        before = len(sink.arrivals)
        page_restores(server, page, moment)
        receiver.broken, receiver.hangs = set(), False
        await relay(mine, monkeypatch, page.block("relay queue rebuild"))
        running = worker(mine, tmp_path / "worker-after.log")
        try:
            async with open_shop(mine) as shop:
                await what_waited_arrives(shop, sink, ids)
                (again,) = accepted(await shop.accept(shop.event(idempotency_key="after")))
                assert str(again.id) not in ids
                await until(lambda: "/good" in delivered(sink, before), what="new events arrive")
                await until_so(lambda: nothing_waits(shop))
            await relay(mine, monkeypatch, page.block("relay verify"))
        finally:
            running.kill()
            print(running.text())
        after = delivered(sink, before)
        assert set(after["/later"]) == {*ids, str(again.id)}, (
            "what was delivered after T comes again, under the same id"
        )
        assert set(after["/slow"]) == set(after["/paused"]) == {*ids, str(again.id)}, "what waited or was sent comes"
        assert after["/fifo"] == [*ids, str(again.id)], "in order"
        assert after["/good"] == [str(again.id)], "what had arrived at T does not come again"


async def until_the_damage(
    server: DebianPostgres, page: Page, settings: Settings, sink: Sink, tmp_path: Path
) -> tuple[list[str], str]:
    """Live for a while, take a backup, live on, and then do damage; return the events before T, and T."""
    running = worker(settings, tmp_path / "worker-before.log")
    try:
        async with open_shop(settings) as shop:
            for path in ("/good", "/later", "/slow", "/fifo", "/paused"):
                # A probe that was under way at T keeps its circuit open for so long, and 15 s.
                timeout_ms = 30_000 if path == "/slow" else 1_000
                url = sink.url(path)
                endpoint_id = await shop.endpoint(url, fifo=path == "/fifo", timeout_ms=timeout_ms, **PATIENT)
            await shop.pause(endpoint_id)
            ids = await shop.send(5)
            await until(lambda: len(sink.events("/good")) == 5, what="arrivals before the backup")
            await asyncio.to_thread(server.run, page.block("pg_basebackup"))
            ids += await shop.send(5)
            await until(
                lambda: len(sink.events("/good")) == 10 and bool(sink.events("/slow")), what="arrivals before T"
            )
            await until(lambda: len(sink.events("/later")) > 0, what="failures before T")
            async with shop.web.db.connection() as conn:
                await until_true(conn, "SELECT count(*) = 10 FROM history WHERE state = 'delivered'")
                ((moment,),) = await (await conn.execute("SELECT now()::text")).fetchall()
            sink.answer.broken.discard("/later")  # pyright: ignore[reportFunctionMemberAccess]
            accepted(await shop.accept(shop.event(idempotency_key="after")))
            await until(lambda: len(sink.events("/good")) == 11, what="an arrival after T")
            await until(lambda: len(sink.events("/later")) >= 10, what="arrivals after T")
            running.kill()
            await shop.send(1)  # the last thing that Redis hears of
    finally:
        running.kill()
    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute("DELETE FROM live")
        conn.execute("DELETE FROM endpoints")
        archived(conn)
    behind = server.run(f'psql "$DATABASE_URL" --tuples-only --csv --command "{page.block("pg_stat_archiver")}"')
    assert behind.strip().endswith("f"), behind
    assert "START TIME" in server.run(page.block("START TIME"))
    server.stop()
    return ids, moment


def archived(conn: Connection[TupleRow]) -> None:
    """Wait until the WAL up to now lies in the archive."""
    ((name,),) = conn.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchall()
    newest = "SELECT last_archived_wal FROM pg_stat_archiver"
    wait_until(lambda: (conn.execute(newest).fetchall()[0][0] or "") >= name, what="the archive of the WAL")


def page_restores(server: DebianPostgres, page: Page, moment: str) -> None:
    """Follow the steps of the page until Postgres is no longer in recovery."""
    base = f"{datetime.now(UTC):%Y-%m-%d}"
    server.run(page.block("recovery.signal", **{"2026_10_01": base}))
    recovery = page.block("recovery_target_time").replace("2026-10-01 12:00:00+00", moment)
    server.write(server.data / "postgresql.auto.conf", recovery)
    server.start()
    asked = page.block("pg_is_in_recovery")
    wait_until(lambda: server.run(asked).strip() == "f", what="the end of recovery")
    lost = server.run(f'psql "$DATABASE_URL" --csv --command "{page.block("FROM events WHERE created_at")}"')
    assert len(lost.splitlines()) >= 1


async def what_waited_arrives(shop: Shop, sink: Sink, ids: list[str]) -> None:
    """All is as it was at T; what a worker of back then was sending is given back as soon as it counts as silent."""
    async with shop.web.db.connection() as conn:
        rows = await conn.execute("SELECT id::text FROM events WHERE type = 'order.paid' ORDER BY id")
        assert [row[0] for row in await rows.fetchall()] == ids
        rows = await conn.execute("SELECT no FROM workers JOIN live l ON l.owner = no WHERE no <> ALL(%s)", ([],))
        old = {row[0] for row in await rows.fetchall()}
        await conn.execute("UPDATE workers SET beat_at = beat_at - interval '1 hour' WHERE no = ANY(%s)", (list(old),))
        ((paused,),) = await (await conn.execute("SELECT endpoint_id FROM lanes WHERE paused")).fetchall()
    assert old
    for no in old:
        async with shop.web.db.transaction() as conn:
            assert no in await beats.silent(conn)
            await beats.give_back_silent(conn, no)
    await shop.resume(paused)


async def nothing_waits(shop: Shop) -> bool:
    async with shop.web.db.connection() as conn:
        rows = await conn.execute("SELECT NOT EXISTS (SELECT FROM live) AND NOT EXISTS (SELECT FROM outbox)")
        return (await rows.fetchall())[0][0]


def delivered(sink: Sink, since: int) -> dict[str, list[str]]:
    """Which events arrived at each path since the damage, in order, each once."""
    found: dict[str, list[str]] = {}
    for arrival in sink.arrivals[since:]:
        found.setdefault(arrival.path, [])
        if arrival.event_id not in found[arrival.path]:
            found[arrival.path].append(arrival.event_id)
    return found
