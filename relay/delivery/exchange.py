"""One request in flight: what it is, the libcurl handle that carries it, and what is made of the answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pycurl

from relay import __version__
from relay.delivery import curl_errors
from relay.delivery.addresses import Guard
from relay.delivery.authorization import ClientTLS, Credentials
from relay.delivery.header_lines import final_block, header_lines, parse_headers
from relay.delivery.outcomes import Reason
from relay.delivery.proxy import Route

CONNECT_TIMEOUT_MS = 10_000
# An answer with more of headers is given up, informational answers before it and trailers after it counted in.
MOST_HEADER_LINES = 500
MOST_HEADER_BYTES = 32_768

_SUPPRESS_CONNECT_HEADERS = 265  # libcurl's, which pycurl has no name for: the proxy's headers are not the endpoint's


@dataclass(frozen=True, slots=True)
class Request:
    """One request; the timeout spans everything from the name look-up to the last byte of the answer, in milliseconds.

    `method`: POST, or another that has a body.
    """

    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    timeout_ms: int
    body_limit: int = 16_384
    #: What the headers hold of secrets, which certificates the connection needs, and whom `oauth` asks for a token.
    credentials: Credentials | None = None
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Timings:
    """How long each phase took, in milliseconds; phases that a reused connection skips, or never reached, are 0.

    `first_byte_ms` runs from the request being ready to send to the first byte of the answer.
    """

    dns_ms: float
    connect_ms: float
    tls_ms: float
    first_byte_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. `reason` is None if an HTTP answer came, whole or cut at the limit; judge `status` only then.

    With a reason, `error` says in one sentence what happened, and `status` is that of the answer that broke off, or 0.
    Header names are in lower case, values of a repeated name joined by commas; all text is free of NUL and surrogates.
    """

    status: int
    reason: Reason | None
    error: str | None
    headers: dict[str, str]
    body: bytes
    body_truncated: bool
    peer_ip: str | None
    timings: Timings


class _HandedOver(socket.socket):
    """A socket that pycurl duplicates: ours closes, without a warning, as soon as pycurl lets go of it."""

    def __del__(self) -> None:
        self.close()


