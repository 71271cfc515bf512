"""Filters by API: kept as they were written, refused with their place, tried without being sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.test_endpoints import make

SHOWN = "query($id: ID!) { endpoint(id: $id) { filter } }"
UPDATE = "mutation($id: ID!, $input: UpdateEndpointInput!) { updateEndpoint(id: $id, input: $input) { filter } }"
TEST = """mutation($filter: JSON!, $payload: JSON!, $headers: JSON, $type: String) {
    testFilter(filter: $filter, payload: $payload, headers: $headers, eventType: $type) { matched clause found } }"""
LOG = """{ auditLog(filter: {action: "updateEndpoint"}) { nodes { before after } } }"""


async def test_an_endpoints_filter_is_kept_as_it_was_written_until_it_is_cleared(api: Api) -> None:
    id = await make(api, filter={"path": "$.amount", "gte": 100})
    assert (await api.data(SHOWN, id=id))["endpoint"]["filter"] == {"path": "$.amount", "gte": 100}
    literal = UPDATE.replace("input: $input", 'input: {filter: {path: "$.a", eq: 1.50000000000000000001}}')
    literal = literal.replace(", $input: UpdateEndpointInput!", "")
    answer = await api.post("/graphql", {"query": literal, "variables": {"id": id}})
    assert '"eq":1.50000000000000000001' in answer.text
    answer = await api.post("/graphql", {"query": UPDATE, "variables": {"id": id, "input": {"timeoutMs": 5000}}})
    assert '"eq":1.50000000000000000001' in answer.text
    assert (await api.data(UPDATE, id=id, input={"filter": None}))["updateEndpoint"] == {"filter": None}
    newest = (await api.data(LOG))["auditLog"]["nodes"][0]
    assert newest == {"before": {"filter": {"path": "$.a", "eq": 1.5}}, "after": {"filter": None}}


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        ({}, "path, header, field"),
        ([1], "path, header, field"),
        ("text", "path, header, field"),
        ({"and": [{"path": "$.a", "eq": 1}, {"path": "$.b", "regex": "("}]}, "filter.and.1.regex"),
    ],
)
async def test_what_is_no_filter_is_refused_wherever_it_is_given(api: Api, filter: object, words: str) -> None:
    input = {"url": "http://127.0.0.1:9999/", "eventTypes": ["*"], "filter": filter}
    create = "mutation($input: CreateEndpointInput!) { createEndpoint(input: $input) { secret } }"
    for query, variables in ((create, {"input": input}), (TEST, {"filter": filter, "payload": {}})):
        code, field, message = await refusal(api, query, variables)
        assert (code, field) == ("INVALID", "filter")
        assert words in message


async def refusal(api: Api, query: str, variables: dict[str, Any]) -> tuple[str, str | None, str]:
    (error,) = (await api.graphql(query, variables))["errors"]
    return error["extensions"]["code"], error["extensions"].get("field"), error["message"]


async def test_a_filter_is_tried_without_sending_anything(api: Api) -> None:
    filter = {
        "and": [
            {"header": "X-Country", "eq": "DE"},
            {"field": "type", "startsWith": "order."},
            {"path": "$.n", "gt": 5},
        ]
    }

    async def tried(payload: object, **variables: object) -> dict[str, Any]:
        return (await api.data(TEST, filter=filter, payload=payload, **variables))["testFilter"]

    event: dict[str, object] = {"headers": {"x-country": "DE"}, "type": "order.paid"}
    assert await tried({"n": 6}, **event) == {"matched": True, "clause": None, "found": None}
    assert await tried({"n": 5}, **event) == {"matched": False, "clause": {"path": "$.n", "gt": 5}, "found": 5}
    assert await tried({"n": 6}) == {"matched": False, "clause": {"header": "X-Country", "eq": "DE"}, "found": None}
    assert (await api.data("{ events { totalCount } }"))["events"]["totalCount"] == 0


async def test_a_filter_that_cannot_be_evaluated_on_an_event_is_said_so(api: Api) -> None:
    variables = {"filter": {"path": "$..*", "eq": 1}, "payload": [[0] * 20_000]}
    code, field, message = await refusal(api, TEST, variables)
    assert (code, field) == ("INVALID", "filter")
    assert "10000 values" in message


async def test_headers_to_try_a_filter_on_are_those_that_an_event_may_have(api: Api) -> None:
    for headers in ([1], {"a b": "c"}, {"a": 1}):
        variables = {"filter": {"path": "$.a", "eq": 1}, "payload": json.loads("{}"), "headers": headers}
        assert (await refusal(api, TEST, variables))[:2] == ("INVALID", "headers")
