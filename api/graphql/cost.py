"""How much a document could make Relay do: bounded before validation, by what it asks for and not by what there is."""

from __future__ import annotations

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SchemaMetaFieldDef,
    SelectionSetNode,
    TypeMetaFieldDef,
    get_named_type,
    is_list_type,
    is_non_null_type,
)

from relay.errors import Invalid
from relay.insight.buckets import MAX_BUCKETS

MAX_DEPTH = 20
MAX_OBJECTS = 100_000
#: Each alias of a root field is an operation of its own.
MAX_ALIASES = 100
#: Fields and fragment spreads as written: validation compares those of one place with each other.
MAX_SELECTIONS = 500
_MAX_NESTING = 100
_LARGEST_PAGE = 100
_LARGEST_BATCH = 1_000
_USUAL_LIST = 10
#: Lists that can be longer.
_LONG_LISTS = {"analyticsSeries": MAX_BUCKETS}
#: Types whose lists are as long as the batch that was asked for.
_BATCHES = {"Mutation", "BatchRetryResult"}
_WITH_SELECTIONS = (OperationDefinitionNode, FragmentDefinitionNode)
_META_FIELDS = {"__schema": SchemaMetaFieldDef, "__type": TypeMetaFieldDef}


def check_bounds(schema: GraphQLSchema, document: DocumentNode) -> None:
    """Raise Invalid when an operation nests too deeply, is too wide, or could answer with too many objects.

    The document need not be valid: what the schema does not know counts nothing.
    """
    meter = _Meter(document)
    for node in document.definitions:
        if not isinstance(node, OperationDefinitionNode):
            continue
        root = schema.mutation_type if node.operation is OperationType.MUTATION else schema.query_type
        objects, depth = meter.measure(node.selection_set, root, level=0)
        if depth > MAX_DEPTH:
            raise _too_deep()
        if objects > MAX_OBJECTS:
            raise Invalid(
                f"The query could answer with {objects} objects; at most {MAX_OBJECTS} are allowed."
                " Ask for smaller pages with first, or for fewer nested lists.",
                field="query",
            )
    _check_width(document)


def _check_width(document: DocumentNode) -> None:
    aliases = selections = 0
    waiting = [node.selection_set for node in document.definitions if isinstance(node, _WITH_SELECTIONS)]
    while waiting:
        for selection in waiting.pop().selections:
            selections += 1
            aliases += isinstance(selection, FieldNode) and selection.alias is not None
            if isinstance(selection, (FieldNode, InlineFragmentNode)) and selection.selection_set:
                waiting.append(selection.selection_set)
    for n, limit, what in ((aliases, MAX_ALIASES, "aliases"), (selections, MAX_SELECTIONS, "fields and fragments")):
        if n > limit:
            raise Invalid(f"The document holds {n} {what}; at most {limit} are allowed.", field="query")


def _too_deep() -> Invalid:
    return Invalid(f"The query is nested too deeply; at most {MAX_DEPTH} levels are allowed.", field="query")


class _Meter:
    def __init__(self, document: DocumentNode) -> None:
        self._fragments = _fragments(document)
        self._measured: dict[tuple[str, str], tuple[int, int]] = {}

    def measure(
        self, selections: SelectionSetNode | None, parent: GraphQLNamedType | None, *, level: int
    ) -> tuple[int, int]:
        """Return how many objects the selections could yield for one parent, and how deep they go."""
        if level > _MAX_NESTING:
            raise _too_deep()
        objects = depth = 0
        for selection in selections.selections if selections else ():
            if isinstance(selection, FieldNode):
                more, height = self._field(selection, parent, level=level)
            elif isinstance(selection, InlineFragmentNode):
                more, height = self.measure(selection.selection_set, parent, level=level + 1)
            elif isinstance(selection, FragmentSpreadNode):
                more, height = self._fragment(selection.name.value, parent, level=level)
            else:
                continue
            objects, depth = objects + more, max(depth, height)
        return objects, depth

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None, *, level: int) -> tuple[int, int]:
        if node.selection_set is None:
            return 0, 1
        name = node.name.value
        field = parent.fields.get(name) if isinstance(parent, GraphQLObjectType) else None
        field = field or _META_FIELDS.get(name)
        child = get_named_type(field.type) if field else None
        objects, depth = self.measure(node.selection_set, child, level=level + 1)
        times = _length(node, field, parent) if field else 1
        return times * (1 + objects), 1 + depth

    def _fragment(self, name: str, parent: GraphQLNamedType | None, *, level: int) -> tuple[int, int]:
        key = name, parent.name if parent else ""
        if key not in self._measured:
            self._measured[key] = 0, 0  # a fragment that holds itself ends here; validation refuses it
            fragment = self._fragments.get(name)
            selections = fragment.selection_set if fragment else None
            self._measured[key] = self.measure(selections, parent, level=level + 1)
        return self._measured[key]


def _length(node: FieldNode, field: GraphQLField, parent: GraphQLNamedType | None) -> int:
    if "first" in field.args:
        return _page(node, field)
    type_ = field.type.of_type if is_non_null_type(field.type) else field.type
    if not is_list_type(type_) or (parent is not None and parent.name.endswith("Connection")):
        return 1
    if node.name.value in _LONG_LISTS:
        return _LONG_LISTS[node.name.value]
    return _LARGEST_BATCH if parent is not None and parent.name in _BATCHES else _USUAL_LIST


def _page(node: FieldNode, field: GraphQLField) -> int:
    for argument in node.arguments or ():
        if argument.name.value == "first":
            value = argument.value
            if isinstance(value, IntValueNode) and len(value.value) <= len(str(_LARGEST_PAGE)):
                return min(max(int(value.value), 1), _LARGEST_PAGE)
            return _LARGEST_PAGE
    default = field.args["first"].default_value
    return default if isinstance(default, int) else _LARGEST_PAGE


def root_fields(document: DocumentNode, operation: OperationDefinitionNode) -> frozenset[str]:
    """The names of the fields that a valid operation asks of its root, those in fragments included."""
    fragments = _fragments(document)
    names: set[str] = set()
    spread: set[str] = set()
    waiting = [operation.selection_set]
    while waiting:
        for selection in waiting.pop().selections:
            if isinstance(selection, FieldNode):
                names.add(selection.name.value)
            elif isinstance(selection, InlineFragmentNode):
                waiting.append(selection.selection_set)
            elif isinstance(selection, FragmentSpreadNode) and selection.name.value not in spread:
                spread.add(selection.name.value)
                waiting.append(fragments[selection.name.value].selection_set)
    return frozenset(names)


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
