"""Ids as they come from clients: a text that is no id is an id nobody has."""

from __future__ import annotations

from uuid import UUID

from relay.errors import Invalid, NotFound


def find_id(text: str) -> UUID | None:
    """Read an id; None when it cannot be one."""
    try:
        return UUID(text)
    except ValueError:
        return None


def get_id(text: str, *, of: str) -> UUID:
    """Read an id; NotFound when it cannot be one: no such thing, said as for any unknown id."""
    id = find_id(text)
    if id is None:
        raise NotFound(f"There is no {of} with this id.", field="id")
    return id


def filter_id(text: str | None, *, field: str) -> UUID | None:
    """Read the id of a filter; Invalid when it cannot be one."""
    id = None if text is None else find_id(text)
    if text is not None and id is None:
        raise Invalid(f"{field} must be an id.", field=field)
    return id
