"""The Dramatiq dashboard on a real Redis: who may look, what is seen, and what may be done."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import urllib3
from falcon.testing import ASGIConductor, Result
from playwright.sync_api import expect
from psycopg import AsyncConnection

from api.app import create_app
from relay.broker import RelayBroker, worker_broker
from relay.db import Conn
from relay.queue import QUEUES, Hint, Queue
from relay.settings import Settings
from relay.tenancy.scopes import Scope
from relay.up.development import free_port
from tests.api.conftest import Api, make_key
from tests.browser import Watched, browser_page
from tests.e2e.client import Client
from tests.e2e.system import wait_until
from tests.running import web

PLACE = "http://falconframework.org"
FORM = {"Content_Type": "application/x-www-form-urlencoded", "Origin": PLACE, "Sec_Fetch_Site": "same-origin"}


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"operator:{key}".encode()).decode()


@asynccontextmanager
async def enqueued(settings: Settings, hints: list[Hint]) -> AsyncIterator[None]:
    """Hints that a producer put into the queues."""
    queue = Queue(settings.redis_url, pool_size=2, timeout_s=5)
    await queue.enqueue(hints)
    yield
    await queue.close()


def fail(settings: Settings, queue: str) -> str:
    """Take the next message as a worker does, give it up for good, and return its id."""
    broker = worker_broker(settings.redis_url, pool_size=4, middleware=[])
    consumer, message = take(broker, queue)
    consumer.nack(message)
    broker.client.close()
    return message.options["redis_message_id"]


def take(broker: RelayBroker, queue: str) -> tuple[Any, Any]:
    """A consumer, and the message it took."""
    consumer = broker.consume(queue, prefetch=1)
    message = next(consumer)
    assert message is not None
    return consumer, message


def cells(page: Result, queue: str) -> list[str]:
    """What a row of the overview says, without its tags."""
    (row,) = re.findall(rf'<tr><th scope="row"><a href="[^"]*/{re.escape(queue)}">.*?</tr>', page.text)
    return [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", row)]


async def test_a_browser_is_asked_for_an_operators_key_and_nobody_else_sees_anything(
    locked: Api, conn: Conn, settings: Settings
) -> None:
    operator = await make_key(conn, settings, client="ops", scopes=frozenset({Scope.OPERATOR}))
    for path in ("/dramatiq", "/dramatiq/", "/dramatiq/lanes"):
        for given in (
            {},
            {"X_API_Key": "rly_wrong"},
            {"Authorization": basic("rly_wrong")},
            {"Authorization": "Basic ?"},
        ):
            refused = await locked.get(path, **given)
            assert (refused.status_code, refused.headers["WWW-Authenticate"][:13]) == (401, 'Basic realm="')
            assert "deliver.high" not in refused.text
        client = await locked.get(path, X_API_Key=await make_key(conn, settings))
        assert (client.status_code, "lacks the scope OPERATOR" in client.text) == (403, True)
        for given in (
            {"X_API_Key": operator},
            {"Authorization": f"Bearer {operator}"},
            {"Authorization": basic(operator)},
        ):
            page = await locked.get(path, **given)
            assert page.status_code == 200
            assert page.headers["Cache-Control"] == "no-store"
            assert page.headers["X-Content-Type-Options"] == "nosniff"
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "script" not in policy + page.text
            assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page.text)


async def test_queues_are_counted_by_where_their_messages_lie(api: Api, settings: Settings) -> None:
    hints = [Hint("deliver_high", {"ids": ["a" * 32], "fences": [n]}) for n in range(4)]
    async with enqueued(settings, [*hints, Hint("dead_letter", {"ids": ["b" * 32]})]):
        nobody = await api.get("/dramatiq")
        assert "No worker beats" in nobody.text
        fail(settings, "deliver.high")
        broker = worker_broker(settings.redis_url, pool_size=4, middleware=[])
        take(broker, "deliver.high")
        page = await api.get("/dramatiq")
        assert [row for row in QUEUES.values() if cells(page, row)] == list(QUEUES.values())
        assert cells(page, "deliver.high")[:5] == ["deliver_high", "2", "1", "0", "1"]
        assert cells(page, "dead")[1:5] == ["1", "0", "0", "0"]
        assert cells(page, "lanes")[1:] == ["0", "0", "0", "0", "-"]
        assert re.fullmatch(r"\d+ s", cells(page, "dead")[5])
        assert "Workers · 2 alive" in page.text
        assert f"<code>{broker.broker_id}</code>" in page.text
        assert "deliver.high 1</td>" in page.text
        assert "refresh every 5 s" in page.text
        assert '<meta http-equiv="refresh" content="5">' in (await api.get("/dramatiq?refresh")).text
        broker.client.zadd("dramatiq:__heartbeats__", {broker.broker_id: 1000})
        assert "Workers · 1 alive" in (await api.get("/dramatiq")).text
        broker.client.close()


async def test_messages_are_shown_in_pages_and_foreign_text_is_harmless(api: Api, settings: Settings) -> None:
    hints = [Hint("lane", {"endpoint": "<script>alert(1)</script>", "key": "k" * 300, "fence": n}) for n in range(120)]
    async with enqueued(settings, hints):
        first = await api.get("/dramatiq/lanes")
        assert "<script" not in first.text
        assert "&lt;script&gt;" in first.text
        assert "1 to 50 of 120" in first.text
        assert 'href="?part=ready&amp;page=2"' in first.text
        last = await api.get("/dramatiq/lanes/?page=3")
        assert "101 to 120 of 120" in last.text
        assert 'rel="next"' not in last.text
        assert 'href="../../dramatiq">all queues' in last.text
        assert last.text.count("<details>") == 20
        assert "of 120" in (await api.get("/dramatiq/lanes?page=200")).text
        for part in ("delayed", "failed"):
            assert "Nothing" in (await api.get(f"/dramatiq/lanes?part={part}")).text
        client = redis.Redis.from_url(settings.redis_url)
        client.rpush("dramatiq:housekeeping", "x")
        client.hset("dramatiq:housekeeping.msgs", "x", "no message")
        client.close()
        assert "no message" in (await api.get("/dramatiq/housekeeping")).text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("none", 404),
        ("lanes.XQ", 404),
        ("lanes?page=0", 400),
        ("lanes?page=201", 400),
        ("lanes?page=x", 400),
        ("lanes?part=x", 400),
    ],
)
async def test_what_is_not_there_is_a_page_that_says_so(api: Api, path: str, status: int) -> None:
    answer = await api.get(f"/dramatiq/{path}")
    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (status, "text/html")


async def test_it_only_shows_unless_a_setting_says_more(api: Api, settings: Settings) -> None:
    async with enqueued(settings, [Hint("lane", {"fence": 1})]):
        id = fail(settings, "lanes")
        page = await api.get("/dramatiq/lanes?part=failed")
        assert id in page.text
        assert "<form" not in page.text
        refused = await api.post("/dramatiq/lanes", f"id={id}&action=delete", **FORM)
        assert refused.status_code == 403
        assert "DRAMATIQ_DASHBOARD_WRITES" in refused.text
        assert id in (await api.get("/dramatiq/lanes?part=failed")).text


@pytest.fixture
async def writable(settings: Settings) -> AsyncIterator[Api]:
    """The application with keys, and a dashboard that writes."""
    changed = settings.model_copy(update={"auth_enabled": True, "dramatiq_dashboard_writes": True})
    async with ASGIConductor(create_app(changed)) as conductor:
        yield Api(conductor)


async def test_a_failed_message_is_requeued_or_deleted_from_the_pages_own_form_only(
    writable: Api, conn: Conn, settings: Settings
) -> None:
    key = basic(await make_key(conn, settings, client="ops", scopes=frozenset({Scope.OPERATOR})))
    other = basic(await make_key(conn, settings, client="other", scopes=frozenset({Scope.OPERATOR})))
    client_key = basic(await make_key(conn, settings))
    async with enqueued(settings, [Hint("lane", {"fence": n}) for n in (1, 2)]):
        ids = [fail(settings, "lanes") for _ in range(2)]
        page = await writable.get("/dramatiq/lanes?part=failed", Authorization=key)
        (token,) = set(re.findall(r'name="token" value="([^"]+)"', page.text))

        async def post(id: str, action: str = "requeue", token: str = token, key: str = key, **changed: str) -> Result:
            return await writable.post(
                "/dramatiq/lanes", f"id={id}&action={action}&token={token}", Authorization=key, **{**FORM, **changed}
            )

        strangers = (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": ""},
            {"Sec_Fetch_Site": "same-site"},
        )
        for changed in strangers:
            assert (await post(ids[0], **changed)).status_code == 403
        stale = f"1{token[10:]}"
        for wrong in ("", "x", stale, token[:-1] + ("0" if token[-1] != "0" else "1"), f"9{token}"):
            assert (await post(ids[0], token=wrong)).status_code == 403
        assert (await post(ids[0], key=other)).status_code == 403
        assert (await post(ids[0], key=client_key)).status_code == 403
        assert (await post(ids[0], key="Basic eDp5")).status_code == 401
        assert (await post(ids[0], action="explode")).status_code == 400
        assert (await post(ids[0], Content_Type="text/plain")).status_code == 400
        page = await writable.get("/dramatiq/lanes?part=failed", Authorization=key)
        assert all(id in page.text for id in ids)

        done = await post(ids[0])
        assert (done.status_code, done.headers["Location"]) == (303, "?part=failed&said=requeued")
        assert (await post(ids[0])).headers["Location"].endswith("missing")
        assert (await post(ids[1], action="delete")).headers["Location"].endswith("deleted")
        after = await writable.get("/dramatiq/lanes?part=failed&said=deleted", Authorization=key)
        assert "The message is gone." in after.text
        assert "Ready 1" in after.text
        assert "Failed 0" in after.text
    broker = worker_broker(settings.redis_url, pool_size=4, middleware=[])
    assert take(broker, "lanes")[1].kwargs == {"fence": 1}
    broker.client.close()


async def test_a_redis_with_100_000_other_keys_is_never_searched(api: Api, settings: Settings) -> None:
    client = redis.Redis.from_url(settings.redis_url)
    client.mset({f"other:{n}": "" for n in range(100_000)})
    async with enqueued(settings, [Hint("lane", {"fence": 1})]):
        fail(settings, "lanes")
        client.config_resetstat()
        for path in ("/dramatiq", "/dramatiq/lanes", "/dramatiq/lanes?part=delayed", "/dramatiq/lanes?part=failed"):
            assert (await api.get(path)).status_code == 200
        asked: dict[str, Any] = client.info("commandstats")
    assert "cmdstat_zrevrange" in asked
    assert not {name for name in asked if re.search("keys|scan|smembers|hgetall|eval", name)}
    client.flushall()
    client.close()


async def test_without_redis_the_page_says_so(settings: Settings) -> None:
    gone = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with ASGIConductor(create_app(gone)) as conductor:
        for path in ("/dramatiq", "/dramatiq/lanes"):
            answer = await Api(conductor).get(path)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert "Redis cannot be reached at the moment." in answer.text
            assert "Traceback" not in answer.text


@pytest.mark.system
def test_in_a_browser_an_operator_looks_around_and_requeues_a_message(settings: Settings, tmp_path: Path) -> None:
    changed = {"auth_enabled": True, "dramatiq_dashboard_writes": True, "port": free_port()}
    settings = settings.model_copy(update=changed)
    key = asyncio.run(_with_a_failed_message(settings))
    url = f"http://127.0.0.1:{settings.port}"
    running = web(settings, tmp_path / "web.log")
    try:
        wait_until(lambda: _answers(url), what="a web process")
        login = {"username": "operator", "password": key}
        phone: dict[str, Any] = {
            "viewport": {"width": 390, "height": 844},
            "color_scheme": "dark",
            "http_credentials": login,
        }
        with browser_page(**phone) as page:
            watched = Watched(page)
            page.goto(f"{url}/dramatiq/")
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            page.get_by_role("link", name="lanes").click()
            page.get_by_role("link", name="Failed 1").click()
            page.get_by_role("button", name="Requeue").click()
            expect(page.get_by_role("status")).to_have_text("The message is in its queue again.")
            page.get_by_role("link", name="Ready 1").click()
            page.get_by_text("1 to 1 of 1").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            page.get_by_role("link", name="all queues").click()
            page.get_by_role("heading", name="Dramatiq").wait_for()
            assert [one for one in watched.urls if not one.startswith((url + "/", "data:"))] == []
            assert [one for one in watched.complaints if "401" not in one] == []
    finally:
        running.kill()


async def _with_a_failed_message(settings: Settings) -> str:
    """Fail a message, and return an operator's key."""
    async with enqueued(settings, [Hint("lane", {"endpoint": "e" * 32, "key": "k" * 500, "fence": 1})]):
        fail(settings, "lanes")
    async with await AsyncConnection.connect(settings.database_url, autocommit=True) as conn:
        return await make_key(conn, settings, client="ops", scopes=frozenset({Scope.OPERATOR}))


def _answers(url: str) -> bool:
    try:
        return Client(url).get("/health/ready").status == 200
    except urllib3.exceptions.HTTPError:
        return False
