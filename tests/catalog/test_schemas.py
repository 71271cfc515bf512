"""JSON Schemas of clients: what is refused when one is given, what a payload is told, and that neither can stall Relay."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.catalog.schemas import MAX_NAMED, MAX_SCHEMA_BYTES, Schema, compile_schema, told
from relay.errors import Invalid

ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "amount": {"type": "number"},
        "lines": {"type": "array", "items": {"properties": {"sku": {"type": "string"}}}},
        "odd name": {"const": 1},
    },
}
SELF = {"$ref": "#/$defs/n"}


def made(schema: object) -> Schema:
    return compile_schema(json.dumps(schema).encode())


def refusal(schema: object) -> str:
    with pytest.raises(Invalid) as caught:
        made(schema)
    assert caught.value.field == "schema"
    return caught.value.message


def places(schema: Schema, payload: object) -> list[str]:
    return [one.place for one in schema.misfits(json.dumps(payload).encode())]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def doubling(levels: int) -> dict[str, Any]:
    """A schema that applies 2^levels parts to one value."""
    parts: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**parts, f"a{levels}": {"type": "string"}}}


def quickly(act: Callable[[], object]) -> None:
    """Run it; it must not take longer than a request may hold up the others."""
    began = time.perf_counter()
    act()
    assert time.perf_counter() - began < 2


def test_every_failing_place_is_named_and_no_value_is_quoted() -> None:
    payload = {"amount": "secret", "lines": [{"sku": "a"}, {"sku": 7}], "odd name": 2}
    misfits = made(ORDER).misfits(json.dumps(payload).encode())
    assert {one.place for one in misfits} == {"$", "$.amount", "$.lines[1].sku", "$['odd name']"}
    assert "secret" not in told(misfits)
    assert places(made(ORDER), {"id": 1, "amount": 1.5, "lines": []}) == []
    many = made({"items": {"type": "string"}}).misfits(json.dumps([1] * 300).encode())
    assert told(many).count("$[") == MAX_NAMED
    assert told(many).endswith("; and more.")


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"a": {"type": "strin"}}}, "$.properties.a.type"),
        ({"properties": {"a": {"minLength": -1}}}, "$.properties.a.minLength"),
        ({"items": {"pattern": "(?=a)b"}}, "$.items.pattern"),
        ({"items": {"pattern": r"(a)\1"}}, "$.items.pattern"),
        ({"patternProperties": {"(?!a)": {}}}, "$.patternProperties['(?!a)']"),
        ({"items": {"pattern": "((a{100}){100}){100}"}}, "$.items.pattern"),
        ({"items": {"$ref": "#/$defs/none"}}, "$.items.$ref"),
        ({"items": {"$ref": "#none"}}, "$.items.$ref"),
        ({"$defs": {"a": {"$ref": "file:///etc/passwd"}}}, "$.$defs.a.$ref"),
        ({"x": {"y": {"pattern": "(?=a)"}}, "items": {"$ref": "#/x/y"}}, "$.items.$ref.pattern"),
        ({"x": {"y": {"items": {"$ref": "#/gone"}}}, "$ref": "#/x/y"}, "$.$ref.items.$ref"),
        ({"x": {"minLength": "a"}, "$ref": "#/x"}, "minLength"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(schema: object, place: str) -> None:
    assert place in refusal(schema)


def test_a_reference_to_elsewhere_is_refused_without_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        # An unknown keyword holds no schema until something refers into it.
        hidden = {"x": {"$ref": url}, "$ref": "#/x"}
        for schema in ({"$ref": url}, {"$id": url, "$ref": "other.json"}, {"$dynamicRef": url}, hidden):
            refusal(schema)
        with pytest.raises(TimeoutError):
            server.accept()


def test_references_within_a_schema_hold_whatever_names_they_use() -> None:
    schema = made(
        {
            "$id": "https://shop.example/order",
            "$defs": {"sku": {"$id": "sku", "$anchor": "it", "type": "string"}, "a/b": {"type": "null"}},
            "properties": {
                "a": {"$ref": "sku"},
                "b": {"$ref": "sku#it"},
                "c": {"$ref": "https://shop.example/order#/$defs/sku"},
                "d": {"$ref": "#/$defs/a~1b"},
            },
        }
    )
    assert places(schema, dict.fromkeys("abcd", 1)) == ["$.a", "$.b", "$.c", "$.d"]


def test_ten_megabytes_are_refused_unread() -> None:
    large = b'{"a":"' + b"x" * 10_000_000 + b'"}'
    began = time.process_time()
    with pytest.raises(Invalid, match=str(MAX_SCHEMA_BYTES)):
        compile_schema(large)
    assert time.process_time() - began < 0.2


def test_an_evil_expression_takes_linear_time_or_is_refused() -> None:
    for pattern in ("^(a+)+$", "^(a|a)*$", "^(.*a){9}$"):
        schema = made({"pattern": pattern})
        text = json.dumps("a" * 100_000 + "!").encode()
        quickly(lambda schema=schema, text=text: schema.misfits(text))
    slow = made({"allOf": [{"pattern": f"^[ab]*a[ab]{{100}}c{n}"} for n in range(60)]})
    assert "can be tried on" in slow.misfits(json.dumps("ab" * 100_000).encode())[0].why
    quickly(lambda: refusal({"properties": {f"p{n}": {"pattern": f"^[a-z]{{9}}{n}$"} for n in range(4_000)}}))


def test_a_schema_that_multiplies_its_parts_is_refused() -> None:
    assert "same value" in refusal(doubling(40))
    assert places(made(doubling(4)), 1) == ["$"] * 16
    chain = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(3_000)}
    assert "too often" in refusal({"$defs": {**chain, "a3000": {}}, "$ref": "#/$defs/a0"})
    assert "cannot be used" in refusal(json.loads('{"not":' * 300 + "true" + "}" * 300))


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf"])
def test_a_schema_within_itself_can_be_checked_at_any_depth(keyword: str) -> None:
    twice = made({"$defs": {"n": {keyword: [{"type": "array", "items": SELF}] * 2}}, **SELF})
    for levels in (1, 3, 30, 200):
        quickly(lambda levels=levels: places(twice, nested(levels)))
    assert places(twice, nested(30)) == ["$"]
    assert twice.misfits(b"[" * 100_000 + b"]" * 100_000)
    tree = made({"$defs": {"n": {"properties": {"left": SELF, "right": SELF, "v": {"type": "number"}}}}, **SELF})
    assert places(tree, {"left": {"v": "x", "right": {"v": ""}}}) == ["$.left.v", "$.left.right.v"]
    assert places(made({"$ref": "#"}), 1) == []
    assert places(made({"$dynamicAnchor": "n", "items": {"$dynamicRef": "#n"}, "type": "array"}), [[1]]) == ["$[0][0]"]


def test_a_payload_too_large_for_its_schema_is_told_so_at_once() -> None:
    wide = made({"patternProperties": {f"a{n}x": {} for n in range(400)}})
    assert places(wide, {"k": 1}) == []
    misfits = wide.misfits(json.dumps({f"k{n}": n for n in range(60_000)}).encode())
    assert "can be checked on" in misfits[0].why
    numbers = made({"items": {"type": "string"}})
    quickly(lambda: places(numbers, [1] * 50_000))
    assert places(numbers, [1] * 50_000) == ["$"]


def test_numbers_beyond_a_float_are_checked_or_said_to_be_too_large() -> None:
    schema = made({"type": "integer", "maximum": 10})
    assert schema.misfits(b"12345678901234567890123")[0].place == "$"
    assert made({"type": "integer"}).misfits(b"12345678901234567890123") == []
    assert "cannot be checked" in schema.misfits(b"1e999")[0].why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
WORDS = st.sampled_from(
    ["type", "items", "properties", "$ref", "anyOf", "enum", "required", "pattern", "$id", "$anchor"]
)
SCHEMAS = st.recursive(
    JSON | st.sampled_from(["string", "#", "#/items", "a+", "x"]),
    lambda inner: st.dictionaries(WORDS, inner) | st.lists(inner),
    max_leaves=8,
)


@settings(max_examples=20, deadline=None)
@given(schema=SCHEMAS, payload=JSON)
def test_no_schema_and_no_payload_raises_anything_else(schema: object, payload: object) -> None:
    with suppress(Invalid):
        compiled = made(schema)
        assert all(one.place.startswith("$") for one in compiled.misfits(json.dumps(payload).encode()))
