from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import trustme

from relay.delivery.addresses import Guard
from relay.delivery.outcomes import Reason
from relay.delivery.transport import Response, Transport
from tests.connect_proxy import ConnectProxy, proxying
from tests.delivery.receiver import LOOPBACK, OK, Call, Receiver, a_post, answers, receiving, until

PUBLIC = "93.184.215.14"  # never reached: the proxy of the test dials the test's own receiver
NAMES = ("localhost", PUBLIC, "2606:4700::1111", "127.0.0.1")
HTTPS = ("https",)


@pytest.fixture(scope="module", name="authority")
def _authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(name="tls")
def _tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)
    return context


@pytest.fixture(name="ca_file")
def _ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@asynccontextmanager
async def through(
    proxy: ConnectProxy, ca_file: str | None = None, *, guard: Guard | None = None
) -> AsyncIterator[Transport]:
    transport = Transport(guard or Guard((), schemes=HTTPS), ca_file=ca_file, proxy=proxy.url("relay:pass%20word@"))
    yield transport
    await transport.close()


@asynccontextmanager
async def receiver_behind_a_proxy(tls: ssl.SSLContext) -> AsyncIterator[tuple[Receiver, ConnectProxy]]:
    async with receiving(answers(OK), tls=tls) as receiver, proxying(lambda _: ("127.0.0.1", receiver.port)) as proxy:
        yield receiver, proxy


async def test_the_proxy_is_told_the_checked_address_and_the_endpoint_its_name(
    tls: ssl.SSLContext, ca_file: str
) -> None:
    names: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    guard = Guard(LOOPBACK, schemes=HTTPS)
    async with receiver_behind_a_proxy(tls) as (receiver, proxy), through(proxy, ca_file, guard=guard) as transport:
        url = f"https://localhost:{receiver.port}/hook"
        first = await transport.post(a_post(url, headers=(("X-Secret", "s"), ("Authorization", "Bearer t"))))
        second = await transport.post(a_post(url))
    assert (first.status, first.reason, first.body, second.status) == (200, None, b"ok", 200)
    (asked,) = proxy.asked  # the second went through the same tunnel
    assert asked.line == f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1"
    assert set(asked.headers) == {"host", "proxy-authorization", "user-agent", "proxy-connection"}
    assert asked.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert asked.headers["proxy-authorization"] == "Basic cmVsYXk6cGFzcyB3b3Jk"
    assert names == ["localhost"]
    assert [request.header("host") for request in receiver.requests] == [f"localhost:{receiver.port}"] * 2
    assert receiver.requests[0].header("proxy-authorization") is None
    assert receiver.requests[0].header("x-secret") == "s"
    assert first.headers == {"content-length": "2"}  # none of the proxy's
    assert first.peer_ip == "127.0.0.1"
    assert first.timings.tls_ms > 0


@pytest.mark.parametrize("host", [PUBLIC, "[2606:4700::1111]"])
async def test_a_public_address_is_reached_through_the_proxy_only(tls: ssl.SSLContext, ca_file: str, host: str) -> None:
    async with receiver_behind_a_proxy(tls) as (_, proxy), through(proxy, ca_file) as transport:
        response = await transport.post(a_post(f"https://{host}/hook"))
    assert (response.status, response.reason, response.peer_ip) == (200, None, host.strip("[]"))
    assert [asked.target for asked in proxy.asked] == [f"{host}:443"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://127.0.0.1:8443/", "ALLOWED_PRIVATE_NETWORKS"),
        ("https://localhost/", "ALLOWED_PRIVATE_NETWORKS"),
        ("https://0x7f.1/", "ALLOWED_PRIVATE_NETWORKS"),
        ("https://[::ffff:10.0.0.1]/", "ALLOWED_PRIVATE_NETWORKS"),
        ("https://169.254.169.254/latest/meta-data", "must not send to"),
        (f"https://{PUBLIC}:22/", "ALLOWED_PORTS"),
        (f"http://{PUBLIC}/", "EGRESS_PROXY"),
        ("ftp://example.com/", "cannot send"),
        ("https://[::1/", "cannot send"),
        ("", "cannot send"),
    ],
)
async def test_what_the_guard_forbids_is_not_even_asked_of_the_proxy(url: str, says: str) -> None:
    async with proxying(lambda _: ("127.0.0.1", 1)) as proxy, through(proxy) as transport:
        response = await transport.post(a_post(url))
        assert transport.in_flight == 0
    assert (response.status, response.reason) == (0, Reason.ADDRESS_FORBIDDEN)
    assert says in str(response.error)
    assert proxy.connections == 0


