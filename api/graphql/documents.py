"""GraphQL documents: parsed, validated and bounded once, then kept by their text.

A mutation that is parsed and validated each time costs ten times one that is not, so clients that send variables are
served from here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    is_input_type,
    parse,
    type_from_ast,
    validate,
)

from api.graphql.cost import check_bounds, root_fields
from api.graphql.needs import scope_of
from api.graphql.reach import leads_on, readable
from api.graphql.variables import Declared
from relay.errors import Invalid
from relay.tenancy.scopes import Scope

MAX_TOKENS = 10_000
MAX_COMMENTS = 1_000
_MAX_KEPT_TEXT = 64 * 1024
_MAX_KEPT_TEXTS = 1 << 20
_MAX_ERRORS = 20
#: The lists: long to read, and nobody's next step depends on them. By its id a client finds what it has just made.
MAY_BE_STALE = frozenset(
    {"events", "deliveries", "endpoints", "analyticsStats", "analyticsSeries", "analyticsBreakdown"}
)
_OF_THE_SCHEMA = frozenset({"__schema", "__type"})
_INTROSPECTION = _OF_THE_SCHEMA | {"__typename"}


class Rejected(Exception):
    """The document is no GraphQL, or not of this schema; `errors` say why and where."""

    def __init__(self, errors: list[GraphQLError], document: DocumentNode | None = None) -> None:
        super().__init__(errors[0].message)
        self.errors = errors
        self.document = document


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a document, ready to be executed."""

    document: DocumentNode
    name: str | None
    #: Whether it asks for nothing but the schema, and whether it asks for that at all.
    is_introspection: bool
    introspects: bool
    may_be_stale: bool
    scopes: frozenset[Scope]
    variables: Declared


class Documents:
    """The documents that were seen lately; bounded by the length of their texts."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._records = readable(schema)
        self._kept: OrderedDict[str, list[Operation]] = OrderedDict()
        self._kept_text = 0

    def operation(self, text: str, name: str | None) -> Operation:
        """Return the operation of that name, or the only one. Rejected or Invalid when there is none to execute."""
        operations = self._kept.get(text)
        if operations is None:
            operations = self._prepare(text)
            self._keep(text, operations)
        else:
            self._kept.move_to_end(text)
        if name is None and len(operations) == 1:
            return operations[0]
        for operation in operations:
            if name is not None and operation.name == name:
                return operation
        if name is None:
            raise Invalid("The document holds several operations: operationName says which one.", field="operationName")
        raise Invalid(f"The document holds no operation named {name}.", field="operationName")

    def _prepare(self, text: str) -> list[Operation]:
        try:
            document = parse(text, max_lexical_tokens=MAX_TOKENS, max_comments=MAX_COMMENTS)
        except GraphQLError as cause:
            raise Rejected([cause]) from cause
        check_bounds(self._schema, document)
        errors = validate(self._schema, document, max_errors=_MAX_ERRORS)
        if errors:
            raise Rejected(errors, document)
        nodes = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
        if not nodes:
            raise Invalid("The document holds no operation.", field="query")
        return [self._operation(document, node) for node in nodes]

    def _operation(self, document: DocumentNode, node: OperationDefinitionNode) -> Operation:
        is_mutation = node.operation is OperationType.MUTATION
        root = self._schema.mutation_type if is_mutation else self._schema.query_type
        assert root is not None
        names = root_fields(document, node)
        scopes = {scope_of(root.fields[name]) for name in names - _INTROSPECTION}
        if is_mutation and leads_on(self._schema, document, node, records=self._records):
            scopes.add(Scope.READ)
        return Operation(
            document=document,
            name=node.name.value if node.name else None,
            is_introspection=names <= _INTROSPECTION,
            introspects=not names.isdisjoint(_OF_THE_SCHEMA),
            may_be_stale=not is_mutation and names - _INTROSPECTION <= MAY_BE_STALE,
            scopes=frozenset(scope for scope in scopes if scope is not None),
            variables=self._declared(node),
        )

    def _declared(self, node: OperationDefinitionNode) -> Declared:
        types = {
            definition.variable.name.value: type_from_ast(self._schema, definition.type)
            for definition in node.variable_definitions or ()
        }
        return {name: type_ for name, type_ in types.items() if is_input_type(type_)}

    def _keep(self, text: str, operations: list[Operation]) -> None:
        if len(text) > _MAX_KEPT_TEXT:
            return
        self._kept[text] = operations
        self._kept_text += len(text)
        while self._kept_text > _MAX_KEPT_TEXTS:
            oldest, _ = self._kept.popitem(last=False)
            self._kept_text -= len(oldest)
