"""`@needs`: the scope a root field asks for. It stands in the schema, and the view checks it before anything runs."""

from __future__ import annotations

import strawberry
from graphql import GraphQLField, GraphQLSchema
from strawberry.schema_directive import Location
from strawberry.types.field import StrawberryField

from relay.tenancy.scopes import Scope


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="needs",
    description="The scope a key needs. A root field without it fails the test suite.",
)
class Needs:
    """A field's scope, as a schema directive."""

    scope: Scope


def scope_of(field: GraphQLField) -> Scope | None:
    """The scope that a field of the built schema asks for; None when nobody gave it one."""
    definition = field.extensions.get("strawberry-definition")
    if not isinstance(definition, StrawberryField):
        return None
    return next((directive.scope for directive in definition.directives if isinstance(directive, Needs)), None)


def check_needs(schema: GraphQLSchema) -> None:
    """Raise TypeError for a root field that nobody gave a scope: it must not be served."""
    for root in filter(None, (schema.query_type, schema.mutation_type)):
        for name, field in root.fields.items():
            if scope_of(field) is None:
                raise TypeError(f"{root.name}.{name} has no @needs.")
