"""Clients that send slowly, too much, or stop half-way, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import falcon.asgi
import pytest
import uvicorn
from falcon.asgi import Request, Response

from api.bodies import read_body
from api.errors import headers_of, status_of
from api.slow_clients import MAX_HEADER_BYTES, PatientHttp, patient_http
from relay.errors import RelayError
from relay.up.development import free_port
from tests.running import until

_HEAD = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


class _Hasty(PatientHttp):
    headers_s = 0.4
    body_s = 1.2


class _Reads:
    async def on_post(self, req: Request, resp: Response) -> None:
        try:
            resp.data = await read_body(req, limit=1000, within_s=0.4)
        except RelayError as error:
            resp.status = status_of(error)
            resp.set_headers(headers_of(error))


class _Answers:
    async def on_post(self, req: Request, resp: Response) -> None:
        resp.data = b"done"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app: Any = falcon.asgi.App()
    app.add_route("/read", _Reads())
    app.add_route("/answer", _Answers())
    number = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=number, http=_Hasty, log_level="critical", lifespan="off"))
    serving = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    yield number
    server.should_exit = True
    await serving


async def talk(port: int, *parts: bytes, every_s: float = 0.1, trickle: bytes = b"") -> bytes:
    """Send the parts, then a little again and again; return what came until the server closed. Fails after 5 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        for part in parts:
            writer.write(part)
        while trickle:
            writer.write(trickle)
            await asyncio.sleep(every_s)

    sending, got = asyncio.create_task(send()), b""
    try:
        async with asyncio.timeout(5):
            while more := await reader.read(1 << 16):
                got += more
    except ConnectionResetError:  # what was sent after the server closed; its answer came before
        pass
    finally:
        sending.cancel()
        writer.close()
    return got


#: What the server leaves unread resets the connection, and the answer with it: no line follows the one that is too many.
_LINE = b"X-A: " + b"b" * 1000 + b"\r\n"


async def test_who_sends_too_slowly_is_cut_off(port: int) -> None:
    silent, headers, body, unread, long = await asyncio.gather(
        talk(port),
        talk(port, b"POST /read HTTP/1.1\r\n", trickle=b"X-A: b\r\n"),
        talk(port, _HEAD + b"\r\n", trickle=b"x"),
        talk(port, _HEAD.replace(b"/read", b"/answer").replace(b"100", b"99999999") + b"\r\n", trickle=b"x"),
        talk(port, b"POST /read HTTP/1.1\r\n", *[_LINE] * (MAX_HEADER_BYTES // len(_LINE) + 1)),
    )
    assert silent == b""
    assert headers == b""
    assert body.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in body.lower()
    assert unread.startswith(b"HTTP/1.1 200 ")
    assert long.startswith(b"HTTP/1.1 431 ")


async def test_who_sends_more_than_is_taken_is_told_so_and_cut_off(port: int) -> None:
    answer = await talk(port, _HEAD.replace(b"100", b"99999999") + b"\r\n", trickle=b"x" * 100)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_connection_that_is_used_again_has_its_time_again(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(4):
        writer.write(_HEAD.replace(b"100", b"3") + b"\r\nabc")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(3) == b"abc"
        await asyncio.sleep(0.15)  # together longer than one request may take
    writer.close()


def test_the_settings_say_how_long_a_body_may_take() -> None:
    assert patient_http(7).body_s > 7
