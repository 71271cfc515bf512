"""Pages of a list, newest first: the cursor is the id of the last item shown, opaque to callers.

Lists that grow (events, deliveries, the audit log) are planned for the client that asks (`prepare=False`): the plan that
Postgres would keep for all of them reads what a large client has to find what a small one has.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from relay.errors import Invalid

T = TypeVar("T")

MAX_FIRST = 100
#: Counts are exact up to here; beyond, nobody pays for them.
COUNT_LIMIT = 10_000
#: Above every id: where a list without a cursor begins.
NEWEST = UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list, and whether there are more on either side."""

    items: list[T]
    has_next: bool
    has_previous: bool


def page(found: Sequence[T], *, first: int, after: UUID | None) -> Page[T]:
    """Make a page of what a query with LIMIT `first + 1` found."""
    return Page(list(found[:first]), has_next=len(found) > first, has_previous=after is not None)


def check_first(first: int) -> int:
    """Return `first`; raise Invalid outside 1..100."""
    if not 1 <= first <= MAX_FIRST:
        raise Invalid(f"first must be between 1 and {MAX_FIRST}.", field="first")
    return first


def encode_cursor(id: UUID) -> str:
    """Return the cursor that stands behind the item with this id."""
    return base64.urlsafe_b64encode(id.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> UUID:
    """Return the id in a cursor; raise Invalid for a text that `encode_cursor` never made."""
    try:
        id = UUID(bytes=base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as cause:
        raise _wrong_cursor() from cause
    if encode_cursor(id) != cursor:
        raise _wrong_cursor()
    return id


def exact_count(counted: int) -> int | None:
    """What a count with LIMIT `COUNT_LIMIT + 1` means: the number, or None for too many to count."""
    return counted if counted <= COUNT_LIMIT else None


def _wrong_cursor() -> Invalid:
    return Invalid("after must be a cursor that an earlier page gave.", field="after")
