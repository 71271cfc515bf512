from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import pytest

from relay.delivery.addresses import Guard
from relay.delivery.outcomes import Reason
from relay.delivery.transport import Transport
from tests.delivery.receiver import (
    LOOPBACK,
    OK,
    Call,
    a_post,
    answers,
    answers_and_closes,
    never_answers,
    receiving,
    until,
)


async def test_a_connection_is_kept_alive_and_used_again(transport: Transport) -> None:
    async with receiving(answers(OK)) as receiver:
        responses = [await transport.post(a_post(receiver.url())) for _ in range(5)]
    assert [response.status for response in responses] == [200] * 5
    assert receiver.connections == 1
    assert responses[4].timings.connect_ms == 0
    assert responses[4].peer_ip == "127.0.0.1"


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_kept_connection_that_the_peer_dropped_costs_no_attempt(transport: Transport, how: str) -> None:
    async def script(call: Call) -> None:
        if len(receiver.requests) == 2:  # came on the old connection: dropped without a byte of an answer
            call.reset() if how == "resets" else call.writer.close()
        else:
            call.writer.write(OK)

    async with receiving(script) as receiver:
        first = await transport.post(a_post(receiver.url()))
        second = await transport.post(a_post(receiver.url(), body=b"again"))
    assert (first.status, second.status, second.reason) == (200, 200, None)
    assert [request.body for request in receiver.requests] == [b"{}", b"again", b"again"]
    assert [request.connection for request in receiver.requests] == [1, 1, 2]


async def test_a_kept_connection_closed_while_idle_is_replaced(transport: Transport) -> None:
    async with receiving(answers_and_closes(OK)) as receiver:
        for _ in range(3):
            response = await transport.post(a_post(receiver.url()))
            assert (response.status, response.reason) == (200, None)
    assert receiver.connections == 3


async def test_two_hundred_at_once_all_arrive_and_reuse_their_connections(transport: Transport) -> None:
    async with receiving(answers(OK)) as receiver:
        for _ in range(2):
            posts = [transport.post(a_post(receiver.url(), body=str(n).encode())) for n in range(200)]
            assert transport.in_flight == 200
            assert {response.status for response in await asyncio.gather(*posts)} == {200}
    assert sorted(int(request.body) for request in receiver.requests) == sorted([*range(200), *range(200)])
    assert receiver.connections <= 200


async def test_a_slow_answer_within_the_timeout_is_an_answer(transport: Transport) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        call.writer.write(OK[:20])
        await go.wait()
        call.writer.write(OK[20:])

    async with receiving(script) as receiver:
        post = transport.post(a_post(receiver.url()))
        asyncio.get_running_loop().call_later(0.05, go.set)
        response = await post
    assert (response.status, response.body) == (200, b"ok")
    assert response.timings.total_ms >= 45


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]"])
async def test_a_forbidden_address_is_never_connected_to_however_it_is_spelt(host: str) -> None:
    transport = Transport(Guard(()))
    async with receiving(answers(OK)) as receiver:
        response = await transport.post(a_post(receiver.url(host)))
    await transport.close()
    assert (response.status, response.reason) == (0, Reason.ADDRESS_FORBIDDEN)
    assert response.error is not None
    assert "ALLOWED_PRIVATE_NETWORKS" in response.error
    assert receiver.connections == 0


async def test_a_port_that_is_not_open_is_never_connected_to() -> None:
    transport = Transport(Guard(LOOPBACK, open_to="443"))
    async with receiving(answers(OK)) as receiver:
        response = await transport.post(a_post(receiver.url("localhost")))
    await transport.close()
    assert (response.status, response.reason) == (0, Reason.ADDRESS_FORBIDDEN)
    assert "ALLOWED_PORTS" in str(response.error)
    assert receiver.connections == 0


async def test_cloud_metadata_is_forbidden_even_when_everything_is_allowed() -> None:
    transport = Transport(Guard((IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))))
    for host in ("169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"):
        response = await transport.post(a_post(f"http://{host}/latest/meta-data", timeout_ms=2000))
        assert response.reason == Reason.ADDRESS_FORBIDDEN
    await transport.close()


async def test_a_name_that_leads_to_an_allowed_address_is_reached(transport: Transport) -> None:
    async with receiving(answers(OK)) as receiver:
        response = await transport.post(a_post(receiver.url("localhost")))
    assert response.status == 200


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch, transport: Transport) -> None:
    for name in ("http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with receiving(answers(OK)) as receiver:
        response = await transport.post(a_post(receiver.url()))
    assert response.status == 200


async def test_a_waiter_that_gives_up_breaks_nothing(transport: Transport) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        call.writer.write(OK)

    async with receiving(script) as receiver:
        post = transport.post(a_post(receiver.url()))
        await until(lambda: receiver.requests)
        post.cancel()
        assert transport.in_flight == 1
        go.set()
        await until(lambda: transport.in_flight == 0)
        assert (await transport.post(a_post(receiver.url()))).status == 200


async def test_closing_cancels_what_is_in_flight() -> None:
    transport = Transport(Guard(LOOPBACK))
    async with receiving(never_answers) as receiver:
        post = transport.post(a_post(receiver.url()))
        await until(lambda: receiver.requests)
        await transport.close()
        assert post.cancelled()
        await until(lambda: not receiver.open_writers)
    assert transport.in_flight == 0
    with pytest.raises(RuntimeError):
        transport.post(a_post("http://127.0.0.1/"))


async def test_a_handle_that_sent_another_method_posts_again(transport: Transport) -> None:
    async with receiving(answers(OK)) as receiver:
        for method in ("PUT", "POST", "PATCH", "POST"):
            assert (await transport.post(replace(a_post(receiver.url()), method=method))).status == 200
    assert [one.line.partition(" ")[0] for one in receiver.requests] == ["PUT", "POST", "PATCH", "POST"]
    assert {one.body for one in receiver.requests} == {b"{}"}
