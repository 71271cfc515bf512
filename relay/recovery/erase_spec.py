"""What a customer may ask of eraseEvents, with all limits."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from relay.catalog.policies import Patterns
from relay.errors import Invalid
from relay.specs import Spec, Text

MAX_IDS = 1_000
#: What stands before the hash of a subject, once its job is over.
HASHED = "sha256:"


class EraseSpec(Spec):
    """Which events to empty: those for which all that is given holds. since <= acceptance < until."""

    ids: list[UUID] | None = None
    subject: Annotated[Text, Field(min_length=1, max_length=255)] | None = None
    event_types: Patterns | None = None
    since: datetime | None = None
    until: datetime | None = None
    dry_run: bool | None = None

    def __init__(self, /, **values: Any) -> None:
        """Check the values, one by one and together; raise Invalid with the first thing that is wrong."""
        super().__init__(**values)
        if self.ids is not None and not 1 <= len(self.ids) <= MAX_IDS:
            raise Invalid(f"ids must hold 1 to {MAX_IDS:,} ids.".replace(",", " "), field="ids")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise Invalid("since must be before until.", field="since")
        if self.ids is None and self.subject is None and self.since is None and self.until is None:
            raise Invalid("Say which events: at least one of ids, subject, since and until.", field="ids")

    def as_json(self) -> dict[str, Any]:
        """Return what was given, as the API shows it and `from_json` reads it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EraseSpec:
        """Read what `as_json` wrote."""
        times = {name: datetime.fromisoformat(values[name]) for name in ("since", "until") if name in values}
        keys = {"ids": [UUID(id) for id in values["ids"]]} if "ids" in values else {}
        return cls(**{**values, **times, **keys})


def kept(input: dict[str, Any]) -> dict[str, Any]:
    """What a job that is over keeps of its input: of the subject, whom it is about, only the SHA-256."""
    subject = input.get("subject")
    if subject is None or subject.startswith(HASHED):
        return input
    return {**input, "subject": HASHED + hashlib.sha256(subject.encode()).hexdigest()}
