"""The live view end to end: each client sees its own lines, no gap, no double, and a slow reader harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import redis
from psycopg import AsyncConnection

from relay.delivery.gates import Opened
from relay.delivery.outcomes import Dead, Reason, Retry
from relay.delivery.record import Recorded
from relay.feed.publisher import Publisher
from relay.settings import Settings
from relay.tenancy.scopes import Scope
from tests.e2e.client import Client
from tests.feed.conftest import Watcher, key_of, outcome, watch
from tests.running import Running, until
from tests.test_log import answers

Connection = AsyncConnection[Any]
FAILED = Retry(Reason.HTTP_SERVER_ERROR, 5.0)
DEAD = Dead(Reason.GONE)


def ids(watcher: Watcher) -> list[str]:
    return [line["delivery_id"] for line in watcher.lines]


def told(*outcomes: Recorded) -> list[str]:
    return [str(one.delivery.id) for one in outcomes]


def refused(url: str, key: str, query: str = "", *, after: str | None = None, client: object | None = None) -> int:
    """The status of an answer that is no stream."""
    with watch(url, key, query, after=after, client=client) as watcher:
        return watcher.status


async def opened(watcher: Watcher) -> Watcher:
    """Wait until it is told that it will miss nothing."""
    await until(lambda: watcher.read().last_id is not None, 10, what="the first id")
    return watcher


async def test_each_client_sees_its_own_lines_and_those_it_asked_for(
    server: Running, locked: Settings, url: str, conn: Connection
) -> None:
    await until(lambda: answers(Client(url)), what="a start")
    (a, key_a), (b, key_b) = await key_of(conn, locked, "a"), await key_of(conn, locked, "b")
    _, sender = await key_of(conn, locked, "a", scopes=frozenset({Scope.SEND}))
    _, operator = await key_of(conn, locked, "operators", scopes=frozenset({Scope.OPERATOR}))
    worker, endpoint = Publisher(locked.redis_url), uuid4()
    mine = [
        outcome(a),
        outcome(a, FAILED, type="user.made"),
        outcome(a, DEAD, endpoint=endpoint),
        outcome(b),
        outcome(b, FAILED),
    ]
    filters = {
        "?type=order.*": [0, 2],
        "?type=user.made": [1],
        "?status=retry,dead": [1, 2],
        "?level=error": [2],
        f"?endpoint={endpoint}": [2],
        "?status=delivered&level=warn": [],
    }
    with ExitStack() as stack:
        of_a = await opened(stack.enter_context(watch(url, key_a)))
        of_b = await opened(stack.enter_context(watch(url, key_b)))
        # An operator sees the client it names, and without a name its own.
        acting = await opened(stack.enter_context(watch(url, operator, client=b)))
        own = await opened(stack.enter_context(watch(url, operator)))
        filtered = {query: await opened(stack.enter_context(watch(url, key_a, query))) for query in filters}
        worker.hear(mine)
        worker.hear_circuits([Opened(b, endpoint, None)])  # pyright: ignore[reportArgumentType]
        await until(lambda: len(of_a.read().lines) >= 3 and len(of_b.read().lines) >= 3, what="lines")
        assert ids(of_a) == told(*mine[:3])
        assert [line.get("delivery_id") for line in of_b.lines] == [*told(*mine[3:]), None]
        assert {line["tenant_id"] for line in of_b.lines} == {str(b)}
        await until(lambda: len(acting.read().lines) >= 3, what="lines of the client that the operator named")
        assert (acting.lines, own.read().lines) == (of_b.lines, [])
        for query, places in filters.items():
            assert ids(filtered[query].read()) == told(*[mine[place] for place in places]), query
        first = of_a.lines[0]
        assert (first["status"], first["level"], first["reason"], first["attempt"]) == ("delivered", "info", "ok", 1)
        assert (first["event_type"], first["duration_ms"], first["status_code"]) == ("order.paid", 12.3, 200)
        assert "s3cr3t" not in str(of_a.lines)
        assert "x-accel-buffering: no" in of_a.headers
        assert "content-encoding" not in of_a.headers
        assert "access-control" not in of_a.headers
        # B comes back with a place of A's stream: it still sees nothing but its own.
        again = stack.enter_context(watch(url, key_b, after=of_a.last_id))
        await until(lambda: again.read().last_id is not None, what="the first id")
        assert {line["tenant_id"] for line in again.lines} <= {str(b)}
    for query in ("?status=lost", "?level=loud", "?endpoint=x", "?type=a b", "?colour=red"):
        assert refused(url, key_a, query.replace(" ", "%20")) == 400
    assert refused(url, key_a, after="yesterday") == 400
    assert (refused(url, "rly_wrong"), refused(url, sender)) == (401, 403)
    assert [refused(url, operator, client=who) for who in (uuid4(), "b")] == [404, 400]
    assert refused(url, key_a, client=b) == 403
    await worker.close()
    assert server.stop() == 0


async def test_who_comes_back_after_a_restart_finds_each_line_once(
    server: Running, locked: Settings, url: str, conn: Connection
) -> None:
    await until(lambda: answers(Client(url)), what="a start")
    (a, key), (b, _) = await key_of(conn, locked, "a"), await key_of(conn, locked, "b")
    workers = [Publisher(locked.redis_url) for _ in range(2)]
    sent: list[Recorded] = []

    def work(count: int) -> None:
        for n in range(count):
            mine = outcome(a)
            sent.append(mine)
            workers[n % 2].hear([outcome(b), mine])

    with await opened(watch(url, key)) as before:
        work(250)
        await until(lambda: len(before.read().lines) >= 250, what="lines")
        begun = asyncio.get_running_loop().time()
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        work(20)
        assert await stopping == 0
        assert asyncio.get_running_loop().time() - begun < 10  # nobody waits for streams
        before.read(0.3)
        assert before.ended
    work(30)
    server.start()
    await until(lambda: answers(Client(url)), what="a start")
    with await opened(watch(url, key, after=before.last_id)) as after:
        work(10)
        await until(lambda: len(before.lines) + len(after.read().lines) >= len(sent), what="the rest")
        assert sorted(ids(before) + ids(after)) == sorted(told(*sent))
        assert (before.gaps, after.gaps) == (0, 0)
        assert {line["tenant_id"] for line in after.lines} == {str(a)}
    redis.Redis.from_url(locked.redis_url).flushall()
    with watch(url, key, after=after.last_id) as later:
        await until(lambda: later.read().gaps == 1, what="word of what is missing")
    for worker in workers:
        await worker.close()
    server.stop()


async def test_stalled_readers_are_cut_off_and_cost_the_workers_nothing(
    server: Running, locked: Settings, url: str, conn: Connection
) -> None:
    await until(lambda: answers(Client(url)), what="a start")
    a, key = await key_of(conn, locked, "a")
    counted = redis.Redis.from_url(locked.redis_url)
    counted.config_resetstat()
    worker = Publisher(locked.redis_url)
    worker.hear([outcome(a)])
    await worker.close()
    assert counted.info("commandstats").get("cmdstat_xadd") is None  # nobody watches
    with ExitStack() as stack:
        good = [stack.enter_context(await opened(watch(url, key)))]
        alone = await publish(counted, locked, a, *good)
        good += [stack.enter_context(await opened(watch(url, key))) for _ in range(179)]
        for _ in range(20):
            stack.enter_context(watch(url, key, buffer=2048))
        assert readers(server, url) == 200
        many = await publish(counted, locked, a, *good)
        assert many == alone
        await until(lambda: readers(server, url) == 180, 20, what="the end of those that do not read")
        assert not any(one.ended for one in good)
    server.kill()


LINES = 3500


async def publish(counted: Any, settings: Settings, tenant_id: UUID, *watchers: Watcher) -> int:
    """Tell of many outcomes as a worker does; return how many commands that took, once all have read all."""
    before = commands(counted)
    worker = Publisher(settings.redis_url)
    got = dict.fromkeys(range(len(watchers)), 0)
    for _ in range(LINES // 500):
        worker.hear([outcome(tenant_id) for _ in range(500)])
        while worker._lines:
            await asyncio.sleep(0.005)
            count(watchers, got)
    await worker.close()
    taken = commands(counted) - before

    def all_have_all() -> bool:
        count(watchers, got)
        return set(got.values()) == {LINES}

    await until(all_have_all, 120, what="all lines")
    return taken


def count(watchers: Sequence[Watcher], got: dict[int, int]) -> None:
    """Take in what there is, and count the lines alone: there are many."""
    for place, watcher in enumerate(watchers):
        watcher.connection.setblocking(False)
        with suppress(BlockingIOError):
            while more := watcher.connection.recv(1 << 20):
                watcher.rest = watcher.rest[-6:] + more
                got[place] += watcher.rest.count(b"\ndata: ")
                watcher.rest = watcher.rest[-6:]


def commands(counted: Any) -> int:
    """How many commands of workers there were."""
    return counted.info("commandstats").get("cmdstat_xadd", {"calls": 0})["calls"]


def readers(server: Running, url: str) -> int:
    """How many connections of clients the web process holds."""
    port = urlsplit(url).port
    held = {one for member in server.family() for one in member.net_connections("tcp") if one.laddr.port == port}
    return sum(one.status == "ESTABLISHED" for one in held)
