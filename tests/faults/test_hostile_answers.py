"""Answers made to hurt: each is a recorded attempt with a reason, the worker's memory stays flat, others get theirs."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.db import Conn
from tests.delivery.receiver import Call, Receiver, Script, answers, answers_and_closes, receiving
from tests.faults.conftest import StartWorker
from tests.running import Running, until, until_so
from tests.scale import sized, tell
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

#: Requests to each behaviour, and how many of them at a time.
REQUESTS = sized(1000, 50)
AT_ONCE = sized(60, 20)
MOST_GROWTH = 30 << 20
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(10_000_000))


def repeats(piece: bytes, *, first: bytes = b"", pause_s: float = 0.0) -> Script:
    """Send a piece again and again, until the other side has had enough."""

    async def script(call: Call) -> None:
        call.writer.write(first)
        while not call.writer.is_closing():
            call.writer.write(piece)
            await call.writer.drain()
            await asyncio.sleep(pause_s)

    return script


def sized_body(body: bytes, *headers: bytes) -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


#: What is done to a request, and the reason and status that it is recorded with (whether one came in time is chance).
BEHAVIOURS: dict[str, tuple[Script, str, int | None]] = {
    "huge-body": (answers_and_closes(sized_body(bytes(1_000_000))), "ok", 200),
    "endless-body": (repeats(b"400\r\n" + b"y" * 1024 + b"\r\n", first=CHUNKED), "ok", 200),
    "bomb": (answers(sized_body(BOMB, b"Content-Encoding: gzip")), "ok", 200),
    "dripping-body": (repeats(b"1\r\nx\r\n", first=CHUNKED, pause_s=0.02), "response_timeout", None),
    "dripping-headers": (repeats(b"X: y\r\n", first=HEAD, pause_s=0.02), "response_timeout", None),
    "many-headers": (repeats(b"X: y\r\n" * 100, first=HEAD), "malformed_response", 200),
    "large-headers": (repeats(b"X: " + b"y" * 8_000 + b"\r\n", first=HEAD), "malformed_response", 200),
    "endless-header": (repeats(b"y" * 8_000, first=HEAD + b"X: "), "malformed_response", 200),
    "almost-too-much": (answers(HEAD + (b"X: " + b"y" * 8_000 + b"\r\n") * 4), "response_timeout", None),
    "flood-of-103": (repeats(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50), "malformed_response", None),
    "dripping-102": (repeats(b"HTTP/1.1 102 Processing\r\n\r\n", pause_s=0.02), "response_timeout", None),
    "no-utf-8": (answers(sized_body(b"\xff\xfe\xc3(", b"X-Bad: \xff\xfe", b"\xff: 1")), "ok", 200),
    "nul-in-body": (answers(sized_body(b'{"a": "\0\\u0000"}', b"Content-Type: application/json")), "ok", 200),
    "nul-in-header": (answers_and_closes(sized_body(b"", b"X-Nul: a\0b")), "malformed_response", 200),
    "no-http": (answers_and_closes(b"\0\xff 200 OK\r\n\r\n"), "malformed_response", None),
    "bad-chunk": (answers_and_closes(CHUNKED + b"zzz\r\nbody\r\n"), "malformed_response", 200),
    "bad-length": (answers_and_closes(HEAD + b"Content-Length: minus one\r\n\r\n"), "malformed_response", 200),
    "other-protocol": (
        answers_and_closes(b"HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\n\x81\x02hi"),
        "malformed_response",
        None,
    ),
    "cut-off": (answers_and_closes(HEAD + b"Content-Length: 9\r\n\r\npart"), "connection_reset", 200),
}


async def misbehave(call: Call) -> None:
    script, _, _ = BEHAVIOURS[call.request.line.split(" ")[1].strip("/")]
    await script(call)


async def subscribe(shop: Shop, receiver: Receiver) -> None:
    for name, (_, reason, _) in BEHAVIOURS.items():
        await shop.endpoint(
            f"http://127.0.0.1:{receiver.port}/{name}",
            event_types=[name],
            timeout_ms=100 if reason == "response_timeout" else 10_000,
            max_retries=0,
            max_concurrency=AT_ONCE,
            circuit_threshold=1_000,
        )


def memory(worker: Running) -> int:
    return sum(member.memory_info().rss for member in worker.family())


@asynccontextmanager
async def watching(worker: Running) -> AsyncIterator[list[int]]:
    """The worker's memory, looked at ten times a second."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            seen.append(memory(worker))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(look())
    yield seen
    task.cancel()


