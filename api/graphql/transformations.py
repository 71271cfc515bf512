"""testTransformation: a transformation tried on a webhook that nobody sends."""

from __future__ import annotations

from typing import Any

import msgspec
import strawberry
from strawberry import UNSET
from strawberry.types import get_object_definition

from api.graphql.context import RelayInfo
from api.graphql.inputs import build
from api.graphql.needs import Needs
from api.graphql.scalars import Json
from relay.catalog.transformations import run, sized
from relay.delivery.addresses import check_url
from relay.delivery.webhooks import Webhook, argument_of, returned_by
from relay.errors import Invalid
from relay.sandbox.child import LOG
from relay.tenancy.scopes import Scope


@strawberry.input
class WebhookInput:
    """What a transformation would be given."""

    method: str | None = "POST"
    url: str
    headers: Json | None = UNSET
    payload: Json
    event_type: str | None = UNSET


@strawberry.input
class TestTransformationInput:
    """A transformation and what to try it on."""

    code: str
    webhook: WebhookInput


get_object_definition(TestTransformationInput, strict=True).from_input = build


@strawberry.type
class TransformationResult:
    """What would be sent."""

    method: str
    url: str
    headers: Json | None
    payload: Json | None
    cancel: bool


@strawberry.type
class TransformationTestResult:
    """What came of a try."""

    success: bool
    result: TransformationResult | None
    error: str | None
    logs: list[str]
    execution_ms: int


@strawberry.type
class TransformationMutation:
    """What can be tried of transformations."""

    @strawberry.mutation(directives=[Needs(scope=Scope.READ)])
    async def test_transformation(self, info: RelayInfo, input: TestTransformationInput) -> TransformationTestResult:
        """Run a transformation; nothing is sent and nothing is stored."""
        web, code = info.context.web, sized(input.code, field="code")
        webhook = _webhook(vars(input)["webhook"], most_bytes=web.settings.max_payload_bytes)
        answer = await run(web.sandbox, code, argument_of(webhook), tenant_id=info.context.tenant_id, task=LOG)
        result, error = None, answer.error
        if error is None:
            try:
                most = web.settings.max_payload_bytes
                result = returned_by(answer.text, webhook, most_bytes=most, before=answer.before)
                if not result.cancel:
                    check_url(result.url, guard=web.guard)
            except Invalid as wrong:
                result, error = None, wrong.message
        return TransformationTestResult(
            success=error is None,
            result=None if result is None else _result_node(result),
            error=error,
            logs=msgspec.json.decode(answer.logs, type=list[str]) if answer.logs else [],
            execution_ms=round(answer.took_s * 1000),
        )


def _webhook(fields: dict[str, Any], *, most_bytes: int) -> Webhook:
    """The webhook of an input, which comes as graphql-core has checked it."""
    payload: bytes = fields["payload"]
    if len(payload) > most_bytes:
        raise Invalid(f"payload has {len(payload)} bytes; the limit is {most_bytes}.", field="payload")
    try:
        headers = msgspec.json.decode(fields.get("headers") or b"null", type=dict[str, str] | None)
    except msgspec.ValidationError as cause:
        raise Invalid("headers must be an object of strings.", field="headers") from cause
    return Webhook(
        url=fields["url"],
        headers=headers or {},
        payload=payload,
        event_type=fields.get("eventType"),
        method=fields.get("method") or "POST",
    )


def _result_node(webhook: Webhook) -> TransformationResult:
    return TransformationResult(
        method=webhook.method,
        url=webhook.url,
        headers=Json(webhook.headers),
        payload=Json(webhook.payload),
        cancel=webhook.cancel,
    )
