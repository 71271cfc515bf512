"""Rate limits of requests: the one of all, and the one of each client."""

from __future__ import annotations

import math

from falcon.asgi import Request, Response

from api.auth import Authenticator, Caller
from relay.budgets import Budgets, Standing
from relay.settings import Settings

_EVERYBODY = "all"


class Limited:
    """Callers who stay within their limits; a request counts when it asks who calls."""

    def __init__(self, callers: Authenticator, budgets: Budgets, settings: Settings) -> None:
        self._callers = callers
        self._budgets = budgets
        self._of_all = settings.global_rate_limit_rps
        self._of_each = settings.client_rate_limit_rps

    async def caller(self, req: Request) -> Caller:
        """Return who sent the request; Throttled when there were too many of them in this second.

        The limit of all comes first: it protects the look-up of keys, too.
        """
        if self._of_all:
            await self._spend(req, _EVERYBODY, self._of_all)
        caller = await self._callers.caller(req)
        limit = caller.rate_limit_per_sec or self._of_each
        if limit:
            await self._spend(req, str(caller.tenant_id), limit)
        return caller

    async def _spend(self, req: Request, name: str, limit: int) -> None:
        req.context.standing, refusal = await self._budgets.spend(name, limit=limit)
        if refusal is not None:
            raise refusal


class RateHeaders:
    """Middleware: tells with each answer how the client's budget stands, or that of all where it has none."""

    async def process_response(self, req: Request, resp: Response, resource: object, req_succeeded: bool) -> None:  # noqa: FBT001 - Falcon's
        """Add the headers to the answer of a request that was counted."""
        standing: Standing | None = req.context.get("standing")
        if standing is not None:
            resp.set_header("X-RateLimit-Limit", str(standing.limit))
            resp.set_header("X-RateLimit-Remaining", str(standing.remaining))
            resp.set_header("X-RateLimit-Reset", str(math.ceil(standing.reset_s)))
