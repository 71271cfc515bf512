"""The web process's application: `api.app:app` for gunicorn, `create_app` for whoever has settings."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import falcon
import falcon.asgi
import msgspec
from falcon.asgi import Request, Response

from api.auth import Everybody, Keys
from api.browsers import BrowserRules
from api.connections import App, hear_of_stop
from api.dashboard import DashboardResource
from api.errors import MethodNotAllowed, graphql_extensions, headers_of, rest_body, shown, status_of
from api.graphql.view import GraphQLResource
from api.health import HealthResource, MetricsResource
from api.intake import IntakeResource
from api.limits import Limited, RateHeaders
from api.playground import add_routes as add_playground
from api.sending import Sending
from api.stream import StreamResource
from relay.budgets import Budgets
from relay.catalog.type_rules import REFRESH_S, TypeRules
from relay.errors import Invalid, NotFound
from relay.runtime import Web
from relay.settings import Settings, read_settings
from relay.tasks import cancel, every

if TYPE_CHECKING:
    from api.tracing import RequestSpans

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def create_app(settings: Settings) -> falcon.asgi.App[Request, Response]:
    """Build the application; it opens and closes what it needs with the server's lifespan."""
    web = Web(settings)
    spans = _spans(web)
    sending = Sending(web, spans=spans)
    rules = BrowserRules(hsts_max_age_s=settings.hsts_max_age_s)
    app = App(
        middleware=[_Lifespan(web, sending.types), _RequestIds(), rules, RateHeaders(), *([spans] if spans else [])]
    )
    app.req_options.strip_url_path_trailing_slash = True
    app.add_error_handler(Exception, _render_error)
    app.add_error_handler(falcon.HTTPError, _render_error)
    callers = Keys(web.db) if settings.auth_enabled else Everybody(web.db, web.vault)
    limited = Limited(callers, Budgets(web.queue.commands), settings)
    graphql = GraphQLResource(web, callers=limited, sending=sending)
    app.add_route("/graphql", graphql)
    app.add_route("/graphql/schema", graphql, suffix="schema")
    intake = IntakeResource(web, callers=limited, sending=sending)
    app.add_route("/api/v1/events", intake)
    app.add_route("/api/v1/events/batch", intake, suffix="batch")
    app.add_route("/logs/stream", StreamResource(web.feed, callers=limited, keys=callers))
    health = HealthResource(web)
    app.add_route("/health/live", health, suffix="live")
    app.add_route("/health/ready", health, suffix="ready")
    if settings.metrics_provider == "prometheus":
        app.add_route("/metrics", MetricsResource(callers=callers))
    dashboard = DashboardResource(web, callers=callers)
    app.add_route("/dramatiq", dashboard)
    app.add_route("/dramatiq/{queue}", dashboard, suffix="queue")
    add_playground(app, settings)
    return app


def __getattr__(name: str) -> Any:
    """Build `app` when a server asks for it, so that importing this module needs no settings."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = app = create_app(read_settings())
    return app


def _spans(web: Web) -> RequestSpans | None:
    """None where there are no traces, and then nothing of them is imported."""
    if web.traces is None:
        return None
    from api.tracing import RequestSpans

    return RequestSpans(web.traces)


class _Lifespan:
    """Opens the process's parts before the first request and closes them after the last."""

    def __init__(self, web: Web, types: TypeRules) -> None:
        self._web = web
        self._types = types
        self._tasks: list[asyncio.Task[None]] = []
        self._deafen: Callable[[], None] = lambda: None

    async def process_startup(self, scope: object, event: object) -> None:
        await self._web.open()
        await self._types.refresh_soon()
        self._tasks = [asyncio.create_task(every(REFRESH_S, self._types.refresh))]
        self._deafen = hear_of_stop(self._web.feed.end)

    async def process_shutdown(self, scope: object, event: object) -> None:
        self._deafen()
        await cancel(self._tasks)
        await self._web.close()


class _RequestIds:
    """Gives each request an id, the caller's own if it sent one, and sends it back."""

    async def process_request(self, req: Request, resp: Response) -> None:
        given = req.get_header("X-Request-Id")
        request_id = given if given and _REQUEST_ID.fullmatch(given) else uuid4().hex
        req.context.request_id = request_id
        resp.set_header("X-Request-Id", request_id)


async def _render_error(req: Request, resp: Response, error: Exception, _params: object) -> None:
    """Render any exception that ended a request before it had an answer."""
    request_id: str = req.context.request_id
    cause = shown(_translated(error, req), request_id=request_id)
    resp.status = error.status if isinstance(error, falcon.HTTPError) else status_of(cause)
    resp.content_type = "application/json"
    resp.set_headers(headers_of(cause))
    if isinstance(error, falcon.HTTPMethodNotAllowed):
        resp.set_headers(error.headers or {})
    if req.path == "/graphql":
        answer: dict[str, Any] = {
            "message": cause.message,
            "extensions": graphql_extensions(cause, request_id=request_id),
        }
        resp.data = msgspec.json.encode({"errors": [answer]})
    else:
        resp.data = msgspec.json.encode({"error": rest_body(cause)})


def _translated(error: Exception, req: Request) -> Exception:
    """Falcon's own errors in Relay's words."""
    if isinstance(error, falcon.HTTPNotFound):
        return NotFound("There is nothing at this address.")
    if isinstance(error, falcon.HTTPMethodNotAllowed):
        return MethodNotAllowed(f"This address does not take {req.method}.")
    if isinstance(error, falcon.HTTPError):
        return Invalid(error.title or "The request is not understood.")
    return error
