"""What a mutation's result leads on to. The result itself needs the mutation's scope; what stands behind it, READ.

Otherwise a key that may only send could read every event: from the one it sent to its endpoint, and on to that one's
other deliveries.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
)

_Fields = GraphQLObjectType | GraphQLInterfaceType


def readable(schema: GraphQLSchema) -> frozenset[str]:
    """The names of the types that a query can answer with."""
    found: set[str] = set()
    waiting: list[_Fields] = [schema.query_type] if schema.query_type else []
    while waiting:
        for field in waiting.pop().fields.values():
            behind = _behind(field)
            if behind is not None and behind.name not in found:
                found.add(behind.name)
                waiting.append(behind)
    return frozenset(found)


def leads_on(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, *, records: frozenset[str]
) -> bool:
    """Whether a valid mutation selects what a record of its result leads on to; `records` are the readable types."""
    root = schema.mutation_type
    assert root is not None
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    walk = _Walk(schema, fragments)
    return any(parent in records for parent in walk.parents(operation.selection_set, root))


class _Walk:
    def __init__(self, schema: GraphQLSchema, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._schema = schema
        self._fragments = fragments
        self._spread: set[str] = set()

    def parents(self, selections: SelectionSetNode, parent: _Fields) -> Iterator[str]:
        """The types on which a field is selected that leads to another object."""
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                field = parent.fields.get(selection.name.value)
                behind = None if field is None else _behind(field)
                if behind is not None and selection.selection_set:
                    yield parent.name
                    yield from self.parents(selection.selection_set, behind)
            elif isinstance(selection, InlineFragmentNode):
                named = selection.type_condition.name.value if selection.type_condition else parent.name
                yield from self.parents(selection.selection_set, self._type(named))
            elif isinstance(selection, FragmentSpreadNode) and selection.name.value not in self._spread:
                self._spread.add(selection.name.value)
                fragment = self._fragments[selection.name.value]
                yield from self.parents(fragment.selection_set, self._type(fragment.type_condition.name.value))

    def _type(self, name: str) -> _Fields:
        found = self._schema.type_map[name]
        assert isinstance(found, _Fields)
        return found


def _behind(field: GraphQLField) -> _Fields | None:
    named = get_named_type(field.type)
    return named if isinstance(named, _Fields) else None
