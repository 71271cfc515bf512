from __future__ import annotations

import hashlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.catalog.partition_keys import MAX_KEY, check_path, partition_key
from relay.errors import Invalid
from relay.specs import is_storable

PATHS = (
    "$", "$.a", "$.a.b", "$[0]", "$[-1]", "$.*", "$[*]", "$..a", "$..*", "$[0:3]", "$['a','b']", "$..*..*..*..zzz",
    "$[0,0,0,0,0,0][0,0,0,0,0,0]..zzz",
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "c", "\0", "\ud800", "ä"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=300),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=30,
)


def key(path: str, document: object) -> str:
    return partition_key(path, json.dumps(document).encode())


def refusal(path: str) -> Invalid | None:
    try:
        check_path(path, field="fifoPartitionKey")
    except Invalid as refused:
        return refused
    return None


def is_lane_key(text: str) -> bool:
    return is_storable(text) and (len(text) <= MAX_KEY or len(text) == 160 + 1 + 64)


@given(st.sampled_from(PATHS), JSON, st.booleans())
def test_every_path_gives_every_document_a_key_that_fits(path: str, document: object, escaped: bool) -> None:
    payload = json.dumps(document, ensure_ascii=escaped).encode(errors="surrogatepass")
    found = partition_key(path, payload)
    assert is_lane_key(found)
    assert partition_key(path, payload) == found


@given(st.sampled_from(PATHS), st.binary(max_size=200))
def test_bytes_that_are_no_json_have_a_key_too(path: str, payload: bytes) -> None:
    assert is_lane_key(partition_key(path, payload))


@given(st.text(st.sampled_from("$.[]*'\"\\?@()!&|=<>:,0123ab -\n\u00e4\0"), max_size=40).map(lambda text: "$" + text))
def test_what_passes_the_check_can_be_evaluated_and_nothing_but_invalid_is_raised(path: str) -> None:
    refused = refusal(path)
    assert refused is None or (refused.field == "fifoPartitionKey" and "$.customer.id" in refused.message)
    assert is_lane_key(partition_key(path, b'{"a":[{"b":"c"}]}'))


@given(
    st.sampled_from(["a", "b"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200),
)
def test_a_string_is_its_own_key(name: str, value: str) -> None:
    assert key(f"$.{name}", {"a": "other", "b": "other", name: value}) == value


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        (None, {"a": 1}, ""),
        ("$.a", {"a": 17}, "17"),
        ("$.a", {"a": 12345678901234567890123}, "12345678901234567890123"),
        ("$.a", {"a": 1.5}, "1.5"),
        ("$.a", {"a": True}, "true"),
        ("$.a", {"a": None}, "null"),
        ("$.a", {"a": ["x", 1]}, '["x",1]'),
        ("$.a", {"a": {"b": "ä", "a": [{}]}}, '{"a":[{}],"b":"ä"}'),
        ("$.a", {"b": 1}, ""),
        ("$.a.b", {"a": "text"}, ""),
        ("$", "whole", "whole"),
        ("$.items[*].id", {"items": [{"no": 0}, {"id": "first"}, {"id": "second"}]}, "first"),
        ("$..id", {"a": {"id": "deep"}}, "deep"),
        ("$['a','b']", {"b": 2, "a": 1}, "1"),
        ("$[-1]", [1, 2, 3], "3"),
    ],
)
def test_the_key_is_the_first_value_that_the_path_finds(path: str | None, document: object, expected: str) -> None:
    assert partition_key(path, json.dumps(document).encode()) == expected


@pytest.mark.parametrize("payload", [b"", b"{", b"not json", b"\xff\xfe\xfd", b'{"a":' + b"[" * 100_000])
def test_a_payload_that_cannot_be_read_has_the_empty_key(payload: bytes) -> None:
    assert partition_key("$.a", payload) == ""


def test_a_long_key_is_cut_and_stays_different_from_its_neighbours() -> None:
    assert key("$.a", {"a": "x" * 200}) == "x" * 200
    long = "x" * 201
    assert key("$.a", {"a": long}) == f"{long[:160]}:{hashlib.sha256(long.encode()).hexdigest()}"
    assert key("$.a", {"a": long}) != key("$.a", {"a": long + "y"})


def test_characters_that_no_row_holds_are_replaced() -> None:
    assert partition_key("$.a", rb'{"a": "x\u0000y\ud800z"}') == "x\ufffdy\ufffdz"


@pytest.mark.parametrize(
    "path",
    [
        "$..*..*..*..*..*..*..zzz",
        "$" + ".a" + "[0,0,0,0,0,0,0,0,0,0]" * 8 + "..zzz",
        "$.*.*.*..zzz",
    ],
)
def test_a_path_that_would_look_at_too_much_finds_nothing_in_little_time(path: str) -> None:
    nested: list[object] = list(range(50_000))
    for _ in range(60):
        nested = [nested]
    payload = json.dumps({"a": nested}).encode()
    began = time.process_time()
    assert partition_key(path, payload) == ""
    assert time.process_time() - began < 1


def test_a_path_to_one_value_finds_it_in_a_document_of_any_size() -> None:
    assert key("$.items[49999].id", {"items": [{"id": n} for n in range(50_000)]}) == "49999"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("customer.id", "JSONPath"),
        ("", "JSONPath"),
        ("$.a[", "JSONPath"),
        ("$ .a ", "JSONPath"),
        ("$[99999999999999999999]", "JSONPath"),
        ("$[?foo(@)]", "JSONPath"),
        ("$[?@.a == 1e400]", "JSONPath"),
        ("$[?@.a == 1].b", "without filters"),
        ("$.x[0,?@.a]", "without filters"),
    ],
)
def test_a_path_that_cannot_be_used_is_refused_with_an_example(path: str, words: str) -> None:
    refused = refusal(path)
    assert refused is not None
    assert words in refused.message
    assert "like $.customer.id" in refused.message