async def delivered(shop: Shop, sink: Sink, *, until_done: asyncio.Event) -> list[float]:
    """Send to the neighbour all the while; return how long each took to arrive, in order."""
    accepted_at: dict[str, float] = {}
    while not until_done.is_set():
        (id,) = await shop.send(1, type="neighbour")
        accepted_at[id] = time.monotonic()
        await asyncio.sleep(0.02)
    await until(lambda: accepted_at.keys() <= sink.events("/neighbour").keys(), 20, what="the neighbour's arrivals")
    return sorted(one.at - accepted_at[one.event_id] for one in sink.arrivals if one.event_id in accepted_at)


async def test_hostile_answers_are_recorded_and_harm_neither_memory_nor_neighbours(
    shop: Shop, conn: Conn, start_worker: StartWorker
) -> None:
    def answer(arrival: Arrival) -> Answer:
        return Answer(delay_s=0.2 if arrival.path == "/warm" else 0.0)

    async def ended(count: int) -> bool:
        rows = await conn.execute("SELECT count(*) FROM history WHERE endpoint_id <> %s", (neighbour,))
        return (await rows.fetchall())[0][0] >= count

    with Sink(answer) as sink:
        neighbour = await shop.endpoint(sink.url("/neighbour"), event_types=["neighbour"])
        for n in range(len(BEHAVIOURS)):
            await shop.endpoint(sink.url("/warm"), event_types=[f"warm.{n}"], max_concurrency=AT_ONCE)
        worker = start_worker()
        for n in range(len(BEHAVIOURS)):
            await shop.send(AT_ONCE, type=f"warm.{n}")
        warm = AT_ONCE * len(BEHAVIOURS)
        await until_so(lambda: ended(warm), 60)  # as many good ones at a time as bad ones will be
        before = memory(worker)
        async with receiving(misbehave) as receiver:
            await subscribe(shop, receiver)
            done = asyncio.Event()
            async with watching(worker) as seen:
                neighbours = asyncio.create_task(delivered(shop, sink, until_done=done))
                for name in BEHAVIOURS:
                    await shop.send(REQUESTS, type=name)
                await until_so(lambda: ended(warm + REQUESTS * len(BEHAVIOURS)), sized(600, 60))
                done.set()
                took = await neighbours
    growth = max(seen) - before
    tell(
        f"{REQUESTS} requests to each of {len(BEHAVIOURS)} hostile answers: {growth / (1 << 20):.1f} MB of memory more"
    )
    most = took[len(took) * 95 // 100]
    tell(f"of {len(took)} to their neighbour 95 % took {most:.3f} s at most, the slowest {took[-1]:.3f} s")
    await check_records(conn)
    assert growth < MOST_GROWTH
    assert most < 1.0


async def check_records(conn: Conn) -> None:
    rows = await conn.execute(
        """SELECT regexp_replace(request_url, '.*/', ''), array_agg(DISTINCT reason || ' ' ||
               CASE reason WHEN 'response_timeout' THEN 0 ELSE coalesce(status, 0) END), count(*),
               bool_and(reason = 'ok' OR error <> ''), max(octet_length(body)), max(length(response_headers::text))
           FROM attempts WHERE request_url NOT LIKE '%/warm' AND request_url NOT LIKE '%/neighbour' GROUP BY 1"""
    )
    every = await rows.fetchall()
    found = {name: (ends, count, told) for name, ends, count, told, *_ in every}
    assert found == {
        name: ([f"{reason} {status or 0}"], REQUESTS, True) for name, (_, reason, status) in BEHAVIOURS.items()
    }
    assert max(body or 0 for *_, body, _ in every) == 16_384
    assert max(headers or 0 for *_, headers in every) < 20_000
    rows = await conn.execute("SELECT DISTINCT body FROM attempts WHERE request_url LIKE '%/bomb'")
    assert await rows.fetchall() == [(BOMB[:16_384],)]
    rows = await conn.execute("SELECT count(*) FROM attempts WHERE request_url LIKE '%/neighbour' AND reason <> 'ok'")
    assert await rows.fetchall() == [(0,)]
