"""A receiver whose answers are made to hurt, in a process of its own: what it costs to send them is nobody else's."""

from __future__ import annotations

import asyncio
import gzip
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from tests.delivery.receiver import Call, Script, answers, answers_and_closes, receiving

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(10_000_000), mtime=0)


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


async def _serve(told: Connection) -> None:
    async with receiving(misbehave) as receiver:
        told.send(receiver.port)
        await asyncio.Event().wait()


def _run(told: Connection) -> None:
    asyncio.run(_serve(told))


@contextmanager
def misbehaving() -> Iterator[int]:
    """Run the receiver until the block ends; its port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs,), daemon=True)
    process.start()
    try:
        assert ours.poll(20), "the hostile receiver does not start"
        yield ours.recv()
    finally:
        process.kill()
        process.join(10)
