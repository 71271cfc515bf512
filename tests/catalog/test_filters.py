"""Filters: what each operator says of each kind of value, what is refused, and that nothing takes long or raises."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from relay.catalog.filters import MAX_FILTER_BYTES, Failing, Seen, check_filter, compile_filter
from relay.errors import Invalid

PAYLOAD = b"""{"amount": 12345678901234567890123, "price": 1.10, "zero": 0, "no": false, "text": "Order-17", "nothing": null,
    "tags": ["new", "eu", 1], "items": [{"sku": "a", "q": 1.0}, {"sku": "b", "q": 2}], "to": {"city": "Bonn", "zip": "5"}}"""
HEADERS = {"X-Country": "DE", "x-retry": "3"}
LONG = {"path": "$..*", "eq": 1}


def seen(payload: bytes = PAYLOAD) -> Seen:
    return Seen(payload, HEADERS, "order.paid.eu")


def failing(filter: object, payload: bytes = PAYLOAD) -> Failing | None:
    return compile_filter(json.dumps(filter)).failing(seen(payload))


def refusal(text: bytes | str) -> Invalid:
    with pytest.raises(Invalid) as refused:
        check_filter(text, field="filter")
    assert refused.value.field == "filter"
    return refused.value


@pytest.mark.parametrize(
    ("test", "passes"),
    [
        # Numbers are compared by what they are worth, however they are written and however long they are.
        ({"path": "$.price", "eq": 1.1}, True),
        ({"path": "$.items[0].q", "eq": 1}, True),
        ({"path": "$.zero", "eq": -0.0}, True),
        ({"path": "$.amount", "eq": 12345678901234567890123}, True),
        ({"path": "$.amount", "eq": 12345678901234567890124}, False),
        ({"path": "$.amount", "gt": 12345678901234567890122}, True),
        # No value is turned into one of another type.
        ({"path": "$.zero", "eq": "0"}, False),
        ({"path": "$.zero", "eq": False}, False),
        ({"path": "$.no", "eq": 0}, False),
        ({"path": "$.no", "in": [0, "false", None]}, False),
        ({"path": "$.to.zip", "gt": 4}, False),
        ({"path": "$.to.zip", "gt": "4"}, True),
        ({"path": "$.no", "lt": 1}, False),
        ({"path": "$.nothing", "lte": 0}, False),
        # Null is a value; what is missing is none.
        ({"path": "$.nothing", "eq": None}, True),
        ({"path": "$.nothing", "exists": True}, True),
        ({"path": "$.missing", "eq": None}, False),
        ({"path": "$.missing", "exists": False}, True),
        ({"path": "$.missing", "ne": 1}, True),
        ({"path": "$.missing", "nin": [1]}, True),
        ({"path": "$.missing.deeper", "gt": 1}, False),
        ({"path": "$.text.length", "exists": True}, False),
        # Of several values one is enough; for ne and nin one spoils it.
        ({"path": "$.items[*].sku", "eq": "b"}, True),
        ({"path": "$.items[*].sku", "ne": "b"}, False),
        ({"path": "$.items[*].q", "gt": 1}, True),
        ({"path": "$..sku", "in": ["x", "b"]}, True),
        ({"path": "$.items[-1:].sku", "eq": "b"}, True),
        ({"path": "$.items[5].sku", "exists": True}, False),
        ({"path": "$", "exists": True}, True),
        # A path's own filters speak of one element at a time.
        ({"path": "$.items[?@.sku == 'b' && @.q > 1]", "exists": True}, True),
        ({"path": "$.items[?@.sku == 'a' && @.q > 1]", "exists": True}, False),
        ({"path": "$.items[?@.q == 1.0].sku", "eq": "a"}, True),
        ({"path": "$.items[?@.q == '1']", "exists": True}, False),
        ({"path": "$[?@ == 12345678901234567890123]", "exists": True}, True),
        ({"path": "$[?@ == 12345678901234567890124]", "exists": True}, False),
        ({"path": "$[?match(@, 'Order-[0-9]+')]", "startsWith": "Order"}, True),
        ({"path": "$[?match(@, 'Order')]", "exists": True}, False),
        ({"path": "$[?search(@, 'd.r')]", "exists": True}, True),
        ({"path": "$[?search(@, '(')]", "exists": True}, False),
        ({"path": "$[?search('abc', $.to.city)]", "exists": True}, False),
        ({"path": "$[?length(@) == 3 && count(@.*) == 3]", "exists": True}, True),
        ({"path": "$[?value(@..sku) == 'a']", "exists": True}, False),
        ({"path": "$[?@.none == $.none]", "exists": True}, True),
        # Whole arrays and objects are equal in all they hold; the order of names does not count.
        ({"path": "$.to", "eq": {"zip": "5", "city": "Bonn"}}, True),
        ({"path": "$.to", "eq": {"zip": 5, "city": "Bonn"}}, False),
        ({"path": "$.tags", "eq": ["new", "eu", 1.0]}, True),
        ({"path": "$.tags", "eq": ["eu", "new", 1]}, False),
        ({"path": "$.tags", "in": [["new"], ["new", "eu", 1]]}, True),
        # Strings by code points, case counts.
        ({"path": "$.text", "contains": "der-"}, True),
        ({"path": "$.text", "contains": "order"}, False),
        ({"path": "$.tags", "contains": "eu"}, True),
        ({"path": "$.tags", "contains": "e"}, False),
        ({"path": "$.tags", "contains": True}, False),
        ({"path": "$.to", "contains": "city"}, False),
        ({"path": "$.text", "startsWith": "Order"}, True),
        ({"path": "$.tags", "startsWith": "new"}, False),
        ({"path": "$.text", "endsWith": "-17"}, True),
        ({"path": "$.text", "regex": "^Order-\\d+$"}, True),
        ({"path": "$.text", "regex": "r-1"}, True),
        ({"path": "$.text", "regex": "(?i)^order"}, True),
        ({"path": "$.zero", "regex": "0"}, False),
        # Headers are strings, whatever the case of their names; the type is one, too.
        ({"header": "x-country", "eq": "DE"}, True),
        ({"header": "X-Retry", "gt": 2}, False),
        ({"header": "X-Retry", "gte": "3"}, True),
        ({"header": "X-Other", "exists": False}, True),
        ({"field": "type", "startsWith": "order."}, True),
        ({"field": "type", "in": ["order.paid"]}, False),
        # Joined.
        ({"and": [{"path": "$.zero", "eq": 0}, {"path": "$.no", "eq": True}]}, False),
        ({"or": [{"path": "$.zero", "eq": 1}, {"path": "$.no", "eq": False}]}, True),
        ({"not": {"path": "$.missing", "gt": 1}}, True),
        ({"not": {"not": {"path": "$.zero", "eq": 0}}}, True),
    ],
)  # fmt: skip
def test_a_filter_passes_what_it_says(test: dict[str, Any], passes: bool) -> None:
    assert (failing(test) is None) is passes


@pytest.mark.parametrize(
    ("filter", "clause", "found"),
    [
        ({"path": "$.zero", "gt": 5}, {"path": "$.zero", "gt": 5}, 0),
        ({"path": "$.missing", "gt": 5}, {"path": "$.missing", "gt": 5}, None),
        (
            {"and": [{"path": "$.zero", "eq": 0}, {"header": "X-Country", "eq": "FR"}, {"path": "$.a", "eq": 1}]},
            {"header": "X-Country", "eq": "FR"},
            "DE",
        ),
        (
            {"or": [{"path": "$.items[*].sku", "eq": "c"}, {"path": "$.missing", "eq": 1}]},
            {"or": [{"path": "$.items[*].sku", "eq": "c"}, {"path": "$.missing", "eq": 1}]},
            [["a", "b"], None],
        ),
        ({"not": {"path": "$.to", "exists": True}}, {"not": {"path": "$.to", "exists": True}}, {"city": "Bonn", "zip": "5"}),
    ],
)  # fmt: skip
def test_who_is_refused_sees_the_first_clause_that_failed_and_what_was_there(
    filter: object, clause: object, found: object
) -> None:
    refused = failing(filter)
    assert refused is not None
    assert refused.error is None
    assert json.loads(refused.clause) == clause
    assert (None if refused.found is None else json.loads(refused.found)) == found


def test_numbers_of_a_refusal_keep_their_digits() -> None:
    refused = compile_filter('{"path": "$.price", "eq": 1.100000000000000000000000000001}').failing(seen())
    assert refused == Failing(b'{"path":"$.price","eq":1.100000000000000000000000000001}', b"1.10")


def test_what_was_there_can_be_shown_from_a_blanked_payload() -> None:
    blanked = Seen(PAYLOAD.replace(b"Bonn", b"[redacted]"), HEADERS, "order.paid.eu")
    refused = compile_filter('{"path": "$.to.city", "eq": "Kiel"}').failing(seen(), shown_as=blanked)
    assert refused is not None
    assert refused.found == b'"[redacted]"'


def test_what_was_there_is_cut_to_what_can_be_read() -> None:
    deep: object = "x" * 1_000
    for _ in range(50):
        deep = {"a": deep, "b": list(range(1_000)), "y" * 1_000: 1}
    refused = failing({"path": "$.a", "eq": 1}, json.dumps({"a": deep}).encode())
    assert refused is not None
    assert refused.found is not None
    assert len(refused.found) < 3_000
    json.loads(refused.found)


@pytest.mark.parametrize("payload", [b"", b"no json", b"\xff\xfe", b'"\\ud800"', b"[" * 100_000, b"1" * 5_000, b"{"])
def test_a_payload_that_cannot_be_read_has_no_values(payload: bytes) -> None:
    assert failing({"path": "$", "exists": False}, payload) is None
    assert failing({"field": "type", "eq": "order.paid.eu"}, payload) is None


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        ({}, "startsWith, endsWith, exists, regex"),
        ([], "path, header, field"),
        (1, "path, header, field"),
        ({"path": "$.a"}, "with one of eq"),
        ({"eq": 1}, "with one of eq"),
        ({"path": "$.a", "gt": 1, "lt": 2}, "with one of eq"),
        ({"path": "$.a", "header": "b", "eq": 1}, "one of path"),
        ({"path": "$.a", "eq": 1, "more": 1}, "one of path"),
        ({"path": "$.a", "like": 1}, "with one of eq"),
        ({"and": [{"path": "$.a", "eq": 1}], "or": []}, "nothing beside and"),
        ({"and": []}, "filter.and must be a list"),
        ({"or": {"path": "$.a", "eq": 1}}, "filter.or must be a list"),
        ({"not": []}, "filter.not must be"),
        ({"and": [{"path": "$.a", "eq": 1}, {"or": [{"path": "$.b", "gt": None}]}]}, "filter.and.1.or.0.gt must be a number"),
        ({"path": "$.a", "gt": True}, "a number or a string"),
        ({"path": "$.a", "in": []}, "1 to 1000"),
        ({"path": "$.a", "in": "abc"}, "1 to 1000"),
        ({"path": "$.a", "nin": list(range(1_001))}, "1 to 1000"),
        ({"path": "$.a", "startsWith": 1}, "filter.startsWith must be a string"),
        ({"path": "$.a", "exists": 1}, "true or false"),
        ({"path": "$.a", "regex": "("}, "RE2"),
        ({"path": "$.a", "regex": "(?=a)"}, "RE2"),
        ({"path": "$.a", "regex": "((a{99}){99}){99}"}, "RE2"),
        ({"path": "$.a", "regex": "a" * 501}, "500 characters"),
        ({"path": "a", "eq": 1}, "JSONPath"),
        ({"path": "$." + "a" * 255, "eq": 1}, "255 characters"),
        ({"path": "$[?@.a==1e400]", "eq": 1}, "JSONPath"),
        ({"path": "$[?@.a==1.5e99999999999999999999]", "eq": 1}, "JSONPath"),
        ({"path": "$[?foo(@)]", "eq": 1}, "JSONPath"),
        ({"path": "$[?" + "(" * 110 + "@" + ")" * 110 + "]", "like": 1}, "with one of eq"),
        ({"path": 1, "eq": 1}, "filter.path must be a string"),
        ({"header": "", "eq": 1}, "header's name"),
        ({"field": "id", "eq": 1}, '"type"'),
        ({"and": [{"path": "$.a", "eq": 1}] * 100}, "100 clauses"),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused_with_its_place_and_what_is_allowed(filter: object, words: str) -> None:
    assert words in refusal(json.dumps(filter)).message


def test_clauses_nest_ten_deep_and_no_deeper() -> None:
    filter: object = {"path": "$.zero", "eq": 0}
    for _ in range(10):
        filter = {"not": filter}
    check_filter(json.dumps(filter), field="filter")
    assert failing(filter) is None
    assert "deeper than 10" in refusal(json.dumps({"and": [filter]})).message


def test_a_value_to_compare_with_nests_ten_deep_and_no_deeper() -> None:
    value: object = 1
    for _ in range(10):
        value = [value]
    check_filter(json.dumps({"path": "$.a", "eq": value}), field="filter")
    for operator in ("eq", "ne", "contains"):
        assert "deeper than 10" in refusal(json.dumps({"path": "$.a", operator: [value]})).message


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", '{"path": "$.a", "eq": "\\ud800"}', "[" * 10_000, '"\ud800"'])
def test_a_text_that_is_no_json_is_refused(text: bytes | str) -> None:
    assert "must be JSON" in refusal(text).message


def test_a_large_filter_is_refused() -> None:
    assert f"{MAX_FILTER_BYTES} bytes" in refusal(json.dumps({"path": "$.a", "eq": "x" * MAX_FILTER_BYTES})).message


@pytest.mark.parametrize(
    "filter",
    [
        LONG,
        {"not": LONG},
        {"path": "$..*..*..*..zzz", "eq": 1},
        {"path": "$.list[?value($.list[?@ == 5]) == @]", "eq": 1},
        {"path": "$..[?@ == $.a]", "exists": True},
        {"path": "$.list[?$..[?$..[?$..x]]]", "exists": True},
        {"path": "$[?search(@, '.*a(a|b){200}c')]", "exists": True},
        {"path": "$.patterns[?search($.long, @)]", "exists": True},
        {"path": "$.long", "regex": ".*a(a|b){200}c"},
        {"path": "$.list", "contains": 1},
        {"and": [{"not": {"path": f"$.list[{n}:]", "eq": 1}} for n in range(49)]},
    ],
)
def test_a_filter_that_would_look_at_too_much_lets_nothing_through_in_little_time(filter: object) -> None:
    nested: list[object] = list(range(2, 20_000))
    for _ in range(60):
        nested = [nested]
    document = {
        "a": nested,
        "long": "ab" * 100_000,
        "list": list(range(2, 20_000)),
        "patterns": [f"(a|b)*{n}c" for n in range(2_000)],
    }
    payload = json.dumps(document).encode()
    began = time.process_time()
    refused = failing(filter, payload)
    assert time.process_time() - began < 1
    assert refused is not None
    assert refused.error is not None
    assert "10000 values" in refused.error


def test_what_a_filter_says_does_not_hang_on_who_asked_before() -> None:
    payload = json.dumps({"list": list(range(4_000))}).encode()
    filter = compile_filter('{"and": [{"path": "$.list[*]", "lt": 1}, {"path": "$.list[*]", "lt": 1}]}')
    costly = compile_filter('{"and": [{"path": "$.list[*]", "eq": 3999}, {"path": "$.list[*]", "eq": 3999}]}')
    event = Seen(payload, None, None)
    for _ in range(3):
        assert filter.failing(event) is None
        refused = costly.failing(event)
        assert refused is not None
        assert refused.error
