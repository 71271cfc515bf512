"""What became of each item of a list."""

from __future__ import annotations

import strawberry

from api.errors import shown
from api.graphql.context import RelayInfo
from api.graphql.enums import ErrorCode
from api.graphql.nodes import Event, event_node
from api.sending import Sent
from relay.errors import RelayError


@strawberry.type
class ItemError:
    """Why an item was refused."""

    code: ErrorCode
    message: str
    field: str | None


@strawberry.type(description="Exactly one of event and error.")
class SendResult:
    """What became of one event of a list."""

    index: int
    event: Event | None
    error: ItemError | None
    duplicate: bool = strawberry.field(description="true: the key was known, event is the first one.")


async def sent_event_node(info: RelayInfo, sent: Sent) -> Event:
    """Show an event that was just accepted, without reading it back; the first event of a known key is read."""
    if not sent.accepted.duplicate:
        return event_node(sent.event, accepted=sent.accepted)
    record = await info.context.loaders.events.load(sent.accepted.id)
    if record is None:
        raise LookupError(f"event {sent.accepted.id} of a known key is gone")
    return event_node(record)


async def send_result(info: RelayInfo, index: int, result: Sent | RelayError) -> SendResult:
    """Show what became of the event at `index`."""
    if isinstance(result, Sent):
        event = await sent_event_node(info, result)
        return SendResult(index=index, event=event, error=None, duplicate=result.accepted.duplicate)
    error = shown(result, request_id=info.context.request_id)
    item = ItemError(code=ErrorCode[error.code], message=error.message, field=error.field)
    return SendResult(index=index, event=None, error=item, duplicate=False)
