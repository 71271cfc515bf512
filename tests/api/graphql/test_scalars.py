from __future__ import annotations

from datetime import UTC, datetime

import pytest
from graphql import GraphQLError, parse_value

from api.graphql.scalars import literal_text, read_datetime, write_datetime


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ('{b: 1e2, a: [1, 12345678901234567890123, "é\\n", null, true, 1.50]}',
         '{"b":1e2,"a":[1,12345678901234567890123,"é\\n",null,true,1.50]}'),
        ('""" a "quoted" block """', '" a \\"quoted\\" block "'),
        ("{}", "{}"),
        ("-0.0", "-0.0"),
    ],
)  # fmt: skip
def test_a_literal_becomes_compact_json_in_the_order_written(literal: str, text: str) -> None:
    assert literal_text(parse_value(literal)).decode() == text


def test_variables_inside_a_literal_are_spliced_in() -> None:
    node = parse_value("{a: $raw, b: [$number], c: $missing}")
    assert literal_text(node, {"raw": b'{"x" : 1e2}', "number": 5}) == b'{"a":{"x" : 1e2},"b":[5],"c":null}'


def test_a_bare_word_is_no_json() -> None:
    with pytest.raises(GraphQLError):
        literal_text(parse_value("{a: RED}"))


def test_times_are_answered_in_utc_with_milliseconds() -> None:
    moment = read_datetime("2026-03-01T12:30:15.123456+02:00")
    assert write_datetime(moment) == "2026-03-01T10:30:15.123Z"
    assert read_datetime("2026-03-01T10:30:00Z") == datetime(2026, 3, 1, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        "2026-03-01T12:30:15",
        "2026-03-01",
        "yesterday",
        "",
        5,
        None,
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
    ],
)
def test_a_time_without_an_offset_is_refused(wrong: object) -> None:
    with pytest.raises(GraphQLError, match="offset"):
        read_datetime(wrong)
