"""The Dramatiq dashboard: queues, messages and workers as they are in Redis, for operators. It shows; writing is a setting.

Pages of plain HTML, without a script and without anything from elsewhere. What is read is known by name, so a Redis with
millions of other keys answers as fast as an empty one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from falcon.asgi import Request, Response

from api.auth import Authenticator, Caller, take_basic
from api.dashboard import rendering
from api.dashboard.forms import Tokens, check_same_origin, read_form
from api.dashboard.rendering import PER_PAGE, Place
from api.errors import shown, status_of
from api.pages import answer_html
from relay import messages
from relay.db import LOST
from relay.errors import Forbidden, Invalid, NotFound, RelayError, Unauthenticated, Unavailable
from relay.messages import Part
from relay.queue import QUEUES, UNREACHABLE
from relay.runtime import Web
from relay.tenancy.scopes import Scope

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_CHALLENGE = 'Basic realm="Relay: an operator\'s key as password", charset="UTF-8"'
_LAST_PAGE = 200
_FORESEEN = (RelayError, *LOST, *UNREACHABLE)
_TITLES = {401: "Who are you?", 403: "Not allowed", 404: "Not found", 503: "Not now"}
_SAID = {
    "requeued": "The message is in its queue again.",
    "deleted": "The message is gone.",
    "missing": "The message was no longer there.",
}


class DashboardResource:
    """`GET /dramatiq` and `/dramatiq/{queue}`; with DRAMATIQ_DASHBOARD_WRITES `POST /dramatiq/{queue}`, too."""

    def __init__(self, web: Web, *, callers: Authenticator) -> None:
        self._redis = web.queue.commands
        self._callers = callers
        self._writes = web.settings.dramatiq_dashboard_writes
        self._tokens = Tokens(web.settings.signing_key)

    async def on_get(self, req: Request, resp: Response) -> None:
        """Show all queues and workers."""
        async with _shown(req, resp):
            await self._operator(req)
            depths = await messages.depths(self._redis)
            workers, listed = await messages.workers(self._redis)
            refreshes = req.has_param("refresh")
            _answer(resp, rendering.overview(depths, workers, listed, place=_place(req), refreshes=refreshes))

    async def on_get_queue(self, req: Request, resp: Response, *, queue: str) -> None:
        """Show the messages of a queue, 50 a page."""
        async with _shown(req, resp):
            caller = await self._operator(req)
            _check_queue(queue)
            part, number = _part(req), _page_number(req)
            (depth,) = [one for one in await messages.depths(self._redis) if one.queue == queue]
            found = await messages.page(self._redis, queue, part, offset=(number - 1) * PER_PAGE, limit=PER_PAGE)
            token = self._tokens.issue(caller, now_s=int(time.time())) if self._writes else None
            said = _SAID.get(req.get_param("said") or "", "")
            _answer(resp, rendering.queue(depth, part, found, number=number, place=_place(req, token), said=said))

    async def on_post_queue(self, req: Request, resp: Response, *, queue: str) -> None:
        """Requeue or delete a failed message, asked for by the page's own form."""
        async with _shown(req, resp):
            if not self._writes:
                raise Forbidden("This dashboard only shows; DRAMATIQ_DASHBOARD_WRITES=true lets it write.")
            check_same_origin(req)
            take_basic(req)
            caller = await self._operator(req)
            _check_queue(queue)
            form = await read_form(req)
            self._tokens.check(caller, form.get("token", ""), now_s=int(time.time()))
            said = await self._act(queue, form.get("action", ""), form.get("id", ""))
            resp.status, resp.location = 303, f"?part={Part.FAILED}&said={said}"

    async def _act(self, queue: str, action: str, id: str) -> str:
        if action == "requeue":
            return "requeued" if await messages.requeue(self._redis, queue, id) else "missing"
        if action == "delete":
            return "deleted" if await messages.delete(self._redis, queue, id) else "missing"
        raise Invalid("A message can be requeued or deleted.", field="action")

    async def _operator(self, req: Request) -> Caller:
        caller = await self._callers.caller(req)
        caller.require([Scope.OPERATOR])
        return caller


@asynccontextmanager
async def _shown(req: Request, resp: Response) -> AsyncIterator[None]:
    """Answer what goes wrong inside with a page; 401 has the browser ask for a key."""
    try:
        yield
    except _FORESEEN as cause:
        error = shown(_translated(cause), request_id=req.context.request_id)
        status = status_of(error)
        _answer(resp, rendering.refusal(_TITLES.get(status, "Not understood"), error.message))
        resp.status = status
        if isinstance(error, Unauthenticated):
            resp.set_header("WWW-Authenticate", _CHALLENGE)
        if isinstance(error, Unavailable):
            resp.set_header("Retry-After", "1")


def _translated(cause: BaseException) -> BaseException:
    if isinstance(cause, (RelayError, *LOST)):
        return cause
    return Unavailable("Redis cannot be reached at the moment. Events are accepted all the same; nothing is lost.")


def _answer(resp: Response, html: str) -> None:
    answer_html(resp, html, policy=_POLICY)
    resp.set_header("Cache-Control", "no-store")
    resp.set_header(
        "Referrer-Policy", "same-origin"
    )  # with none, a browser does not say where a form of ours came from


def _place(req: Request, token: str | None = None) -> Place:
    """The way to the overview is relative, for a proxy may serve Relay below a path of its own."""
    raw: str = req.scope["path"]
    return Place("../" * (raw.count("/") - 1) + "dramatiq", int(time.time() * 1000), token)


def _check_queue(queue: str) -> None:
    if queue not in QUEUES.values():
        raise NotFound("There is no queue of this name.")


def _part(req: Request) -> Part:
    try:
        return Part(req.get_param("part") or Part.READY)
    except ValueError as cause:
        raise Invalid("part is ready, delayed or failed.", field="part") from cause


def _page_number(req: Request) -> int:
    given = req.get_param("page") or "1"
    if not (given.isascii() and given.isdigit() and len(given) < 4 and 1 <= int(given) <= _LAST_PAGE):
        raise Invalid(f"page is a number from 1 to {_LAST_PAGE}.", field="page")
    return int(given)
