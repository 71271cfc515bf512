"""What load balancers and people ask of a web process."""

from __future__ import annotations

from falcon.testing import ASGIConductor

from api.app import create_app
from relay.db import Conn
from relay.settings import Settings
from tests.api.conftest import Api


async def test_a_process_that_answers_lives(api: Api) -> None:
    assert (await api.get("/health/live")).json == {"status": "live"}


async def test_ready_with_postgres_and_redis(api: Api) -> None:
    answer = await api.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json == {"status": "ready", "postgres": "up", "schema": "current", "redis": "up"}


async def test_ready_without_redis_and_says_so(settings: Settings) -> None:
    async with ASGIConductor(
        create_app(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    ) as conductor:
        answer = await Api(conductor).get("/health/ready")
        assert (answer.status_code, answer.json["redis"]) == (200, "down")
        sent = await Api(conductor).post("/api/v1/events", {"eventType": "a.b", "payload": 1})
        assert sent.status_code == 202


async def test_not_ready_without_postgres(settings: Settings) -> None:
    gone = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    async with ASGIConductor(create_app(gone)) as conductor:
        answer = await Api(conductor).get("/health/ready")
        assert (await Api(conductor).get("/health/live")).status_code == 200
        assert (answer.status_code, answer.json["status"], answer.json["postgres"]) == (503, "not ready", "down")


async def test_not_ready_when_the_schema_is_older_than_the_code(api: Api, conn: Conn) -> None:
    await conn.execute("DELETE FROM schema_migrations")
    answer = await api.get("/health/ready")
    assert (answer.status_code, answer.json["schema"]) == (503, "old")


async def test_metrics_can_be_turned_off(settings: Settings) -> None:
    nobody = "http://127.0.0.1:1"
    for provider in ("", "otel"):
        changed = settings.model_copy(update={"metrics_provider": provider, "metrics_endpoint": nobody})
        async with ASGIConductor(create_app(changed)) as conductor:
            assert (await Api(conductor).get("/metrics")).status_code == 404


async def test_health_needs_no_key(locked: Api) -> None:
    assert (await locked.get("/health/live")).status_code == 200
    assert (await locked.get("/health/ready")).status_code == 200
