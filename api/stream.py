"""`GET /logs/stream`: the live view of a client's deliveries, as Server-Sent Events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from falcon.asgi import Request, Response, SSEvent

from api.auth import Authenticator
from api.connections import connection_of
from relay.errors import Forbidden, Invalid, Unauthenticated
from relay.feed import lines, wire
from relay.feed.hub import Hub, Reader
from relay.tenancy.scopes import Scope

_PARAMETERS = ("type", "endpoint", "status", "level")


class StreamResource:
    """Attempts and circuits of the caller's client, as they are recorded, by any worker."""

    def __init__(self, hub: Hub, *, callers: Authenticator, keys: Authenticator) -> None:
        """`callers` let somebody in; `keys` are asked again as long as they stay, which is no request."""
        self._hub = hub
        self._callers = callers
        self._keys = keys

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer with a stream that goes on until the client leaves, or reads too slowly."""
        caller = await self._callers.caller(req)
        caller.require([Scope.READ])
        if unknown := sorted(set(req.params) - set(_PARAMETERS)):
            raise Invalid(f"{unknown[0]} is no filter; there are {', '.join(_PARAMETERS)}.", field=unknown[0])
        wanted = lines.wanted(**{name: req.get_param(name) or "" for name in _PARAMETERS})
        last = req.get_header("Last-Event-ID")
        connection = connection_of(req)
        connection.keep_small()
        reader = await self._hub.join(
            caller.tenant_id, wanted, after=wire.place(last) if last else None, cut=connection.cut
        )
        connection.on_end = lambda: self._hub.leave(reader)
        resp.set_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        resp.sse = self._events(req, reader)

    async def _events(self, req: Request, reader: Reader) -> AsyncIterator[SSEvent]:
        look_at = time.monotonic() + self._hub.heartbeat_s
        async for text in self._hub.follow(reader):
            reader.sending_since = time.monotonic()
            yield _Text(text)
            reader.sending_since = None
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + self._hub.heartbeat_s
                if not await self._may_go_on(req, reader):
                    return

    async def _may_go_on(self, req: Request, reader: Reader) -> bool:
        """A key that was revoked meanwhile sees nothing more; while Postgres is away nobody can tell."""
        try:
            caller = await self._keys.caller(req)
            caller.require([Scope.READ])
        except (Unauthenticated, Forbidden):
            return False
        except Exception:
            return True
        return caller.tenant_id == reader.tenant_id


class _Text(SSEvent):
    """Events that are written out already."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self._text = text

    def serialize(self, handler: Any = None) -> bytes:
        return self._text
