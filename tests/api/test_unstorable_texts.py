"""Each text that a query or mutation takes, holding what Postgres cannot: a refusal or an empty answer, no failure."""

from __future__ import annotations

import json

import pytest

from api.graphql.schema import core_schema
from tests.api.conftest import Api
from tests.api.operations import KINDS, Operation, operations

_CREATE = 'mutation { createEndpoint(input: {url: "http://127.0.0.1:9000/", eventTypes: ["*"]}) { endpoint { id } } }'
_BY_NAME: dict[str, list[Operation]] = {}
for _one in operations(core_schema, trying=("String", "ID", "JSON")):
    if _one.place is not None:
        _BY_NAME.setdefault(_one.name, []).append(_one)


@pytest.mark.parametrize("name", _BY_NAME)
async def test_no_text_reaches_postgres_that_it_cannot_hold(api: Api, name: str) -> None:
    endpoint = (await api.data(_CREATE))["createEndpoint"]["endpoint"]["id"]
    own: dict[str, str] = dict.fromkeys(KINDS, endpoint)
    for one in _BY_NAME[name]:
        for text in ("a\0b", "a\ud800b"):
            variables = one.trying({text: text} if one.type == "JSON" else text, own)
            answer = await api.post("/graphql", json.dumps({"query": one.document, "variables": variables}))
            assert answer.status_code in (200, 400), (one.place, answer.text)
            codes = {error["extensions"]["code"] for error in answer.json.get("errors", [])}
            assert not codes & {"INTERNAL", "UNAVAILABLE"}, (one.place, answer.text)
