from __future__ import annotations

import pytest
from graphql import get_introspection_query, parse

from api.graphql.cost import check_bounds
from api.graphql.documents import MAY_BE_STALE, Documents, Rejected
from api.graphql.schema import core_schema
from relay.errors import Invalid
from relay.tenancy.scopes import Scope


def test_a_document_is_prepared_once() -> None:
    documents = Documents(core_schema)
    first = documents.operation("{ events { totalCount } }", None)
    assert documents.operation("{ events { totalCount } }", None) is first


def test_the_texts_that_are_kept_are_bounded() -> None:
    documents = Documents(core_schema)
    texts = [f"{{ events {{ totalCount }} }} # {n} {'x' * 60_000}" for n in range(30)]
    first = [documents.operation(text, None) for text in texts]
    assert documents.operation(texts[-1], None) is first[-1]
    assert documents.operation(texts[0], None) is not first[0]
    long = "{ events { totalCount } } #" + "x" * 70_000
    assert documents.operation(long, None) is not documents.operation(long, None)


def test_an_operation_needs_the_scopes_of_all_its_root_fields() -> None:
    text = """mutation A { sendEvent(input: {eventType: "a", payload: 1}) { id } ...F }
              fragment F on Mutation { ... on Mutation { x: deleteEndpoint(id: 1) } }
              query B { __typename __schema { queryType { name } } }"""
    documents = Documents(core_schema)
    assert documents.operation(text, "A").scopes == {Scope.SEND, Scope.MANAGE}
    assert not documents.operation(text, "A").is_introspection
    assert documents.operation(text, "B").is_introspection
    for name in (None, "C"):
        with pytest.raises(Invalid, match="operation"):
            documents.operation(text, name)


def test_nothing_that_was_refused_is_kept() -> None:
    documents = Documents(core_schema)
    for _ in range(2):
        with pytest.raises(Rejected):
            documents.operation("{ nothing }", None)


def test_what_editors_ask_for_is_within_bounds() -> None:
    check_bounds(core_schema, parse(get_introspection_query()))
    check_bounds(core_schema, parse("{ events(first: 100) { nodes { deliveries { deliveryAttempts { id } } } } }"))


@pytest.mark.parametrize(
    "text",
    [
        "{ events(first: 100) { nodes { deliveries { event { deliveries { id } } } } } }",
        "query($n: Int) { events(first: $n) { nodes { deliveries(first: $n) { deliveryAttempts { id } } } } }",
        "{" + " ".join(f"a{n}: events(first: 100) {{ nodes {{ id }} }}" for n in range(600)) + "}",
        "{ ...A } fragment A on Query { ...B ...B } fragment B on Query { ...C ...C } fragment C on Query { "
        + " ".join(f"a{n}: events(first: 100) {{ nodes {{ id }} }}" for n in range(140)) + "}",
    ],
)  # fmt: skip
def test_what_could_answer_with_too_much_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="objects"):
        check_bounds(core_schema, parse(text))


def test_only_queries_of_nothing_but_lists_may_be_stale() -> None:
    documents = Documents(core_schema)
    assert core_schema.query_type is not None
    assert core_schema.query_type.fields.keys() >= MAY_BE_STALE
    assert documents.operation("{ __typename events { totalCount } a: deliveries { totalCount } }", None).may_be_stale
    assert not documents.operation('{ events { totalCount } event(id: "1") { id } }', None).may_be_stale
    assert not documents.operation("{ queueStats { queued } }", None).may_be_stale
    assert core_schema.mutation_type is not None
    for name in core_schema.mutation_type.fields:
        assert name not in MAY_BE_STALE
    assert not documents.operation("mutation { deleteEndpoint(id: 1) }", None).may_be_stale
    assert not documents.operation("mutation { __typename }", None).may_be_stale
