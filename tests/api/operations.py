"""Every operation of the served schema as requests that can be sent: arguments from their types, answers with all fields."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)

_DEPTH = 3
KINDS = ("EventType", "Event", "Delivery", "Endpoint", "Job", "ApiKey", "Client")
#: Ids whose kind neither their name nor their operation tells.
_TOLD = {"clearPreviousSecret.id": "Endpoint", "auditLog.filter.subjectId": "Endpoint"}
_NOW = datetime.now(UTC)
_BY_NAME: dict[str, Any] = {
    "url": "https://shop.example/hook",
    "destination": "https://shop.example/hook",
    "tokenUrl": "https://shop.example/token",
    "since": (_NOW - timedelta(minutes=50)).isoformat(),
    "until": _NOW.isoformat(),
    "eventTypes": ["order.paid"],
    "eventType": "order.paid",
    "name": "order.paid",
    "scopes": ["READ"],
    "payload": {"n": 1},
    "filter": {"path": "$.n", "eq": 1},
    "document": {"openapi": "3.1.0", "webhooks": {"order.paid": {}}},
    "limit": 10,
    "first": 5,
    "status": "DEAD",
    "statuses": ["DEAD"],
}
_BY_TYPE: dict[str, Any] = {
    "String": "some",
    "Int": 1,
    "Float": 1.5,
    "Boolean": True,
    "JSON": {},
    "DateTime": _NOW.isoformat(),
}


@dataclass(frozen=True)
class Operation:
    """One field of Query or Mutation, with arguments that hold what is tried at `place` (None: nowhere).

    `kind` is what an id there is of; `type` is what the place takes.
    """

    root: str
    name: str
    document: str
    place: str | None
    type: str | None
    kind: str | None
    variables: Mapping[str, Any]

    def trying(self, value: Any, own: Mapping[str, str]) -> dict[str, Any]:
        """The variables with this value in its place; other ids that must be there are the caller's own, by kind."""
        return _replaced(self.variables, value, own)


@dataclass(frozen=True)
class _Own:
    """Where an id of the caller's own goes."""

    kind: str


#: Where what is tried goes.
_TRIED = object()


def operations(schema: GraphQLSchema, *, trying: Collection[str] = ("ID",)) -> Iterator[Operation]:
    """Each operation once for every place of these types that its arguments have, and once where they have none.

    Raises LookupError for an operation whose arguments cannot be built.
    """
    for root in (schema.query_type, schema.mutation_type):
        assert root is not None
        for name, field in root.fields.items():
            yield from _of_field(root.name.lower(), name, field, trying)


def _of_field(root: str, name: str, field: GraphQLField, trying: Collection[str]) -> Iterator[Operation]:
    places = [found for arg, one in field.args.items() for found in _places(one, f"{name}.{arg}", trying)]
    for place, type_ in places or [(None, None)]:
        given = {
            arg: _value(one, f"{name}.{arg}", place)
            for arg, one in field.args.items()
            if is_required_argument(one) or _leads_to(f"{name}.{arg}", place)
        }
        kind = None if place is None or type_ != "ID" else _kind(place)
        yield Operation(root, name, _document(root, name, field, given), place, type_, kind, given)


def _places(one: GraphQLArgument | GraphQLInputField, path: str, trying: Collection[str]) -> Iterator[tuple[str, str]]:
    """Where below an argument values of these types can stand, as dotted paths, each with its type."""
    named = get_named_type(one.type)
    if named.name in trying:
        yield path, named.name
    elif isinstance(named, GraphQLInputObjectType):
        for name, field in named.fields.items():
            yield from _places(field, f"{path}.{name}", trying)


def _leads_to(path: str, place: str | None) -> bool:
    return place is not None and (place == path or place.startswith(f"{path}."))


def _value(one: GraphQLArgument | GraphQLInputField, path: str, place: str | None) -> Any:
    value = _named_value(one.type, path, place)
    bare = one.type.of_type if is_non_null_type(one.type) else one.type
    return [value] if is_list_type(bare) and not isinstance(value, list) else value


def _named_value(type_: Any, path: str, place: str | None) -> Any:
    named, name = get_named_type(type_), path.rpartition(".")[2]
    if path == place:
        return _TRIED
    if named.name == "ID":
        return _Own(_kind(path))
    if name in _BY_NAME and not isinstance(named, GraphQLInputObjectType):
        return _BY_NAME[name]
    if isinstance(named, GraphQLInputObjectType):
        return _input(named, path, place)
    if isinstance(named, GraphQLEnumType):
        return next(iter(named.values))
    if named.name not in _BY_TYPE:
        raise LookupError(f"{path} is of type {named.name}, which tests/api/operations.py cannot build")
    return _BY_TYPE[named.name]


def _input(named: GraphQLInputObjectType, path: str, place: str | None) -> dict[str, Any]:
    """What must be there, and what leads to the id; the first field where only one may be there or none must."""
    wanted = {
        name: field
        for name, field in named.fields.items()
        if is_required_input_field(field) or _leads_to(f"{path}.{name}", place)
    }
    if not wanted:
        wanted = dict([next((n, f) for n, f in named.fields.items() if get_named_type(f.type).name != "ID")])
    return {name: _value(field, f"{path}.{name}", place) for name, field in wanted.items()}


def _kind(place: str) -> str:
    """What an id is of: by its own name, or where that is id by the operation's."""
    own = place.rpartition(".")[2]
    name = place.partition(".")[0] if own in ("id", "ids") else own
    found = _TOLD.get(place) or next((kind for kind in KINDS if kind.lower() in name.lower()), None)
    if found is None:
        raise LookupError(f"{place} is an id of something unknown: say of what in tests/api/operations.py")
    return found


def _document(root: str, name: str, field: GraphQLField, given: Mapping[str, Any]) -> str:
    declared = ", ".join(f"${arg}: {field.args[arg].type}" for arg in given)
    passed = ", ".join(f"{arg}: ${arg}" for arg in given)
    head = f"{root}({declared})" if declared else root
    call = f"{name}({passed})" if passed else name
    return f"{head} {{ {call} {_selection(get_named_type(field.type), _DEPTH)} }}"


def _selection(type_: Any, depth: int) -> str:
    """Every field that needs no argument, down to a depth; nothing for what has no fields."""
    if not isinstance(type_, GraphQLObjectType):
        return ""
    chosen = [
        f"{name} {inner}".strip()
        for name, field in type_.fields.items()
        if not any(is_required_argument(arg) for arg in field.args.values())
        if (inner := _below(get_named_type(field.type), depth)) is not None
    ]
    return f"{{ {' '.join(['__typename', *chosen])} }}"


def _below(type_: Any, depth: int) -> str | None:
    if not isinstance(type_, GraphQLObjectType):
        return ""
    return _selection(type_, depth - 1) if depth > 1 else None


def _replaced(value: Any, tried: Any, own: Mapping[str, str]) -> Any:
    if value is _TRIED:
        return tried
    if isinstance(value, _Own):
        return own[value.kind]
    if isinstance(value, Mapping):
        return {name: _replaced(one, tried, own) for name, one in value.items()}
    return [_replaced(one, tried, own) for one in value] if isinstance(value, list) else value
