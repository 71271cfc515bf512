from __future__ import annotations

from typing import Any

import msgspec
import pytest
from graphql import build_schema, parse_type, type_from_ast
from hypothesis import given
from hypothesis import strategies as st

from api.graphql.variables import NO_VARIABLES, read_variables, refusals
from relay.errors import Invalid

SCHEMA = build_schema(
    """
    scalar JSON
    input Item { name: String! payload: JSON priority: Int tags: [JSON!] inner: Item }
    type Query { a: Int }
    """
)
ODD = [b"1e2", b"12345678901234567890123", b'"\\u00e9"', b'{ "b" : 1,\n  "a":[1.0,  2.50] }', b"[ ]", b"true"]


def declared(**types: str) -> dict[str, Any]:
    found = {name: type_from_ast(SCHEMA, parse_type(text)) for name, text in types.items()}
    return {name: type_ for name, type_ in found.items() if type_ is not None}


def read(text: bytes, **types: str) -> dict[str, object]:
    return read_variables(msgspec.Raw(text), declared(**types))


@pytest.mark.parametrize("payload", ODD)
def test_a_json_variable_keeps_the_bytes_of_its_span(payload: bytes) -> None:
    assert read(b'{"p": ' + payload + b"\n}", p="JSON!") == {"p": payload}


@pytest.mark.parametrize("payload", ODD)
def test_a_json_field_keeps_its_bytes_at_any_depth(payload: bytes) -> None:
    text = b'{"i": [{"name": "a", "inner": {"name": "b", "payload": ' + payload + b' }, "tags": [' + payload + b"]}]}"
    assert read(text, i="[Item!]!") == {
        "i": [{"name": "a", "inner": {"name": "b", "payload": payload}, "tags": [payload]}]
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=json_values, indent=st.sampled_from([0, 2]))
def test_whatever_the_payload_its_text_survives(value: object, indent: int) -> None:
    payload = msgspec.json.format(msgspec.json.encode(value), indent=indent)
    expected = None if payload == b"null" else payload
    assert read(b'{"i":{"name":"n","payload":' + payload + b"}}", i="Item!") == {
        "i": {"name": "n", "payload": expected}
    }


def test_a_single_item_stands_for_a_list_of_one() -> None:
    assert read(b'{"i": {"name": "a", "payload": 1.0}}', i="[Item!]!") == {"i": {"name": "a", "payload": b"1.0"}}


def test_a_variable_that_was_not_declared_is_ignored() -> None:
    assert read(b'{"x": 1, "y": {"z": 2}}', x="Int") == {"x": 1}


def test_no_variables_are_none() -> None:
    assert read_variables(NO_VARIABLES, declared(x="Int")) == {}
    assert read(b"null", x="Int") == {}


def test_variables_that_are_no_object_are_refused() -> None:
    with pytest.raises(Invalid) as refusal:
        read(b"[1]", x="Int")
    assert refusal.value.field == "variables"


def test_an_unknown_field_is_named_by_its_path() -> None:
    with pytest.raises(Invalid) as refusal:
        read(b'{"i": [{"name": "a"}, {"name": "b", "inner": {"colour": "red"}}]}', i="[Item!]!")
    assert refusal.value.field == "1.inner.colour"
    assert "colour" in refusal.value.message


def test_values_of_the_wrong_type_are_named_by_their_path() -> None:
    types = declared(i="Item!", n="Int!")
    values = {"i": {"name": "a", "priority": "high", "inner": {"name": 5}}}
    assert [refusal.field for refusal in refusals(values, types)] == ["priority", "inner.name", "n"]


@pytest.mark.parametrize("inner", [b"{}", b'{"name": null}'])
def test_a_field_that_lacks_is_named_by_its_path(inner: bytes) -> None:
    with pytest.raises(Invalid) as refusal:
        read(b'{"i": {"name": "a", "inner": ' + inner + b"}}", i="Item!")
    assert refusal.value.field == "inner.name"


def test_a_null_payload_is_no_value() -> None:
    assert read(b'{"p": null}', p="JSON!") == {"p": None}
