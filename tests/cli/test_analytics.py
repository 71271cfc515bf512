"""`relay analytics rebuild`: the same numbers again, killed or not."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from relay.cli.main import main
from relay.db import Conn
from relay.insight import rollups
from relay.settings import Settings
from tests.insight.test_rollups import busy_hours, kept, reach_back
from tests.rows import make_world
from tests.running import CHECKOUT, environment, until_true

ASLEEP = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


def start_rebuilding(env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process of its own that rebuilds."""
    argv = [str(Path(sys.executable).parent / "relay"), "analytics", "rebuild"]
    return subprocess.Popen(argv, cwd=CHECKOUT, env=env, stdout=subprocess.DEVNULL)


async def test_killed_in_the_middle_it_leaves_nothing_half_done_and_repeated_gives_the_clocks_numbers(
    settings: Settings, conn: Conn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await busy_hours(await make_world(conn))
    await reach_back(conn, timedelta(hours=4))
    await rollups.close(conn)
    before = await kept(conn)
    await conn.execute(
        """CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN IF new.at > now() - interval '100 min' THEN PERFORM pg_sleep(60); END IF; RETURN new; END $$;
           CREATE TRIGGER sleep AFTER INSERT ON rollups FOR EACH ROW EXECUTE FUNCTION sleep()"""
    )
    env = environment(settings)
    with start_rebuilding(env) as running:
        try:
            await until_true(conn, ASLEEP)
        finally:
            running.kill()
    await conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    await conn.execute("DROP TRIGGER sleep ON rollups")
    assert await kept(conn) == before
    await conn.execute("UPDATE rollups SET attempts = attempts + 1")
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.setenv(name, env[name])
    assert await asyncio.to_thread(main, ["analytics", "rebuild", "--since", "1d", "--json"]) == 0
    days = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(day["attempts"] for day in days) == 26
    assert await kept(conn) == before
    assert await asyncio.to_thread(main, ["analytics", "rebuild"]) == 0
    assert f"{days[-1]['day']}: {days[-1]['attempts']} attempts" in capsys.readouterr().out
