from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.delivery.addresses import Guard
from relay.delivery.transport import Request, Transport
from tests.delivery.receiver import (
    LOOPBACK,
    OK,
    Call,
    a_post,
    answers,
    answers_and_closes,
    receiving,
)


async def test_a_200_is_an_answer_without_a_reason(transport: Transport) -> None:
    async with receiving(answers(OK)) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert (response.status, response.reason, response.error) == (200, None, None)
    assert (response.body, response.body_truncated) == (b"ok", False)
    assert response.peer_ip == "127.0.0.1"
    assert response.headers == {"content-length": "2"}
    assert 0 < response.timings.total_ms < 5000
    assert response.timings.tls_ms == 0
    assert transport.in_flight == 0


async def test_a_500_is_an_answer_and_no_error_of_the_transport(transport: Transport) -> None:
    answer = (
        b"HTTP/1.1 500 Internal Server Error\r\nRetry-After: 7\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 4\r\n\r\nboom"
    )
    async with receiving(answers(answer)) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert (response.status, response.reason, response.body) == (500, None, b"boom")
    assert response.headers == {"retry-after": "7", "x-a": "1, 2", "content-length": "4"}


async def test_what_is_sent_is_what_was_given_in_its_order(transport: Transport) -> None:
    headers = (("Content-Type", "application/json"), ("webhook-id", "evt_1"), ("X-Empty", ""), ("X-Word", "grün"))
    async with receiving(answers(OK)) as receiver:
        await transport.post(a_post(receiver.url(), body=b'{"a": 1e2}', headers=headers))
    (request,) = receiver.requests
    assert request.line == "POST /hook?a=1 HTTP/1.1"
    own = [(name, value) for name, value in request.headers if (name, value) in headers]
    assert own == list(headers)
    assert request.body == b'{"a": 1e2}'
    assert request.header("user-agent") == "Relay/0.1.0"
    others = {name.lower() for name, _ in request.headers} - {name.lower() for name, _ in headers}
    assert others == {"host", "user-agent", "accept", "content-length"}


async def test_an_empty_body_is_a_post_of_length_zero(transport: Transport) -> None:
    async with receiving(answers(OK)) as receiver:
        response = await transport.post(a_post(receiver.url(), body=b""))
    assert response.status == 200
    assert receiver.requests[0].header("content-length") == "0"
    assert receiver.requests[0].header("content-type") is None


@given(body=st.binary(max_size=3000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_arrive_as_they_are(body: bytes) -> None:
    async def send() -> bytes:
        transport = Transport(Guard(LOOPBACK))
        async with receiving(answers(OK)) as receiver:
            await transport.post(a_post(receiver.url(), body=body))
        await transport.close()
        return receiver.requests[0].body

    assert asyncio.run(send()) == body


async def test_a_body_of_megabytes_arrives_whole_without_waiting_for_a_100(transport: Transport) -> None:
    body = bytes(range(256)) * 16384
    async with receiving(answers(OK)) as receiver:
        response = await transport.post(a_post(receiver.url(), body=body))
    assert response.status == 200
    assert receiver.requests[0].body == body
    assert receiver.requests[0].header("expect") is None


async def test_headers_that_frame_a_request_and_line_breaks_do_not_leave(transport: Transport) -> None:
    headers = (
        ("Content-Length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Expect", "100-continue"),
        ("X-A", "1\r\nX-Injected: 2\0"),
    )
    async with receiving(answers(OK)) as receiver:
        response = await transport.post(a_post(receiver.url(), body=b"four", headers=headers))
    (request,) = receiver.requests
    assert response.status == 200
    assert request.body == b"four"
    assert request.header("content-length") == "4"
    assert request.header("x-a") == "1  X-Injected: 2"
    for name in ("transfer-encoding", "connection", "expect", "x-injected"):
        assert request.header(name) is None


async def test_nothing_of_a_request_reaches_the_next_one(transport: Transport) -> None:
    plain = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with receiving(answers(b"HTTP/1.1 200 OK\r\nX-Once: 1\r\nContent-Length: 2\r\n\r\nok", plain)) as receiver:
        await transport.post(a_post(receiver.url(), body=b"first", headers=(("X-Secret", "s"),)))
        second = await transport.post(a_post(receiver.url(), body=b""))
    assert (second.status, second.body, second.headers) == (204, b"", {})
    assert receiver.requests[1].header("x-secret") is None
    assert receiver.requests[1].body == b""


async def test_informational_answers_before_the_real_one_are_passed_over(transport: Transport) -> None:
    async with receiving(answers(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert (response.status, response.headers) == (200, {"content-length": "2"})


async def test_a_huge_body_is_cut_and_its_status_counts(transport: Transport) -> None:
    huge = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
    async with receiving(answers(huge)) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert (response.status, response.reason, response.error) == (404, None, None)
    assert (response.body, response.body_truncated) == (b"x" * 16384, True)


async def test_an_endless_body_is_cut_and_its_status_counts(transport: Transport) -> None:
    async def script(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not call.writer.is_closing():
            call.writer.write(b"400\r\n" + b"y" * 1024 + b"\r\n")
            await call.writer.drain()

    async with receiving(script) as receiver:
        response = await transport.post(
            Request(url=receiver.url(), headers=(), body=b"", timeout_ms=5000, body_limit=100)
        )
        after = await transport.post(a_post(receiver.url()))
    assert (response.status, response.reason) == (200, None)
    assert (response.body, response.body_truncated) == (b"y" * 100, True)
    assert after.status == 200


async def test_a_body_of_exactly_the_limit_is_whole(transport: Transport) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n" + b"z" * 16384
    async with receiving(answers(answer)) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert (len(response.body), response.body_truncated, response.reason) == (16384, False, None)


async def test_a_compressed_body_is_kept_as_it_came_and_none_is_asked_for(transport: Transport) -> None:
    async with receiving(
        answers(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\0")
    ) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert response.body == b"\x1f\x8b\0"
    assert receiver.requests[0].header("accept-encoding") is None


async def test_a_redirect_is_an_answer_and_is_not_followed(transport: Transport) -> None:
    async with receiving(answers(OK)) as other:
        answer = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {other.url()}\r\nContent-Length: 0\r\n\r\n".encode()
        async with receiving(answers(answer)) as receiver:
            response = await transport.post(a_post(receiver.url()))
    assert (response.status, response.reason) == (307, None)
    assert other.requests == []


async def test_headers_are_cleaned_and_bounded(transport: Transport) -> None:
    many = b"".join(b"X-%d: v\r\n" % n for n in range(300))
    answer = b"HTTP/1.1 200 OK\r\nX-Odd: \xff\xed\xa0\x80\x01\r\n" + many + b"Content-Length: 0\r\n\r\n"
    async with receiving(answers(answer)) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert response.status == 200
    assert len(response.headers) == 100
    assert response.headers["x-odd"].encode().startswith("\ufffd".encode())


@given(answer=st.binary(max_size=400) | st.binary(max_size=200).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail))
@settings(max_examples=100, deadline=None)
def test_no_answer_raises_and_all_text_can_be_stored(answer: bytes) -> None:
    async def send() -> None:
        transport = Transport(Guard(LOOPBACK))
        async with receiving(answers_and_closes(answer)) as receiver:
            response = await transport.post(a_post(receiver.url()))
        await transport.close()
        texts = [response.error or "", *response.headers, *response.headers.values()]
        assert all("\0" not in text and text.encode() is not None for text in texts)
        assert (response.reason is None) == (response.error is None)
        assert response.reason is not None or response.status >= 200

    asyncio.run(send())
