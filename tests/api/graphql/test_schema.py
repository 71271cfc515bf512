"""The served schema keeps the contract: every name in it is one of the contract's, with the same type."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
)

from api.graphql.needs import scope_of
from api.graphql.schema import core_schema, sdl
from relay.delivery.outcomes import Reason

CONTRACT = build_schema((Path(__file__).parents[3] / "docs" / "contract.graphql").read_text())
SERVED = build_schema(sdl())
TYPES = [name for name in SERVED.type_map if not name.startswith("__")]


def described(type_: GraphQLNamedType) -> dict[str, str]:
    """Each name in a type with its type, arguments and defaults, as text."""
    if isinstance(type_, GraphQLEnumType):
        return dict.fromkeys(type_.values, "value")
    if isinstance(type_, GraphQLInputObjectType):
        return {name: f"{field.type} = {field.default_value}" for name, field in type_.fields.items()}
    if isinstance(type_, (GraphQLObjectType, GraphQLInterfaceType)):
        found = {name: str(field.type) for name, field in type_.fields.items()}
        for name, field in type_.fields.items():
            found |= {f"{name}({arg})": f"{a.type} = {a.default_value}" for arg, a in field.args.items()}
        return found
    return {}


@pytest.mark.parametrize("name", TYPES)
def test_no_name_differs_from_the_contract(name: str) -> None:
    promised = CONTRACT.type_map.get(name)
    assert promised is not None, f"{name} is not in the contract"
    served = SERVED.type_map[name]
    assert type(served) is type(promised)
    expected = described(promised)
    assert {part: expected.get(part) for part in described(served)} == described(served)


def test_everything_the_contract_requires_of_an_input_is_there() -> None:
    for name in TYPES:
        promised = CONTRACT.type_map[name]
        if isinstance(promised, GraphQLInputObjectType):
            required = {field for field, text in described(promised).items() if "!" in text.split(" = ")[0][-1:]}
            assert required <= set(described(SERVED.type_map[name]))


def roots(schema: GraphQLSchema) -> list[GraphQLObjectType]:
    return [root for root in (schema.query_type, schema.mutation_type) if root is not None]


def test_every_root_field_needs_the_contracts_scope() -> None:
    for root in roots(core_schema):
        for name, field in root.fields.items():
            scope = scope_of(field)
            assert scope is not None, f"{root.name}.{name} has no @needs"
            promised = CONTRACT.type_map[root.name]
            assert isinstance(promised, GraphQLObjectType)
            node = promised.fields[name].ast_node
            assert node is not None
            assert f"@needs(scope: {scope.name})" in str(
                node.loc and node.loc.source.body[node.loc.start : node.loc.end]
            )


def test_the_printed_schema_shows_the_scopes() -> None:
    assert "directive @needs(scope: Scope!) on FIELD_DEFINITION" in sdl()
    assert "sendEvent(input: SendEventInput!, idempotencyKey: String): Event! @needs(scope: SEND)" in sdl()


def test_every_reason_has_its_word() -> None:
    promised = CONTRACT.type_map["Reason"]
    assert isinstance(promised, GraphQLEnumType)
    assert set(promised.values) == {reason.name for reason in Reason}
    assert all(reason.name.lower() == reason.value for reason in Reason)


def test_the_documented_schema_is_the_served_one() -> None:
    documented = (Path(__file__).parents[3] / "docs" / "schema.graphql").read_text()
    assert documented == sdl(), "write it anew: relay schema --out docs/schema.graphql"
