"""`relay verify`: exit code 0 and a sentence when all fits, else 1 and a sentence for each that does not."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from relay.cli.main import main
from relay.cli.verify import moment
from tests.rows import World, make_world


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> None:
    """The database alone is known: the ledger needs no Redis and no key."""
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database_url)
    for name in ("REDIS_URL", "SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)


def in_world(database_url: str, do: Callable[[World], Awaitable[object]]) -> None:
    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
            await do(await make_world(conn))

    asyncio.run(work())


def test_a_system_in_which_all_fits_is_one_sentence(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def all_fits(world: World) -> None:
        await world.fanned_out(await world.event(), matched=0)

    in_world(database_url, all_fits)
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.startswith("Everything since 20")
    assert main(["verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"] == {}


def test_each_that_does_not_fit_is_a_sentence(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    ids: list[str] = []

    async def lose(world: World) -> None:
        ids.extend([str(await world.event()) for _ in range(120)])
        await world.event(ago=timedelta(hours=5))
        await world.fanned_out(await world.event(), matched=2)

    in_world(database_url, lose)
    assert main(["verify", "--since", "4h"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "event: 120"
    assert lines[1] == f"  Event {ids[0]} has 0 outbox, 0 scheduled and 0 fanouts rows; it must have exactly one."
    assert lines[101] == "  and 20 more"
    assert lines[102] == "fan-out: 1"
    assert lines[103].endswith("was matched by 2 endpoints and has 0 first deliveries.")
    assert main(["verify", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["found"]
    assert found["event"]["count"] == 121
    assert len(found["event"]["offenders"]) == 100
    assert len(found["fan-out"]["offenders"][0]["ids"]) == 1


def test_an_old_schema_is_told(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    assert main(["verify"]) == 1
    assert capsys.readouterr().err == "relay: The database is older than this Relay; run `relay migrate` first.\n"


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("90m", timedelta(minutes=90)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
        ("2026-03-01T10:00:00Z", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_since_is_a_span_or_a_moment(text: str, since: timedelta | datetime) -> None:
    assert moment(text) == since


@pytest.mark.parametrize("text", ["", "24", "h", "-3h", "yesterday", "24 h"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        moment(text)
