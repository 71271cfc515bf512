"""The contract's input types of event types and erasure."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import UNSET
from strawberry.types import get_object_definition

from api.graphql.ids import get_id
from api.graphql.inputs import build, given
from api.graphql.scalars import Json
from relay.recovery.erase_spec import EraseSpec


@strawberry.input
class CreateEventTypeInput:
    """A new type of events."""

    name: str
    description: str | None = UNSET
    schema: Json | None = strawberry.field(default=UNSET, description="JSON Schema 2020-12.")
    schema_version: str | None = UNSET
    redact_paths: list[str] | None = UNSET


@strawberry.input
class UpdateEventTypeInput:
    """Changes of a type of events: what is absent stays, null clears."""

    description: str | None = UNSET
    schema: Json | None = UNSET
    schema_version: str | None = UNSET
    redact_paths: list[str] | None = UNSET


@strawberry.input(description="At least one of ids, subject, and the window. All that is given must hold.")
class EraseInput:
    """Which events to empty."""

    ids: list[strawberry.ID] | None = UNSET
    subject: str | None = UNSET
    event_types: list[str] | None = UNSET
    since: datetime | None = UNSET
    until: datetime | None = UNSET
    dry_run: bool | None = False


for _kind in (CreateEventTypeInput, UpdateEventTypeInput, EraseInput):
    get_object_definition(_kind, strict=True).from_input = build


def erase_spec(input: EraseInput) -> EraseSpec:
    """What the domain takes; NotFound for an id that cannot be one."""
    fields = given(input)
    if fields.get("ids") is not None:
        fields["ids"] = [get_id(id, of="event") for id in fields["ids"]]
    return EraseSpec(**fields)
