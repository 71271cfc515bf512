from __future__ import annotations

import socket
from contextlib import closing

import pytest

from relay.delivery.outcomes import Reason
from relay.delivery.transport import Transport
from tests.delivery.receiver import (
    OK,
    Call,
    a_post,
    answers,
    answers_and_closes,
    never_answers,
    receiving,
    resets,
)


async def test_an_answer_that_never_comes_is_a_response_timeout(transport: Transport) -> None:
    async with receiving(never_answers) as receiver:
        response = await transport.post(a_post(receiver.url(), timeout_ms=80))
    assert (response.status, response.reason) == (0, Reason.RESPONSE_TIMEOUT)
    assert response.peer_ip == "127.0.0.1"
    assert response.error is not None
    assert 70 <= response.timings.total_ms < 2000


async def test_a_body_that_stalls_is_a_response_timeout_that_keeps_the_status(transport: Transport) -> None:
    async with receiving(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")) as receiver:
        response = await transport.post(a_post(receiver.url(), timeout_ms=80))
    assert (response.status, response.reason, response.body) == (200, Reason.RESPONSE_TIMEOUT, b"part")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"a" * 8_200 + b"\r\n") * 4 + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 250 + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 500 + b"\r\n",
    ],
)
async def test_more_headers_than_anybody_needs_are_given_up(transport: Transport, answer: bytes) -> None:
    async with receiving(answers(answer)) as receiver:
        response = await transport.post(a_post(receiver.url()))
        assert response.reason == Reason.MALFORMED_RESPONSE
        assert "its headers are too many or too large" in str(response.error)
        again = await transport.post(a_post(receiver.url()))
    assert (again.reason, receiver.connections) == (Reason.MALFORMED_RESPONSE, 2)  # and the handle counts anew


async def test_many_headers_are_an_answer_of_which_the_first_hundred_are_kept(transport: Transport) -> None:
    lines = b"".join(b"X-%d: a\r\n" % n for n in range(400))
    async with receiving(answers(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 0\r\n\r\n")) as receiver:
        for _ in range(3):
            response = await transport.post(a_post(receiver.url()))
            assert (response.status, response.reason, len(response.headers)) == (200, None, 100)


async def test_a_flood_of_informational_answers_ends(transport: Transport) -> None:
    async def script(call: Call) -> None:
        while not call.writer.is_closing():
            call.writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100)
            await call.writer.drain()

    async with receiving(script) as receiver:
        response = await transport.post(a_post(receiver.url(), timeout_ms=1500))
    assert (response.status, response.reason) == (0, Reason.MALFORMED_RESPONSE)
    assert response.timings.total_ms < 1000


async def test_a_reset_is_a_connection_reset(transport: Transport) -> None:
    async with receiving(resets) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert (response.status, response.reason) == (0, Reason.CONNECTION_RESET)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_a_close_before_the_end_of_the_answer_is_a_connection_reset(transport: Transport, answer: bytes) -> None:
    async with receiving(answers_and_closes(answer)) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert response.reason == Reason.CONNECTION_RESET


async def test_a_closed_port_is_connection_refused(transport: Transport) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        response = await transport.post(a_post(f"http://127.0.0.1:{taken.getsockname()[1]}/"))
    assert (response.status, response.reason) == (0, Reason.CONNECTION_REFUSED)
    assert response.error is not None
    assert response.error.startswith("The connection could not be made (")


async def test_a_host_that_takes_no_connection_is_a_connect_timeout(transport: Transport) -> None:
    with closing(socket.socket()) as full, closing(socket.socket()) as first, closing(socket.socket()) as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):  # the queue of the listener is full: the kernel drops what comes next
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        response = await transport.post(a_post(f"http://127.0.0.1:{full.getsockname()[1]}/", timeout_ms=150))
    assert (response.status, response.reason) == (0, Reason.CONNECT_TIMEOUT)


async def test_a_name_that_does_not_exist_is_dns_failed_and_the_loop_goes_on(transport: Transport) -> None:
    post = transport.post(a_post("http://no-such-host.invalid/", timeout_ms=3000))
    async with receiving(answers(OK)) as receiver:
        assert (await transport.post(a_post(receiver.url()))).status == 200
    response = await post
    assert (response.status, response.reason) == (0, Reason.DNS_FAILED)


@pytest.mark.parametrize(
    "answer",
    [
        b"hello there, this is not HTTP at all\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: minus one\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\nbody\r\n",
        b"HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: a\r\n" * 60_000 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\x81\x02hi",
        b"\x16\x03\x01\x02\0\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_http_answer_is_malformed(transport: Transport, answer: bytes) -> None:
    async with receiving(answers_and_closes(answer)) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert response.reason == Reason.MALFORMED_RESPONSE
    assert response.error is not None
    assert response.error.encode()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "http://", "", "http://ü:x@/", "\0"]
)
async def test_what_is_no_http_url_is_refused_without_an_exception(transport: Transport, url: str) -> None:
    response = await transport.post(a_post(url))
    assert response.reason in (Reason.ADDRESS_FORBIDDEN, Reason.DNS_FAILED)
