"""The REST intake: POST /api/v1/events and /api/v1/events/batch. The payload is stored byte for byte."""

from __future__ import annotations

from typing import Any

import msgspec
from falcon.asgi import Request as HTTPRequest
from falcon.asgi import Response

from api.auth import Authenticator
from api.bodies import decode, read_body
from api.deadlines import deadline
from api.errors import rest_body, shown
from api.graphql.scalars import write_datetime
from api.sending import Request, Sending, Sent
from relay.errors import RelayError
from relay.intake import events
from relay.intake.events import EventStatus
from relay.runtime import Web
from relay.tenancy.scopes import Scope

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_anything = msgspec.json.Decoder()


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: list[dict[str, msgspec.Raw]]


_batch = msgspec.json.Decoder(_Batch)


class IntakeResource:
    """Accepts events: the fields of SendEventInput, or of CreateEventInput when there is a destination."""

    def __init__(self, web: Web, *, callers: Authenticator, sending: Sending) -> None:
        self._web = web
        self._callers = callers
        self._sending = sending

    async def on_post(self, req: HTTPRequest, resp: Response) -> None:
        """Accept one event: 202, or 200 with the first event when its key was known."""
        caller = await self._callers.caller(req)
        caller.require([Scope.SEND])
        body = await self._body(req)
        request = _request(decode(body, _members), key=req.get_header("Idempotency-Key"))
        async with deadline(self._web.settings.request_timeout_s):
            sent = await self._sending.send(caller.tenant_id, request)
            answer = await self._shown(sent)
        resp.status = 200 if sent.accepted.duplicate else 202
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode(answer)

    async def on_post_batch(self, req: HTTPRequest, resp: Response) -> None:
        """Accept up to 1 000 events, each on its own, and answer in their order."""
        caller = await self._callers.caller(req)
        caller.require([Scope.SEND])
        body = await self._body(req)
        requests = [_request(members) for members in decode(body, _batch).events]
        async with deadline(self._web.settings.request_timeout_s):
            results = await self._sending.send_all(caller.tenant_id, requests)
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"results": [_result(result, req) for result in results]})

    async def _body(self, req: HTTPRequest) -> bytes:
        settings = self._web.settings
        return await read_body(req, limit=settings.max_request_bytes, within_s=settings.request_timeout_s)

    async def _shown(self, sent: Sent) -> dict[str, Any]:
        status = EventStatus.QUEUED
        if sent.accepted.duplicate:
            async with self._web.db.connection() as conn:
                status = (await events.statuses(conn, [sent.accepted.id]))[sent.accepted.id]
        return {
            "id": str(sent.accepted.id),
            "status": status.name,
            "createdAt": write_datetime(sent.accepted.created_at),
        }


def _request(members: dict[str, msgspec.Raw], *, key: str | None = None) -> Request:
    fields = {name: _anything.decode(raw) for name, raw in members.items() if name != "payload"}
    return Request(fields, bytes(members.get("payload", b"")), key)


def _result(result: Sent | RelayError, req: HTTPRequest) -> dict[str, Any]:
    if isinstance(result, Sent):
        return {"id": str(result.accepted.id)}
    return {"error": rest_body(shown(result, request_id=req.context.request_id))}
