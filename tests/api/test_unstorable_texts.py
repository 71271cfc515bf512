"""Each text that a query or mutation takes, holding what Postgres cannot: a refusal or an empty answer, no failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)

from api.graphql.schema import core_schema
from tests.api.conftest import Api

_CREATE = 'mutation { createEndpoint(input: {url: "http://127.0.0.1:9000/", eventTypes: ["*"]}) { endpoint { id } } }'
_ORDINARY: dict[str, Any] = {
    "String": "a", "Int": 1, "SafeInt": 1, "Float": 1.0, "Boolean": True, "DateTime": "2030-01-01T00:00:00Z", "JSON": {},
}  # fmt: skip
_ROOTS = {
    name: (root.name.lower(), field)
    for root in (core_schema.query_type, core_schema.mutation_type)
    if root is not None
    for name, field in root.fields.items()
    if field.args
}


def in_lists(type_: Any, value: Any) -> Any:
    if is_non_null_type(type_):
        return in_lists(type_.of_type, value)
    return [in_lists(type_.of_type, value)] if is_list_type(type_) else value


def ordinary(type_: Any) -> Any:
    named = get_named_type(type_)
    if isinstance(named, GraphQLInputObjectType):
        return in_lists(type_, needed(named.fields))
    if isinstance(named, GraphQLEnumType):
        return in_lists(type_, next(iter(named.values)))
    return in_lists(type_, _ORDINARY[named.name])


def needed(fields: dict[str, GraphQLInputField]) -> dict[str, Any]:
    return {name: ordinary(field.type) for name, field in fields.items() if is_required_input_field(field)}


def spoilt(type_: Any, text: str, *, within: frozenset[str] = frozenset()) -> Iterator[tuple[str, Any]]:
    """The value with the text in one place, once for each place, and where that is."""
    named = get_named_type(type_)
    if isinstance(named, GraphQLInputObjectType):
        if named.name in within:
            return
        for name, field in named.fields.items():
            for place, value in spoilt(field.type, text, within=within | {named.name}):
                yield f".{name}{place}", in_lists(type_, {**needed(named.fields), name: value})
    elif named.name == "JSON":
        yield "", in_lists(type_, {text: text})
    elif named.name in ("String", "ID"):
        yield "", in_lists(type_, text)


def arguments(args: dict[str, GraphQLArgument], text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    always = {name: ordinary(arg.type) for name, arg in args.items() if is_required_argument(arg)}
    for name, arg in args.items():
        for place, value in spoilt(arg.type, text):
            yield f"{name}{place}", {**always, name: value}


def selection(field: GraphQLField) -> str:
    """What makes a list read and count its rows."""
    named = get_named_type(field.type)
    if is_leaf_type(named):
        return ""
    lists = isinstance(named, GraphQLObjectType) and "totalCount" in named.fields
    return "{ __typename totalCount nodes { __typename } }" if lists else "{ __typename }"


@pytest.mark.parametrize("name", _ROOTS)
async def test_no_text_reaches_postgres_that_it_cannot_hold(
    api: Api, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kind, field = _ROOTS[name]
    endpoint = await api.data(_CREATE)
    monkeypatch.setitem(_ORDINARY, "ID", endpoint["createEndpoint"]["endpoint"]["id"])
    declared = ", ".join(f"${arg}: {taken.type}" for arg, taken in field.args.items())
    given = ", ".join(f"{arg}: ${arg}" for arg in field.args)
    document = f"{kind}({declared}) {{ {name}({given}) {selection(field)} }}"
    for place, variables in [*arguments(field.args, "a\0b"), *arguments(field.args, "a\ud800b")]:
        answer = await api.post("/graphql", json.dumps({"query": document, "variables": variables}))
        assert answer.status_code in (200, 400), (place, answer.text)
        codes = {error["extensions"]["code"] for error in answer.json.get("errors", [])}
        assert not codes & {"INTERNAL", "UNAVAILABLE"}, (place, answer.text)
