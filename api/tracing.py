"""The spans of requests: one for each POST, in its caller's trace, and one for each event that it brought."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from falcon.asgi import Request, Response

from api.sending import Sent
from relay.errors import RelayError
from relay.traces import contexts
from relay.traces.contexts import SpanContext
from relay.traces.export import Traces


@dataclass(slots=True)
class _Server:
    """A request under way."""

    span: SpanContext
    caller: SpanContext | None
    start_ns: int
    events: list[SpanContext] = field(default_factory=list[SpanContext])


_CURRENT: ContextVar[_Server | None] = ContextVar("current request", default=None)


class RequestSpans:
    """Middleware of the web process, which also hears what was accepted meanwhile."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces

    async def process_request(self, req: Request, resp: Response) -> None:
        """Begin a span in the caller's trace (`traceparent`), or in a new one."""
        server = None
        if req.method == "POST":
            caller = contexts.of_caller(req.get_header("traceparent"))
            server = _Server(contexts.of_request(caller, ratio=self._traces.ratio), caller, time.time_ns())
        _CURRENT.set(server)

    async def process_response(self, req: Request, resp: Response, resource: object, req_succeeded: bool) -> None:  # noqa: FBT001 - Falcon's
        """End it."""
        server = _CURRENT.get()
        if server is None or req.uri_template is None:
            return
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "http.route": req.uri_template,
            "url.path": req.path,
            "url.scheme": req.scheme,
            "http.response.status_code": resp.status_code,
            "relay.request.id": req.context.request_id,
        }
        if resp.status_code >= 500:
            attributes["error.type"] = str(resp.status_code)
        self._traces.add(
            f"POST {req.uri_template}",
            "server",
            server.span,
            parent=server.caller,
            links=server.events,
            attributes=attributes,
            start_ns=server.start_ns,
            end_ns=time.time_ns(),
        )

    def accepted(self, results: Sequence[Sent | RelayError], *, since_ns: int) -> None:
        """Make the root of each new event's trace, and link it and its request with each other."""
        now_ns, server = time.time_ns(), _CURRENT.get()
        for one in results:
            if isinstance(one, RelayError):
                continue
            event = self._traces.event(one.accepted.id)
            if server is not None:
                server.events.append(event)
            if not one.accepted.duplicate:
                links = [server.span] if server is not None else []
                self._traces.add(
                    "create events",
                    "producer",
                    event,
                    links=links,
                    attributes=_of_event(one),
                    start_ns=since_ns,
                    end_ns=now_ns,
                )


def _of_event(one: Sent) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "messaging.system": "relay",
        "messaging.operation.name": "create",
        "messaging.operation.type": "create",
        "messaging.destination.name": "events",
        "messaging.message.id": str(one.accepted.id),
        "messaging.message.body.size": len(one.event.payload),
        "relay.client.id": str(one.event.tenant_id),
    }
    if one.event.type is not None:
        found["relay.event.type"] = one.event.type
    return found
