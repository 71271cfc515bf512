"""After an erasure nothing that Relay has, says or wrote holds what was in a payload."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path
from typing import Any

import psycopg
import redis
from falcon.testing import ASGIConductor
from psycopg import sql

from api.app import create_app
from relay.settings import Settings
from tests.api.conftest import Api
from tests.documents import ROOT, blocks_of
from tests.running import until_so, worker
from tests.sink import Answer, Sink

MARKER = "Zaphod-Beeblebrox-42"
ATTEMPT = "responseBody responseHeaders requestHeaders requestUrl error"
STORY = f"""query($id: ID!) {{
    event(id: $id) {{ payload headers subject status contentType createdAt attempts
        deliveries {{ status reason partitionKey deliveryAttempts {{ {ATTEMPT} }} }} deliveryAttempts {{ {ATTEMPT} }} }}
    explainEvent(id: $id) {{ why }}
    events {{ nodes {{ payload headers subject }} }} deliveries {{ nodes {{ status event {{ payload }} }} }}
    jobs {{ nodes {{ input result }} }} }}"""
MAKE = "mutation($i: CreateEndpointInput!) { createEndpoint(input: $i) { secret } }"
ERASE = "mutation($i: EraseInput!) { eraseEvents(input: $i) { id kind status dryRun total } }"
JOB = "query($id: ID!) { job(id: $id) { status done result } }"
REPLAY = "mutation($id: ID!) { replayEvent(id: $id) { id } }"
SPELLINGS = (MARKER, MARKER.encode().hex(), base64.b64encode(MARKER.encode()).decode().rstrip("=")[:-1])


def tables(url: str) -> str:
    """Every row of every table, as text."""
    with psycopg.connect(url) as conn:
        names = conn.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'relay_archive') ORDER BY 1, 2"
        ).fetchall()
        query = sql.SQL("SELECT x::text FROM {} x")
        found = [conn.execute(query.format(sql.Identifier(*name))).fetchall() for name in names]
    return "\n".join(row[0] for rows in found for row in rows)


def in_redis(url: str) -> str:
    """Every key of Redis with its dumped value."""
    with redis.Redis.from_url(url) as client:
        return "\n".join(repr((key, client.dump(key))) for key in client.scan_iter())


def holds(text: str) -> bool:
    return any(spelling in text for spelling in SPELLINGS)


async def statuses(api: Api, ids: list[str]) -> list[str]:
    query = "query($id: ID!) { event(id: $id) { status } }"
    return [(await api.data(query, id=id))["event"]["status"] for id in ids]


async def test_nothing_holds_the_marker_after_an_erasure(settings: Settings, tmp_path: Path) -> None:
    log, subject = tmp_path / "worker.log", "user/42"
    echo = {"X-Echo": MARKER}
    with Sink(lambda arrival: Answer(500 if arrival.path == "/no" else 200, headers=echo, body=arrival.body)) as sink:
        async with ASGIConductor(create_app(settings)) as conductor:
            api = Api(conductor)
            for path in ("/yes", "/no"):
                given = {"url": sink.url(path), "eventTypes": ["*"], "retrySchedule": [3_600_000]}
                await api.data(MAKE, i=given)
            body = {
                "payload": {"name": MARKER},
                "headers": {"x-who": MARKER},
                "subject": subject,
                "eventType": "user.made",
            }
            ids = [(await api.post("/api/v1/events", {**body, "delaySeconds": n})).json["id"] for n in (0, 0, 3600)]
            running = worker(settings, log, LOG_LEVEL="debug")
            try:

                async def sent() -> bool:
                    return await statuses(api, ids) == ["FAILED", "FAILED", "QUEUED"]

                await until_so(sent)
                assert holds(tables(settings.database_url))
                assert MARKER in str(await api.data(STORY, id=ids[0]))
                counted = (await api.data(ERASE, i={"subject": subject, "dryRun": True}))["eraseEvents"]
                assert (counted["kind"], counted["status"], counted["total"]) == ("ERASURE", "DONE", 3)
                job = (await api.data(ERASE, i={"subject": subject}))["eraseEvents"]["id"]

                async def done() -> bool:
                    return (await api.data(JOB, id=job))["job"]["status"] == "DONE"

                await until_so(done)
                await check(api, job, ids)
            finally:
                running.kill()
    with psycopg.connect(settings.database_url, autocommit=True) as conn:
        (vacuum,) = [block for block in blocks_of(ROOT / "docs" / "privacy.md") if block.language == "sh"]
        conn.execute(shlex.split(vacuum.text)[-1].encode())
    for name, text in (
        ("tables", tables(settings.database_url)),
        ("Redis", in_redis(settings.redis_url)),
        ("logs", log.read_text()),
    ):
        assert not holds(text), name


async def check(api: Api, job: str, ids: list[str]) -> None:
    """What the API says of erased events and of the receipt."""
    receipt = (await api.data(JOB, id=job))["job"]["result"]
    assert {name: receipt[name] for name in ("events", "deliveries", "cancelled", "attempts")} == {
        "events": 3, "deliveries": 4, "cancelled": 3, "attempts": 4,
    }  # fmt: skip
    for id in ids:
        answer: dict[str, Any] = await api.data(STORY, id=id)
        assert not holds(str(answer))
        assert (answer["event"]["payload"], answer["event"]["headers"], answer["event"]["subject"]) == (
            None,
            None,
            None,
        )
        assert await api.error(REPLAY, id=id) == ("CONFLICT", None)
    reasons = sorted(str(one["reason"]) for one in (await api.data(STORY, id=ids[0]))["event"]["deliveries"])
    assert reasons == ["ERASED", "OK"]
    for unknown in ("nonsense", "01890000-0000-7000-8000-000000000000"):
        assert (await api.error(ERASE, i={"ids": [ids[0], unknown]}))[0] == "NOT_FOUND"
    for refused in ({}, {"eventTypes": ["a.b"]}):
        assert await api.error(ERASE, i=refused) == ("INVALID", "ids")
