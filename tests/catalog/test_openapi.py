"""Webhooks of an OpenAPI document as event types: schemas that stand on their own, and what is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from relay.catalog.event_types import EventTypeSpec
from relay.catalog.openapi import MAX_DOCUMENT_BYTES, Described, described
from relay.catalog.schemas import compile_schema
from relay.errors import Invalid

ORDER = {"$ref": "#/components/schemas/Order"}


def hook(schema: Any = None, **more: Any) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": schema}}} if schema is not None else {}
    return {"post": {"requestBody": content, "responses": {"200": {"description": "ok"}}, **more}}


def document(webhooks: Any, **components: Any) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "7"},
        "webhooks": webhooks,
        "components": components,
    }


async def read(webhooks: Any, **components: Any) -> Described:
    return await described(json.dumps(document(webhooks, **components)).encode())


async def one(item: Any, **components: Any) -> EventTypeSpec:
    found = await read({"order.paid": item}, **components)
    assert found.refused == []
    return found.types[0]


def failing(spec: EventTypeSpec, payload: object) -> list[str]:
    assert spec.json_schema is not None
    return [misfit.place for misfit in compile_schema(spec.json_schema).misfits(json.dumps(payload).encode())]


async def test_a_schema_takes_all_that_it_refers_to_with_it() -> None:
    schemas = {
        "Order": {
            "type": "object",
            "properties": {
                "lines": {"items": {"$ref": "#/components/schemas/a~1Line"}},
                "parent": ORDER,
                "sum": {"$ref": "#/components/schemas/Money/properties/sum"},
                "text": {"$ref": "#/components/x-more/text"},
                "const": {"const": {"$ref": "#/nowhere"}},
                "$ref": {"type": "string"},
            },
        },
        "a/Line": {"properties": {"sku": {"type": "string"}}},
        "Money": {"properties": {"sum": {"type": "number"}}},
        "Unused": {"type": "null"},
    }
    spec = await one(hook(ORDER), schemas=schemas, **{"x-more": {"text": {"type": "string"}}})
    assert spec.json_schema is not None
    assert b"Unused" not in spec.json_schema
    assert b'"const":{"$ref":"#/nowhere"}' in spec.json_schema
    payload = {"lines": [{"sku": 1}], "parent": {"sum": "x"}, "text": 1, "$ref": 1}
    assert sorted(failing(spec, payload)) == ["$.$ref", "$.lines[0].sku", "$.parent.sum", "$.text"]
    assert failing(spec, {"lines": [{"sku": "a"}], "sum": 1, "const": {"$ref": "#/nowhere"}}) == []
    mixed = {"$defs": {"x": {"$anchor": "x", "type": "null"}}, "properties": {"a": ORDER, "b": {"$ref": "#x"}}}
    own = await one(hook(mixed), schemas={"Order": {"type": "string"}})
    assert failing(own, {"a": 1, "b": 1}) == ["$.a", "$.b"]


async def test_what_stands_elsewhere_in_the_document_is_found() -> None:
    item = hook({"type": "object"}, summary="Paid", description=" ")
    body = {"content": {"application/vnd.shop+json; v=1": {"schema": False}, "text/plain": {}}}
    spec = await one({"$ref": "#/components/pathItems/paid"}, pathItems={"paid": item})
    assert (spec.json_schema, spec.description, spec.schema_version) == (b'{"type":"object"}', "Paid", "7")
    spec = await one({"put": {"requestBody": {"$ref": "#/components/requestBodies/b"}}}, requestBodies={"b": body})
    assert spec.json_schema == b"false"
    bare = await one({"description": "x" * 2_000})
    assert bare.description is not None
    assert (bare.json_schema, bare.schema_version, len(bare.description)) == (None, None, 1_000)


async def test_a_webhook_that_is_no_type_is_refused_and_the_others_are_not() -> None:
    found = await read(
        {
            "a b": hook(),
            "relay.x": hook(),
            "far": hook({"items": {"$ref": "https://shop.example/order.json"}}),
            "gone": hook({"$ref": "#/components/schemas/Gone"}),
            "wrong": hook({"items": {"type": "strin"}}),
            "round": {"$ref": "#/webhooks/round"},
            "text": "text",
            "list": hook([ORDER]),
            "large": hook({"$ref": "#/components/schemas/Large"}),
            "fine": hook(ORDER),
        },
        schemas={"Order": {}, "Large": {"title": "x" * 200_000}},
    )
    assert [spec.name for spec in found.types] == ["fine"]
    said = {error.field: error.message for error in found.refused}
    assert len(said) == 9
    assert "$.items.$ref" in said["webhooks.far"]
    assert "#/components/schemas/Gone" in said["webhooks.gone"]
    assert "$.items.type" in said["webhooks.wrong"]
    assert "bytes" in said["webhooks.large"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[]", "an object"),
        (b"{", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"openapi": "3.0.3", "webhooks": {"a": {}}}', "3.1"),
        (b'{"openapi": "3.1.0"}', "webhooks"),
        (b'{"openapi": "3.1.0", "webhooks": {}}', "webhooks"),
        (msgspec.json.encode({"openapi": "3.1.0", "webhooks": {f"a{n}": {} for n in range(501)}}), "500"),
        (
            msgspec.json.encode(document({"a": {}}) | {"jsonSchemaDialect": "http://json-schema.org/draft-07/schema#"}),
            "2020",
        ),
        (b'"' + b"x" * MAX_DOCUMENT_BYTES + b'"', "the limit"),
    ],
    ids=["list", "cut", "deep", "3.0", "no webhooks", "empty", "too many", "dialect", "long"],
)
async def test_what_is_no_such_document_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(Invalid, match=says) as caught:
        await described(text)
    assert caught.value.field == "document"


async def test_parts_that_many_webhooks_share_are_read_once() -> None:
    schemas: dict[str, Any] = {f"S{n}": {"items": {"$ref": f"#/components/schemas/S{n + 1}"}} for n in range(100)}
    began = time.perf_counter()
    found = await read(
        {f"a.n{n}": hook({"$ref": "#/components/schemas/S0"}) for n in range(30)}, schemas=schemas | {"S100": {}}
    )
    assert len(found.types) == 30
    assert time.perf_counter() - began < 10
