"""Requests a second: counted over all web processes, without a command to Redis for each."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import redis
from falcon.testing import ASGIConductor

from api.app import create_app
from relay.db import Conn
from relay.settings import Settings
from relay.up.development import free_port
from tests.api.conftest import Api, make_key
from tests.running import until_so, web
from tests.servers import own_valkey

LIMIT = 100
QUERY = b'{"query":"{ __typename }"}'
REQUEST = b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(QUERY),
    QUERY,
)


async def answers(body: Api, n: int) -> Counter[int]:
    return Counter([(await body.post("/graphql", QUERY)).status_code for _ in range(n)])


async def test_a_client_gets_its_own_limit_and_is_told_how_it_stands(settings: Settings, conn: Conn) -> None:
    limited = settings.model_copy(update={"auth_enabled": True, "client_rate_limit_rps": 5})
    keys = {name: await make_key(conn, settings, client=name) for name in ("usual", "special", "other")}
    await conn.execute("UPDATE tenants SET rate_limit_per_sec = 20 WHERE name = 'special'")
    async with ASGIConductor(create_app(limited)) as conductor:
        usual, special, other = (Api(conductor, key) for key in keys.values())
        first = await usual.post("/graphql", QUERY)
        assert first.headers["X-RateLimit-Limit"] == "5"
        assert int(first.headers["X-RateLimit-Remaining"]) <= 4
        assert first.headers["X-RateLimit-Reset"] == "1"
        assert (await special.post("/graphql", QUERY)).headers["X-RateLimit-Limit"] == "20"
        refused = await refusal(usual)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        assert refused.json["errors"][0]["extensions"]["code"] == "THROTTLED"
        assert (await other.post("/graphql", QUERY)).status_code == 200
        rest = await until_refused(usual, "/api/v1/events", '{"eventType":"a.b","payload":1}')
        assert (rest.status_code, rest.json["error"]["code"]) == (429, "THROTTLED")
        assert "X-RateLimit-Limit" not in (await usual.get("/health/live")).headers


async def refusal(api: Api):  # noqa: ANN201
    return await until_refused(api, "/graphql", QUERY)


async def until_refused(api: Api, path: str, body: bytes | str):  # noqa: ANN201
    for _ in range(100):
        answer = await api.post(path, body)
        if answer.status_code == 429:
            return answer
    raise AssertionError("nothing was refused")


async def test_the_limit_of_all_comes_before_the_key(settings: Settings) -> None:
    limited = settings.model_copy(update={"auth_enabled": True, "global_rate_limit_rps": 5})
    async with ASGIConductor(create_app(limited)) as conductor:
        seen = await answers(Api(conductor, "rly_unknown"), 30)
        assert set(seen) == {401, 429}
        assert (await Api(conductor).get("/health/live")).status_code == 200


async def test_a_piece_is_spent_without_asking_redis(settings: Settings) -> None:
    limited = settings.model_copy(update={"client_rate_limit_rps": 1000})
    commands = redis.Redis.from_url(settings.redis_url)
    async with ASGIConductor(create_app(limited)) as conductor:
        api = Api(conductor)
        before = scripts(commands)
        started = time.monotonic()
        assert await answers(api, 200) == {200: 200}
        assert scripts(commands) - before <= 12 * (2 + time.monotonic() - started)
    commands.close()


def scripts(client: redis.Redis) -> int:
    stats: dict[str, dict[str, int]] = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


async def load(port: int, until: float, seen: list[float]) -> None:
    """Ask again and again on one connection; note when each request was let through."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.time() < until:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            if head.startswith(b"HTTP/1.1 200"):
                seen.append(time.time())
            else:
                assert head.startswith(b"HTTP/1.1 429")
                await asyncio.sleep(0.005)
    finally:
        writer.close()


async def let_through(ports: list[int], seconds: int) -> list[int]:
    """How many requests got through in each whole second, most of them by the first of the processes."""
    begin = float(int(time.time()) + 1)
    seen: list[float] = []
    await asyncio.sleep(begin - time.time())
    uneven = [ports[0]] * 3 + [ports[1]]
    await asyncio.gather(*(load(port, begin + seconds, seen) for port in uneven))
    counts = Counter(int(moment - begin) for moment in seen)
    return [counts[second] for second in range(seconds)]


async def ready(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(b"GET /health/ready HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return b" 200 " in answer[:20]


async def test_two_web_processes_keep_one_limit_and_without_redis_each_its_own(
    settings: Settings, tmp_path: Path
) -> None:
    with own_valkey() as valkey:
        ports = [free_port(), free_port()]
        limited = {"redis_url": valkey.server.url, "client_rate_limit_rps": LIMIT, "redis_state_url": valkey.server.url}
        running = [
            web(settings.model_copy(update={**limited, "port": port}), tmp_path / f"{port}.log") for port in ports
        ]
        try:
            for port in ports:
                await until_so(lambda port=port: ready(port))
            together = await let_through(ports, 3)
            assert LIMIT * 0.9 * 3 <= sum(together) <= LIMIT * 1.1 * 3, together
            valkey.signal(signal.SIGSTOP)
            alone = await let_through(ports, 2)
            assert LIMIT * 0.9 <= max(alone) <= LIMIT * 3, alone
            valkey.signal(signal.SIGCONT)
            await let_through(ports, 1)
            again = await let_through(ports, 2)
            assert LIMIT * 0.9 * 2 <= sum(again) <= LIMIT * 1.1 * 2, again
        finally:
            for one in running:
                one.kill()
