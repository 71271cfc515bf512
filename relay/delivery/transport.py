"""Sends HTTP POSTs: libcurl's multi interface driven by the running asyncio loop, with no task or thread per request.

The guard is asked in the open-socket callback, about the very address and port that are being connected to, so no name,
spelling or change of mind in DNS gets around it. Redirects are never followed, no proxy is taken from the environment
(only the operator's own, to which `relay.delivery.proxy` finds the way), and nothing that comes back is decompressed.
What an endpoint does wrong is a `Response` with a `Reason`, no exception.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pycurl

from relay.delivery.addresses import Guard
from relay.delivery.authorization import ClientTLS
from relay.delivery.exchange import Exchange, Request, Response, Timings
from relay.delivery.outcomes import Reason
from relay.delivery.proxy import NoRoute, Proxy, Route
from relay.delivery.trust import ca_options, tls_options

__all__ = ["Request", "Response", "Timings", "Transport"]


class Transport:
    """Sends POSTs from the running event loop, over at most about `connections` kept-alive connections.

    `ca_file` names a PEM bundle of the authorities to trust instead of the system's; `proxy` is the URL of a proxy that
    everything goes through, and empty for none.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        connections: int = 1000,
        ca_file: str | None = None,
        proxy: str = "",
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._guard = guard
        self._proxy = Proxy(proxy, guard, self._loop) if proxy else None
        self._routing: dict[asyncio.Future[Response], asyncio.Task[None]] = {}
        self._trust = ca_options(ca_file)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._watched: dict[int, int] = {}
        self._timer: asyncio.Handle | None = None
        self._running: dict[pycurl.Curl, Exchange] = {}
        self._idle: list[Exchange] = []
        self._closed = False

    @property
    def in_flight(self) -> int:
        """How many requests have begun and not ended, those whose waiter gave up included."""
        return len(self._running) + len(self._routing)

    def post(self, request: Request) -> asyncio.Future[Response]:
        """Begin to send and return the future of the answer, which holds no exception for anything the network does.

        Cancelling the future gives up the answer only: the request goes on to its end, as it may have arrived already.
        """
        if self._closed:
            raise RuntimeError("The transport is closed.")
        future: asyncio.Future[Response] = self._loop.create_future()
        if self._proxy is None:
            self._begin(request, future, None)
        else:
            self._routing[future] = self._loop.create_task(self._go_through(self._proxy, request, future))
        return future

    def _begin(self, request: Request, future: asyncio.Future[Response], route: Route | None) -> None:
        tls = request.credentials.tls if request.credentials else None
        exchange = self._idle.pop() if self._idle and tls is None else self._new_exchange(tls)
        exchange.begin(request, future, route)
        self._running[exchange.curl] = exchange
        self._multi.add_handle(exchange.curl)

    async def _go_through(self, proxy: Proxy, request: Request, future: asyncio.Future[Response]) -> None:
        began = self._loop.time()
        try:
            async with asyncio.timeout(request.timeout_ms / 1000):
                route = await proxy.route(request.url)
        except NoRoute as none:
            reason, sentence = none.reason, none.sentence
        except TimeoutError:
            reason, sentence = Reason.DNS_FAILED, "The host name could not be looked up in time."
        else:
            left_ms = request.timeout_ms - int(route.lookup_ms)
            self._begin(replace(request, timeout_ms=max(1, left_ms)), future, route)
            return
        finally:
            self._routing.pop(future, None)
        if not future.done():
            future.set_result(_unsent(reason, sentence, total_ms=(self._loop.time() - began) * 1000))

    def _new_exchange(self, tls: ClientTLS | None) -> Exchange:
        exchange = Exchange(self._guard, self._trust if tls is None else tls_options(tls, trust=self._trust))
        exchange.tls = tls
        return exchange

    async def close(self) -> None:
        """Drop every connection; the futures of requests in flight are cancelled."""
        if self._closed:
            return
        for fd in list(self._watched):
            self._watch(pycurl.POLL_REMOVE, fd, None, None)
        self._set_timer(-1)
        self._closed = True
        for future, task in self._routing.items():
            task.cancel()
            future.cancel()
        if self._proxy is not None:
            self._proxy.close()
        for exchange in self._running.values():
            if exchange.future is not None:
                exchange.future.cancel()
        # In a thread, because libcurl waits for name look-ups that have begun, which may take seconds.
        await self._loop.run_in_executor(None, self._tear_down)

    def _tear_down(self) -> None:
        for curl in self._running:
            self._multi.remove_handle(curl)
        self._multi.close()
        for exchange in (*self._running.values(), *self._idle):
            exchange.curl.close()
        self._running.clear()
        self._idle.clear()

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        """Watch a socket as libcurl asks: POLL_IN is 1, POLL_OUT 2, both 3, POLL_REMOVE 4."""
        if self._closed:
            return
        wanted = event & 3
        watched = self._watched.get(fd, 0)
        loop = self._loop
        if wanted & 1 and not watched & 1:
            loop.add_reader(fd, self._act, fd, pycurl.CSELECT_IN)
        elif watched & 1 and not wanted & 1:
            loop.remove_reader(fd)
        if wanted & 2 and not watched & 2:
            loop.add_writer(fd, self._act, fd, pycurl.CSELECT_OUT)
        elif watched & 2 and not wanted & 2:
            loop.remove_writer(fd)
        if wanted:
            self._watched[fd] = wanted
        else:
            self._watched.pop(fd, None)

    def _set_timer(self, delay_ms: int) -> None:
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_ms == 0:
            self._timer = self._loop.call_soon(self._tick)
        elif delay_ms > 0:
            self._timer = self._loop.call_later(delay_ms / 1000, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, fd: int, events: int) -> None:
        self._multi.socket_action(fd, events)
        more = 1
        while more:
            more, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._finish(curl, 0, "")
            for curl, code, message in failed:
                self._finish(curl, code, message)

    def _finish(self, curl: pycurl.Curl, code: int, message: str) -> None:
        exchange = self._running.pop(curl)
        future = exchange.future
        if future is not None and not future.done():
            try:
                future.set_result(exchange.response(code, message))
            except Exception as fault:
                future.set_exception(fault)
        self._multi.remove_handle(curl)
        if exchange.tls is not None:
            curl.close()
        else:
            exchange.end()
            self._idle.append(exchange)


def _unsent(reason: Reason, sentence: str, *, total_ms: float) -> Response:
    return Response(
        status=0,
        reason=reason,
        error=sentence,
        headers={},
        body=b"",
        body_truncated=False,
        peer_ip=None,
        timings=Timings(dns_ms=total_ms, connect_ms=0.0, tls_ms=0.0, first_byte_ms=0.0, total_ms=total_ms),
    )
