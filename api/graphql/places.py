"""Where in a document an error lies: the name of the field or argument that holds it."""

from __future__ import annotations

from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    GraphQLError,
    Node,
    ObjectFieldNode,
    VariableDefinitionNode,
    Visitor,
    visit,
)

_Named = ArgumentNode | ObjectFieldNode


def field_of(error: GraphQLError, document: DocumentNode | None) -> str | None:
    """The input field, argument, variable or field that an error of parsing or validation is about, if one is."""
    node = error.nodes[0] if error.nodes else None
    if isinstance(node, (ArgumentNode, ObjectFieldNode, FieldNode)):
        return node.name.value
    if isinstance(node, VariableDefinitionNode):
        return node.variable.name.value
    if node is None or document is None:
        return None
    finder = _Finder(node)
    visit(document, finder)
    return finder.name


class _Finder(Visitor):
    """Remembers the innermost argument or input field around a node."""

    def __init__(self, wanted: Node) -> None:
        super().__init__()
        self._wanted = wanted
        self.name: str | None = None

    def enter(self, node: Node, _key: object, parent: object, _path: object, ancestors: list[object]) -> object:
        if node is not self._wanted:
            return None
        holders = [ancestor.name.value for ancestor in [*ancestors, parent] if isinstance(ancestor, _Named)]
        self.name = holders[-1] if holders else None
        return self.BREAK
