"""Through which proxy a request goes, and to which address: one that Relay has looked up and the guard has passed.

The proxy is told that literal address by CONNECT, never the name, so it cannot find another one; the name stays in SNI,
the certificate's check and the Host header. The proxy itself is the operator's choice and may be at a private address.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from relay.delivery.addresses import Guard
from relay.delivery.curl_errors import forbidden_address, forbidden_port
from relay.delivery.lookups import Lookups
from relay.delivery.outcomes import Reason

_PLAIN = (
    "Relay cannot send to this URL: EGRESS_PROXY is set, and a proxy could read and change what is sent by plain http; "
    "give the endpoint an https:// URL."
)


class NoRoute(Exception):
    """There is no way to send: the reason, and one sentence for the person who owns the endpoint."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Route:
    """The proxy's own address, its login if it wants one, and the checked address it is asked for."""

    proxy_ip: str
    proxy_port: int
    login: tuple[str, str] | None
    target_ip: str
    target_port: int
    lookup_ms: float


class Proxy:
    """Finds the route of each request through the proxy that a URL (http://user:password@host:port) names."""

    def __init__(self, url: str, guard: Guard, loop: asyncio.AbstractEventLoop) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._guard = guard
        self._loop = loop
        self._lookups = Lookups(loop)

    async def route(self, url: str) -> Route:
        """Look up where the URL leads and return the way there; NoRoute if the guard forbids it or there is none."""
        began = self._loop.time()
        host, port = self._destination(url)
        try:
            found = await self._lookups.addresses(host)
        except OSError as cause:
            raise NoRoute(Reason.DNS_FAILED, f"The host name could not be looked up ({cause.strerror}).") from cause
        target = next((ip for ip in found if not self._guard.forbids(ip)), None)
        if target is None:
            raise NoRoute(Reason.ADDRESS_FORBIDDEN, forbidden_address(found[0]))
        spent_ms = (self._loop.time() - began) * 1000
        return Route(await self._proxy_ip(), self._port, self._login, target, port, spent_ms)

    def close(self) -> None:
        """Begin no further look-up."""
        self._lookups.close()

    def _destination(self, url: str) -> tuple[str, int]:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as cause:
            raise NoRoute(Reason.ADDRESS_FORBIDDEN, "Relay cannot send to this URL (it is not valid).") from cause
        if parts.scheme == "http":
            raise NoRoute(Reason.ADDRESS_FORBIDDEN, _PLAIN)
        if parts.scheme != "https" or not host:
            raise NoRoute(Reason.ADDRESS_FORBIDDEN, "Relay cannot send to this URL (it is not valid).")
        port = 443 if port is None else port
        if self._guard.forbids_port(port):
            raise NoRoute(Reason.ADDRESS_FORBIDDEN, forbidden_port(port))
        return host, port

    async def _proxy_ip(self) -> str:
        try:
            return (await self._lookups.addresses(self._host))[0]
        except OSError as cause:
            raise NoRoute(
                Reason.PROXY_FAILED, f"The proxy failed (its name could not be looked up: {cause.strerror})."
            ) from cause