def failed(response: Response) -> bool:
    return (response.status, response.reason) == (0, Reason.PROXY_FAILED) and "proxy" in str(response.error).lower()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops",
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
        b"not HTTP at all\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nX: " + b"a" * 400_000 + b"\r\n\r\n",
        b"HTTP/1.1 403 For",
    ],
)
async def test_a_proxy_that_does_not_let_through_is_proxy_failed(answer: bytes) -> None:
    async with proxying(lambda _: ("127.0.0.1", 1), answer=answer) as proxy, through(proxy) as transport:
        response = await transport.post(a_post(f"https://{PUBLIC}/"))
    assert failed(response), response


async def test_a_proxy_that_is_away_silent_or_unknown_is_proxy_failed() -> None:
    async with proxying(lambda _: ("127.0.0.1", 1), answer=b"") as proxy, through(proxy) as transport:
        assert failed(await transport.post(a_post(f"https://{PUBLIC}/", timeout_ms=150)))
    async with through(proxy) as transport:  # nobody listens at its port any more
        assert failed(await transport.post(a_post(f"https://{PUBLIC}/")))
    transport = Transport(Guard(()), proxy="http://no-such-proxy.invalid:3128")
    assert failed(await transport.post(a_post(f"https://{PUBLIC}/")))
    await transport.close()


async def test_what_goes_wrong_behind_the_proxy_is_told_as_without_one(tls: ssl.SSLContext, ca_file: str) -> None:
    async def one_answer(call: Call) -> None:
        if len(receiver.requests) > 1:
            call.reset()
        call.writer.write(OK)

    async with receiving(one_answer, tls=tls) as receiver, proxying(lambda _: ("127.0.0.1", receiver.port)) as proxy:
        async with through(proxy) as transport:  # which does not know the authority
            assert (await transport.post(a_post(f"https://{PUBLIC}/"))).reason is Reason.TLS_FAILED
        async with through(proxy, ca_file) as transport:
            assert (await transport.post(a_post(f"https://{PUBLIC}/"))).reason is None
            again = await transport.post(a_post(f"https://{PUBLIC}/"))
            assert again.reason is Reason.CONNECTION_RESET, again
            nowhere = await transport.post(a_post("https://no-such-host.invalid/"))
            assert (nowhere.status, nowhere.reason) == (0, Reason.DNS_FAILED)


async def test_a_reused_tunnel_leads_to_the_same_address_only(tls: ssl.SSLContext, ca_file: str) -> None:
    async with receiver_behind_a_proxy(tls) as (_, proxy), through(proxy, ca_file) as transport:
        for host in (PUBLIC, "[2606:4700::1111]", PUBLIC):
            assert (await transport.post(a_post(f"https://{host}/"))).status == 200
    assert [asked.target for asked in proxy.asked] == [f"{PUBLIC}:443", "[2606:4700::1111]:443"]


async def test_many_at_once_go_through_the_proxy(tls: ssl.SSLContext, ca_file: str) -> None:
    guard = Guard((IPv4Network("127.0.0.0/8"),), schemes=HTTPS)
    async with receiver_behind_a_proxy(tls) as (receiver, proxy), through(proxy, ca_file, guard=guard) as transport:
        posts = [transport.post(a_post(f"https://localhost:{receiver.port}/{n}")) for n in range(40)]
        assert transport.in_flight == 40
        assert {response.status for response in await asyncio.gather(*posts)} == {200}
        await until(lambda: transport.in_flight == 0)


async def test_closing_cancels_what_looks_for_its_way() -> None:
    async with proxying(lambda _: ("127.0.0.1", 1)) as proxy:
        async with through(proxy) as transport:
            post = transport.post(a_post(f"https://{PUBLIC}/"))
        assert post.cancelled()
    assert proxy.connections == 0
