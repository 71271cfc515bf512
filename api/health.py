"""/health/live, /health/ready and /metrics of a web process."""

from __future__ import annotations

import asyncio

import msgspec
from falcon.asgi import Request, Response

from api.auth import Authenticator
from relay import metrics
from relay.runtime import Web
from relay.tenancy.scopes import Scope


class HealthResource:
    """Whether the process runs, and whether it can accept events."""

    def __init__(self, web: Web) -> None:
        self._web = web

    async def on_get_live(self, _req: Request, resp: Response) -> None:
        """Answer: a process that answers lives."""
        resp.content_type = "application/json"
        resp.data = b'{"status":"live"}'

    async def on_get_ready(self, _req: Request, resp: Response) -> None:
        """Answer 503 when Postgres is unreachable or older than the code; without Redis intake goes on: 200."""
        health = await self._web.health()
        ready = health["postgres"] == "up" and health["schema"] == "current"
        resp.status = 200 if ready else 503
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"status": "ready" if ready else "not ready", **health})


class MetricsResource:
    """The metrics of all web processes of this service."""

    def __init__(self, *, callers: Authenticator) -> None:
        self._callers = callers

    async def on_get(self, req: Request, resp: Response) -> None:
        """Print the metrics as text, to operators."""
        caller = await self._callers.caller(req)
        caller.require([Scope.OPERATOR])
        resp.content_type = metrics.CONTENT_TYPE
        resp.data = await asyncio.to_thread(metrics.render)  # may wait for a sibling that reads
