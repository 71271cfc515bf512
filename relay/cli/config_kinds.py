"""What the configuration file can hold, read from the schema that Relay serves: a new field of the API is one of the file.

A field that can be given and read back is compared; one that is never shown again is sealed (`config_secrets`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from graphql import (
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    value_from_ast_untyped,
)

from relay.cli.api_client import Client
from relay.errors import Unavailable

#: What is given and never shown again.
SEALED: Final = frozenset({"secret", "secretHeaders", "auth", "tls"})
#: Lists whose order means nothing.
SETS: Final = frozenset({"eventTypes", "terminalStatusCodes", "redactPaths"})


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is compared; one that is `fixed` cannot change, one that is `loose` is compared only where it is given."""

    name: str
    type: GraphQLInputType
    default: Any
    fixed: bool
    loose: bool


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One section of the file, and what each of its entries can have; `key` and then `label` tell entries apart."""

    section: str
    word: str
    node: str
    key: str
    label: str | None
    fields: Mapping[str, Field]
    sealed: Mapping[str, GraphQLInputType]
    seen: str

    @property
    def list_query(self) -> str:
        """The operation that lists what Relay has, a page at a time."""
        selected = " ".join(["id", *self.fields, self.seen])
        return f"""query Config($after: String) {{
          {self.section}(first: 100, after: $after) {{
            nodes {{ {selected} }} pageInfo {{ hasNextPage endCursor }} }} }}"""

    @property
    def create_mutation(self) -> str:
        """The operation that makes one; `made` holds its id, for an endpoint its secret, too."""
        answer = "secret endpoint { id }" if self.node == "Endpoint" else "id"
        return f"""mutation Create($input: Create{self.node}Input!) {{
          made: create{self.node}(input: $input) {{ {answer} }} }}"""

    @property
    def update_mutation(self) -> str:
        """The operation that changes one."""
        return f"""mutation Update($id: ID!, $input: Update{self.node}Input!) {{
          update{self.node}(id: $id, input: $input) {{ id }} }}"""

    @property
    def delete_mutation(self) -> str:
        """The operation that takes one away."""
        return f"mutation Delete($id: ID!) {{ delete{self.node}(id: $id) }}"


def served_kinds(client: Client) -> tuple[Kind, ...]:
    """Ask a Relay what it takes: event types first, for endpoints are about them."""
    return kinds(client.text("/graphql/schema"))


@lru_cache(maxsize=2)
def kinds(sdl: str) -> tuple[Kind, ...]:
    """Return the sections of the file for a schema's text."""
    schema = build_schema(sdl, assume_valid=True)
    seen = "secretHeaderNames auth { kind hint tokenUrl } tls { clientCertificateSubject customCA } disabledReason"
    return (
        _kind(schema, section="eventTypes", word="event type", node="EventType", key="name", label=None, seen=""),
        _kind(schema, section="endpoints", word="endpoint", node="Endpoint", key="url", label="description", seen=seen),
    )


def _kind(schema: GraphQLSchema, *, section: str, word: str, node: str, key: str, label: str | None, seen: str) -> Kind:
    shown = schema.get_type(node)
    create, update = schema.get_type(f"Create{node}Input"), schema.get_type(f"Update{node}Input")
    if not (
        isinstance(shown, GraphQLObjectType)
        and isinstance(create, GraphQLInputObjectType)
        and isinstance(update, GraphQLInputObjectType)
    ):
        raise Unavailable(f"This Relay is too old: its API has no {section}.")
    given = create.fields | {name: field for name, field in update.fields.items() if name not in create.fields}
    compared = {
        name: _field(name, field, shown.fields[name].type, fixed=name not in update.fields, create=create)
        for name, field in given.items()
        if name in shown.fields and is_leaf_type(get_named_type(shown.fields[name].type))
    }
    sealed = {name: field.type for name, field in given.items() if name in SEALED}
    first = {key: compared[key]}
    return Kind(section, word, node, key, label, first | compared, sealed, seen)


def _field(name: str, field: GraphQLInputField, shown: Any, *, fixed: bool, create: GraphQLInputObjectType) -> Field:
    written = field.ast_node and field.ast_node.default_value
    if written is not None:
        default = value_from_ast_untyped(written)
    else:
        default = [] if is_non_null_type(shown) and is_list_type(get_nullable_type(shown)) else None
    return Field(name, field.type, default, fixed=fixed, loose=name not in create.fields)
