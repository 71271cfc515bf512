"""Sends requests, and gets the token first where an endpoint wants one: one for each endpoint and version, asked for once.

Whoever needs a token while it is being asked for waits for that answer. A 401 makes the token that was sent worthless,
and the attempt is made once more with another. Tokens live in this process's memory only.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Protocol
from uuid import UUID

from relay.delivery.authorization import Grant
from relay.delivery.echoes import without
from relay.delivery.exchange import Request, Response, Timings
from relay.delivery.outcomes import Reason
from relay.delivery.token_request import Token, read_token, token_request

_KEPT = 10_000
_UNAUTHORIZED = 401


class Carrier(Protocol):
    """What sends a request."""

    def post(self, request: Request) -> asyncio.Future[Response]:
        """Begin to send and return the future of the answer, which holds no exception for what the network does."""
        ...


class Claims(Protocol):
    """What knows whether deliveries that were claimed are still this process's."""

    generation: int

    def may_send(self, generation: int) -> bool:
        """True while claims of that generation are."""
        ...


class _Holder:
    """One endpoint's token, or the task that asks for it."""

    __slots__ = ("asking", "ends_s", "token")

    def __init__(self) -> None:
        self.token: str | None = None
        self.ends_s = 0.0
        self.asking: asyncio.Task[Token | str] | None = None


class Authorizing:
    """Sends through a transport; a request whose endpoint wants a token waits for that.

    After such a wait it asks once more whether the process still has the claims of the time when the request came.
    """

    def __init__(self, transport: Carrier, claims: Claims) -> None:
        self._transport = transport
        self._claims = claims
        self._holders: dict[tuple[UUID, int], _Holder] = {}

    def post(self, request: Request) -> asyncio.Future[Response]:
        """Begin to send and return the future of the answer; it is cancelled when the claims are gone after a wait.

        Without a token the answer is AUTH_FAILED, with a sentence that holds no secret.
        """
        credentials = request.credentials
        if credentials is None or credentials.grant is None:
            return self._transport.post(request)
        holder = self._holder((credentials.endpoint_id, credentials.version))
        sending = self._send(request, credentials.grant, holder, self._claims.generation)
        return asyncio.get_running_loop().create_task(sending)

    def _holder(self, key: tuple[UUID, int]) -> _Holder:
        holder = self._holders.get(key)
        if holder is None:
            if len(self._holders) >= _KEPT:
                self._holders.clear()
            holder = self._holders[key] = _Holder()
        return holder

    async def _send(self, request: Request, grant: Grant, holder: _Holder, generation: int) -> Response:
        began_s = time.monotonic()
        token = await self._token(grant, holder, refused=None)
        response = await self._send_with(token, request, generation, began_s)
        if isinstance(token, Token) and response.reason is None and response.status == _UNAUTHORIZED:
            token = await self._token(grant, holder, refused=token.text)
            response = await self._send_with(token, request, generation, began_s)
        return response

    async def _send_with(self, token: Token | str, request: Request, generation: int, began_s: float) -> Response:
        if isinstance(token, str):
            return _unauthorized(token, total_ms=(time.monotonic() - began_s) * 1000)
        if not self._claims.may_send(generation):
            raise asyncio.CancelledError  # somebody else has the delivery by now
        headers = [(name, value) for name, value in request.headers if name != "Authorization"]
        headers.append(("Authorization", f"Bearer {token.text}"))
        response = await self._transport.post(replace(request, headers=headers))
        return without(response, [token.text])

    async def _token(self, grant: Grant, holder: _Holder, *, refused: str | None) -> Token | str:
        """The token there is, unless it has ended or is the one that was `refused`; or else a new one."""
        if holder.asking is None:
            known = holder.token
            if known is not None and known != refused and time.monotonic() < holder.ends_s:
                return Token(known, holder.ends_s)
            holder.asking = asyncio.get_running_loop().create_task(self._ask(grant, holder))
        # Shielded: who waits may give up, the others still wait.
        return await asyncio.shield(holder.asking)

    async def _ask(self, grant: Grant, holder: _Holder) -> Token | str:
        try:
            answer = read_token(await self._transport.post(token_request(grant)))
        finally:
            holder.asking = None
            holder.token = None
        if isinstance(answer, Token):
            holder.token, holder.ends_s = answer.text, time.monotonic() + answer.usable_s
        return answer


def _unauthorized(sentence: str, *, total_ms: float) -> Response:
    timings = Timings(dns_ms=0.0, connect_ms=0.0, tls_ms=0.0, first_byte_ms=0.0, total_ms=total_ms)
    return Response(0, Reason.AUTH_FAILED, sentence, {}, b"", body_truncated=False, peer_ip=None, timings=timings)