class Exchange:
    """A pooled libcurl handle and the state of the one request it carries."""

    __slots__ = (
        "body", "curl", "future", "guard", "header_bytes", "header_lines", "left", "lines", "method", "refusal",
        "route",        "timeout_ms", "tls", "truncated",
    )  # fmt: skip

    def __init__(self, guard: Guard, trust: Sequence[tuple[int, str | bytes]]) -> None:
        self.guard = guard
        self.curl = pycurl.Curl()
        self.lines: list[bytes] = []
        self.header_lines = MOST_HEADER_LINES
        self.header_bytes = MOST_HEADER_BYTES
        self.route: Route | None = None
        self.body: list[bytes] = []
        self.left = 0
        self.truncated = False
        #: Certificates of its own, which must not reach another endpoint's request: it is used once.
        self.tls: ClientTLS | None = None
        self.refusal: curl_errors.Refusal | None = None
        self.timeout_ms = -1
        self.method = "POST"
        self.future: asyncio.Future[Response] | None = None
        self._configure(trust)

    def _configure(self, trust: Sequence[tuple[int, str | bytes]]) -> None:
        set_option = self.curl.setopt
        set_option(pycurl.POST, 1)
        set_option(pycurl.NOSIGNAL, 1)
        set_option(pycurl.PROXY, "")
        set_option(pycurl.FOLLOWLOCATION, 0)
        set_option(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        set_option(pycurl.HTTP09_ALLOWED, 0)
        set_option(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        set_option(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        set_option(pycurl.USERAGENT, f"Relay/{__version__}")
        set_option(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        set_option(pycurl.WRITEFUNCTION, self._take_body)
        set_option(pycurl.HEADERFUNCTION, self._take_header)
        for option, value in trust:
            set_option(option, value)

    def begin(self, request: Request, future: asyncio.Future[Response], route: Route | None = None) -> None:
        """Load a request into the handle, replacing all that was left of the one before."""
        self.future = future
        if route is not None:
            self._go_through(route)
        self.left = request.body_limit
        set_option = self.curl.setopt
        set_option(pycurl.URL, request.url.encode("utf-8", "replace").replace(b"\0", b"%00"))
        set_option(pycurl.HTTPHEADER, header_lines(request.headers))
        set_option(pycurl.POSTFIELDS, request.body)
        if request.method != self.method:
            self.method = request.method
            set_option(pycurl.CUSTOMREQUEST, request.method)  # with a body, as POST has one
        if request.timeout_ms != self.timeout_ms:
            self.timeout_ms = request.timeout_ms
            set_option(pycurl.TIMEOUT_MS, max(1, request.timeout_ms))
            set_option(pycurl.CONNECTTIMEOUT_MS, max(1, min(CONNECT_TIMEOUT_MS, request.timeout_ms)))

    def end(self) -> None:
        """Forget the request, so that nothing of it is kept alive or reaches the next one."""
        self.lines.clear()
        self.header_lines = MOST_HEADER_LINES
        self.header_bytes = MOST_HEADER_BYTES
        self.body = []
        self.truncated = False
        self.refusal = None
        self.future = None
        self.curl.setopt(pycurl.POSTFIELDS, b"")

    def _open_socket(self, _purpose: int, address: Any) -> socket.socket | int:
        family, kind, protocol, where = address
        sentence = (
            self._objection(where) if family in (socket.AF_INET, socket.AF_INET6) else "It is no internet address."
        )
        if sentence is not None:
            self.refusal = curl_errors.Refusal(str(where[0]), sentence)
            return pycurl.SOCKET_BAD
        try:
            return _HandedOver(family, kind, protocol)
        except OSError as cause:  # no more file descriptors, or no IPv6 on this machine
            self.refusal = self.refusal or curl_errors.Refusal(where[0], cause=cause)
            return pycurl.SOCKET_BAD

    def _objection(self, where: Any) -> str | None:
        """What is to be said against connecting to an (address, port, …); through a proxy all but its own are refused."""
        ip, port = where[0], where[1]
        if self.route is not None:
            its_own = (self.route.proxy_ip, self.route.proxy_port)
            return None if (ip, port) == its_own else curl_errors.forbidden_address(ip)
        if self.guard.forbids(ip):
            return curl_errors.forbidden_address(ip)
        return curl_errors.forbidden_port(port) if self.guard.forbids_port(port) else None

    def _go_through(self, route: Route) -> None:
        """Send what is sent next through the proxy, to the address that was checked, whatever the URL's host is."""
        self.route = route
        set_option = self.curl.setopt
        set_option(pycurl.PROXY, f"http://{_bracketed(route.proxy_ip)}:{route.proxy_port}")
        set_option(pycurl.NOPROXY, "")
        set_option(pycurl.HTTPPROXYTUNNEL, 1)
        set_option(_SUPPRESS_CONNECT_HEADERS, 1)
        set_option(pycurl.CONNECT_TO, [f"::{_bracketed(route.target_ip)}:{route.target_port}"])
        if route.login is not None:
            set_option(pycurl.PROXYUSERNAME, route.login[0])
            set_option(pycurl.PROXYPASSWORD, route.login[1])

    def _take_header(self, line: bytes) -> int | None:
        self.header_lines -= 1
        self.header_bytes -= len(line)
        if self.header_lines < 0 or self.header_bytes < 0:
            return 0  # libcurl then drops the connection
        self.lines.append(line)
        return None

    def _take_body(self, chunk: bytes) -> int | None:
        if len(chunk) <= self.left:
            self.left -= len(chunk)
            self.body.append(chunk)
            return None
        self.body.append(chunk[: self.left])
        self.left = 0
        self.truncated = True
        return 0  # libcurl then drops the connection

    def response(self, code: int, message: str) -> Response:
        """Turn what libcurl reports (its error number, 0 for none, and its words) into the answer."""
        curl = self.curl
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        block = final_block(self.lines)
        reason, error = None, None
        if code and not (code == pycurl.E_WRITE_ERROR and self.truncated):
            reason, error = self._explain(code, message)
        elif status < 200:  # 101: the endpoint wants to speak something else
            reason, error = curl_errors.no_final_answer(status)
        elif b"\r\n" not in block and b"\n" not in block:  # libcurl does not mind
            reason, error = curl_errors.unfinished_headers()
        return Response(
            status=status if status >= 200 else 0,
            reason=reason,
            error=error,
            headers=parse_headers(block),
            body=b"".join(self.body),
            body_truncated=self.truncated,
            peer_ip=self._peer_ip(),
            timings=_timings(curl, lookup_ms=self.route.lookup_ms if self.route else 0.0),
        )

    def _explain(self, code: int, message: str) -> tuple[Reason, str]:
        if self.header_lines < 0 or self.header_bytes < 0:
            return curl_errors.too_many_headers()
        if self.route is not None and (failure := curl_errors.proxy_failure(self.curl, message)):
            return failure
        reason, error = curl_errors.explain(self.curl, code, message, refusal=self.refusal)
        if reason is Reason.CONNECTION_RESET and self.tls is not None and self.tls.certificate is not None:
            return curl_errors.unwelcome_certificate(self.curl, error)
        return reason, error

    def _peer_ip(self) -> str | None:
        connected_to = self.curl.getinfo(pycurl.PRIMARY_IP) or None
        return self.route.target_ip if self.route and connected_to else connected_to


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _timings(curl: pycurl.Curl, *, lookup_ms: float) -> Timings:
    info = curl.getinfo
    dns = info(pycurl.NAMELOOKUP_TIME_T)
    connected = info(pycurl.CONNECT_TIME_T)
    secured = info(pycurl.APPCONNECT_TIME_T)
    ready = info(pycurl.PRETRANSFER_TIME_T)
    first = info(pycurl.STARTTRANSFER_TIME_T) if info(pycurl.HEADER_SIZE) else 0
    return Timings(
        dns_ms=dns / 1000 + lookup_ms,
        connect_ms=max(0, connected - dns) / 1000,
        tls_ms=max(0, secured - connected) / 1000 if secured else 0.0,
        first_byte_ms=max(0, first - ready) / 1000,
        total_ms=info(pycurl.TOTAL_TIME_T) / 1000 + lookup_ms,
    )
