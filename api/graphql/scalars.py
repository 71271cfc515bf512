"""The scalars of the contract: DateTime, JSON (whose text is kept byte for byte) and SafeInt."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, NewType

import msgspec
import strawberry
from graphql import (
    BooleanValueNode,
    FloatValueNode,
    GraphQLError,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    VariableNode,
)
from strawberry.types.scalar import ScalarDefinition

from relay.strict_json import LONGEST_NUMBER

#: Inside Relay a JSON value is its text as bytes, or an object that msgspec can write.
Json = NewType("Json", object)
SafeInt = NewType("SafeInt", int)

_MAX_SAFE_INT = 2**53 - 1


def read_datetime(value: object) -> datetime:
    """Read ISO 8601 with an offset; what is not within the years 1 to 9999 of UTC is no time."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise GraphQLError("A time must be ISO 8601 with an offset, like 2026-01-31T12:00:00Z.")


def _datetime_literal(node: ValueNode, _variables: object = None) -> datetime:
    try:
        return read_datetime(node.value if isinstance(node, StringValueNode) else None)
    except GraphQLError as cause:
        raise GraphQLError(cause.message, nodes=node) from cause


def write_datetime(value: datetime) -> str:
    """Write a time in UTC with milliseconds."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _write_json(value: object) -> object:
    return msgspec.Raw(value) if isinstance(value, bytes) else value


def _read_json(value: object) -> bytes:
    return value if isinstance(value, bytes) else msgspec.json.encode(value)


def literal_text(node: ValueNode, variables: dict[str, Any] | None = None) -> bytes:
    """The compact JSON text of a literal in a query: its order and the spelling of its numbers are kept."""
    match node:
        case IntValueNode() | FloatValueNode():
            if len(node.value) > LONGEST_NUMBER or (isinstance(node, FloatValueNode) and math.isinf(float(node.value))):
                raise GraphQLError("A number is too large.", nodes=node)
            return node.value.encode()
        case StringValueNode() | BooleanValueNode():
            return msgspec.json.encode(node.value)
        case NullValueNode():
            return b"null"
        case ListValueNode():
            return b"[" + b",".join(literal_text(item, variables) for item in node.values) + b"]"
        case ObjectValueNode():
            members = (
                msgspec.json.encode(field.name.value) + b":" + literal_text(field.value, variables)
                for field in node.fields
            )
            return b"{" + b",".join(members) + b"}"
        case VariableNode():
            return _read_json((variables or {}).get(node.name.value))
        case _:
            raise GraphQLError("A payload or object must be JSON: text stands in double quotes.", nodes=node)


def _read_safe_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_SAFE_INT:
        raise GraphQLError("A whole number up to 2^53-1 is needed.")
    return value


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="ISO 8601 with an offset; answers are UTC with milliseconds. Input without an offset is INVALID.",
        serialize=write_datetime,
        parse_value=read_datetime,
        parse_literal=_datetime_literal,
    ),
    Json: strawberry.scalar(
        name="JSON",
        description=(
            "Any JSON value. A payload keeps its text: number spelling, key order and spacing survive storage,"
            " delivery and reading back."
        ),
        serialize=_write_json,
        parse_value=_read_json,
        parse_literal=literal_text,
    ),
    SafeInt: strawberry.scalar(
        name="SafeInt",
        description="A whole number up to 2^53-1, as a JSON number: counters outgrow Int.",
        serialize=_read_safe_int,
        parse_value=_read_safe_int,
    ),
}
