"""One request in flight: what it is, the libcurl handle that carries it, and what is made of the answer."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pycurl

from relay import __version__
from relay.delivery import curl_errors
from relay.delivery.authorization import ClientTLS, Credentials
from relay.delivery.outcomes import Reason

CONNECT_TIMEOUT_MS = 10_000
MAX_HEADERS = 100
MAX_HEADER_CHARS = 16_384

# libcurl writes these itself: an endpoint's own could smuggle a request into a connection that other endpoints share.
_FRAMING = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_LINE_BREAKS = re.compile(r"[\r\n\0]")
# An empty value takes a header away that libcurl would send by itself; the ones given in a request stay.
_SUPPRESSED = (b"Expect:", b"Content-Type:")


@dataclass(frozen=True, slots=True)
class Request:
    """One POST; the timeout spans everything from the name look-up to the last byte of the answer, in milliseconds."""

    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    timeout_ms: int
    body_limit: int = 16_384
    #: What the headers hold of secrets, which certificates the connection needs, and whom `oauth` asks for a token.
    credentials: Credentials | None = None


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

    __slots__ = ("body", "curl", "forbids", "future", "left", "lines", "refusal", "timeout_ms", "tls", "truncated")

    def __init__(self, forbids: Callable[[str], bool], trust: Sequence[tuple[int, str | bytes]]) -> None:
        self.forbids = forbids
        self.curl = pycurl.Curl()
        self.lines: list[bytes] = []
        self.body: list[bytes] = []
        self.left = 0
        self.truncated = False
        #: Certificates of its own, which must not reach another endpoint's request: it is used once.
        self.tls: ClientTLS | None = None
        self.refusal: curl_errors.Refusal | None = None
        self.timeout_ms = -1
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
        # libcurl itself ends an answer with more than 300 KB or 5 000 lines of headers, informational ones included.
        set_option(pycurl.HEADERFUNCTION, self.lines.append)
        for option, value in trust:
            set_option(option, value)

    def begin(self, request: Request, future: asyncio.Future[Response]) -> None:
        """Load a request into the handle, replacing all that was left of the one before."""
        self.future = future
        self.left = request.body_limit
        set_option = self.curl.setopt
        set_option(pycurl.URL, request.url.encode("utf-8", "replace").replace(b"\0", b"%00"))
        set_option(pycurl.HTTPHEADER, _header_lines(request.headers))
        set_option(pycurl.POSTFIELDS, request.body)
        if request.timeout_ms != self.timeout_ms:
            self.timeout_ms = request.timeout_ms
            set_option(pycurl.TIMEOUT_MS, max(1, request.timeout_ms))
            set_option(pycurl.CONNECTTIMEOUT_MS, max(1, min(CONNECT_TIMEOUT_MS, request.timeout_ms)))

    def end(self) -> None:
        """Forget the request, so that nothing of it is kept alive or reaches the next one."""
        self.lines.clear()
        self.body = []
        self.truncated = False
        self.refusal = None
        self.future = None
        self.curl.setopt(pycurl.POSTFIELDS, b"")

    def _open_socket(self, _purpose: int, address: Any) -> socket.socket | int:
        family, kind, protocol, where = address
        if family not in (socket.AF_INET, socket.AF_INET6) or self.forbids(where[0]):
            self.refusal = curl_errors.Refusal(where[0], None)
            return pycurl.SOCKET_BAD
        try:
            return _HandedOver(family, kind, protocol)
        except OSError as cause:  # no more file descriptors, or no IPv6 on this machine
            self.refusal = self.refusal or curl_errors.Refusal(where[0], cause)
            return pycurl.SOCKET_BAD

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
        block = _final_block(self.lines)
        reason, error = None, None
        if code and not (code == pycurl.E_WRITE_ERROR and self.truncated):
            reason, error = curl_errors.explain(curl, code, message, refusal=self.refusal)
            if self.tls is not None and self.tls.certificate and reason is Reason.CONNECTION_RESET:
                reason, error = curl_errors.unwelcome_certificate(curl, error)
        elif status < 200:  # 101: the endpoint wants to speak something else
            reason, error = curl_errors.no_final_answer(status)
        elif b"\r\n" not in block and b"\n" not in block:  # libcurl does not mind
            reason, error = curl_errors.unfinished_headers()
        return Response(
            status=status if status >= 200 else 0,
            reason=reason,
            error=error,
            headers=_parse_headers(block),
            body=b"".join(self.body),
            body_truncated=self.truncated,
            peer_ip=curl.getinfo(pycurl.PRIMARY_IP) or None,
            timings=_timings(curl),
        )


def _header_lines(headers: Sequence[tuple[str, str]]) -> list[bytes]:
    lines: list[bytes] = [*_SUPPRESSED]
    for name, value in headers:
        if name.lower() not in _FRAMING:
            # libcurl reads "name:" as "leave this header out" and "name;" as "send it empty".
            line = f"{name}: {value}" if value.strip() else f"{name};"
            lines.append(_LINE_BREAKS.sub(" ", line).encode("utf-8", "replace"))
    return lines


def _final_block(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Return the lines from the last status line on: informational answers may have come before."""
    start = next((at for at in range(len(lines) - 1, -1, -1) if lines[at].startswith(b"HTTP/")), 0)
    return lines[start:]


def _parse_headers(lines: Sequence[bytes]) -> dict[str, str]:
    """Read the headers that follow a status line, as many as the bounds allow, without trailers."""
    headers: dict[str, str] = {}
    text = b"".join(lines[1:]).decode("utf-8", "replace").replace("\0", "\ufffd")
    room = MAX_HEADER_CHARS
    for line in text.split("\n", MAX_HEADERS)[:MAX_HEADERS]:
        room -= len(line)
        name, colon, value = line.partition(":")
        if room < 0 or not colon:
            break
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _timings(curl: pycurl.Curl) -> Timings:
    info = curl.getinfo
    dns = info(pycurl.NAMELOOKUP_TIME_T)
    connected = info(pycurl.CONNECT_TIME_T)
    secured = info(pycurl.APPCONNECT_TIME_T)
    ready = info(pycurl.PRETRANSFER_TIME_T)
    first = info(pycurl.STARTTRANSFER_TIME_T) if info(pycurl.HEADER_SIZE) else 0
    return Timings(
        dns_ms=dns / 1000,
        connect_ms=max(0, connected - dns) / 1000,
        tls_ms=max(0, secured - connected) / 1000 if secured else 0.0,
        first_byte_ms=max(0, first - ready) / 1000,
        total_ms=info(pycurl.TOTAL_TIME_T) / 1000,
    )
