"""Payloads as GraphQL shows them."""

from __future__ import annotations

import base64

from api.graphql.context import RelayInfo
from api.graphql.scalars import Json
from relay.catalog.redaction import BLANK
from relay.intake.events import Event
from relay.intake.specs import is_json

PAYLOAD_MEANING = (
    "Null after erasure. Not JSON (contentType): a base64 string. Shown with the type's redactPaths blanked."
)


def shown_bytes(info: RelayInfo, event: Event) -> bytes | None:
    """Return an event's payload with its type's redactPaths blanked; None when nothing of it can be shown."""
    if event.payload is None:
        return None
    types, is_text = info.context.sending.types, is_json(event.content_type)
    return types.shown(event.tenant_id, event.type, event.payload, is_json=is_text)


def shown_payload(info: RelayInfo, event_type: str | None, payload: bytes | None, *, content_type: str) -> Json | None:
    """Show a payload of the client with its type's redactPaths blanked, all of it where they cannot be followed."""
    if payload is None:
        return None
    is_text = is_json(content_type)
    shown = info.context.sending.types.shown(info.context.tenant_id, event_type, payload, is_json=is_text)
    if shown is None:
        return Json(BLANK)
    return Json(shown if is_text else base64.b64encode(shown).decode())
