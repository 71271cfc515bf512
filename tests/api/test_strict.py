"""JSON that two readers could take for different things is refused, and the place is named."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bodies import decode
from relay.db import Conn
from relay.errors import Invalid
from relay.strict_json import MAX_DEPTH, check_strict
from tests.api.conftest import Api

_anything = msgspec.json.Decoder(Any)
AMBIGUOUS: list[tuple[bytes, str | None]] = [
    (b'{"a":1,"a":1}', "a"),
    (b'{"a":{"b":[{"c":1},{"c":1,"d":2,"c":3}]}}', "a.b.1.c"),
    (b'{"a":"\\u0022:","b" :1,"b":2}', "b"),
    (b'{"a":1,"\\u0061":2}', "a"),
    (b'{"a":":::","b":{"a":":","a":1}}', "b.a"),
    (b'{"a":1E999}', "a"),
    (b'{"a":[-1e400]}', "a.0"),
    (b'{"a":' + b"9" * 5000 + b"}", "a"),
    (b'{"a":' + b"9" * 5000 + b".5}", "a"),
    (b'{"a":"\\ud800"}', "a"),
    (b'{"a":"\\ude00\\ud83d"}', "a"),
    (b'{"a":{"\\ud800":1}}', "a"),
    (b'{"a":NaN}', None),
    (b'{"a":[Infinity,-Infinity]}', None),
    (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), None),
    (b'[{"a":' * 65 + b'"]]"' + b"}]" * 65, None),
]  # fmt: skip
PLAIN = [
    b"1e2", b"12345678901234567890123", b"9" * 4300, b"-0", b'"\\ud83d\\ude00"', b'"\\u0022:"',
    b'{"a":{"a":":"}, "b" : [1.0]}',
    b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, b"[" + b"[]," * 1000 + b"{}]",
    b'"[[[' + b"{" * 200 + b'"', b'"\\"[[["', b'["\\\\", "{"]',
]  # fmt: skip


@pytest.mark.parametrize(("body", "field"), AMBIGUOUS)
def test_what_is_ambiguous_is_refused_with_its_place(body: bytes, field: str | None) -> None:
    with pytest.raises(Invalid) as refusal:
        decode(body, _anything)
    assert refusal.value.field == field


@pytest.mark.parametrize("body", PLAIN)
def test_what_is_plain_passes(body: bytes) -> None:
    check_strict(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(value=_json, spaced=st.booleans(), ascii=st.booleans())
def test_whatever_a_library_writes_passes(value: object, spaced: bool, ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii, indent=2 if spaced else None)
    check_strict(text.encode())


@given(
    members=st.lists(st.tuples(st.text(max_size=2), _json), min_size=1, max_size=5),
    at=st.integers(0, 4),
    ascii=st.booleans(),
)
def test_no_string_hides_a_name_that_stands_twice(members: list[tuple[str, object]], at: int, ascii: bool) -> None:
    members = [*members, (members[at % len(members)][0], ':"\\u0022:')]
    text = (
        "{"
        + ",".join(f"{json.dumps(k, ensure_ascii=ascii)}:{json.dumps(v, ensure_ascii=ascii)}" for k, v in members)
        + "}"
    )
    with pytest.raises(Invalid, match="twice"):
        check_strict(text.encode())


async def test_both_apis_refuse_it_wherever_it_stands(api: Api, conn: Conn) -> None:
    one = b'{"eventType":"a.b","payload":{"a":1,"a":2}}'
    for path, body, field in (
        ("/api/v1/events", one, "payload.a"),
        ("/api/v1/events/batch", b'{"events":[' + one + b"]}", "events.0.payload.a"),
        ("/api/v1/events", b'{"eventType":"a.b","eventType":"a.c","payload":1}', "eventType"),
    ):
        answer = await api.post(path, body)
        assert (answer.status_code, answer.json["error"]["code"], answer.json["error"]["field"]) == (
            400,
            "INVALID",
            field,
        )
    for body, field in (
        (b'{"query":"{ __typename }","query":"{ a }"}', "query"),
        (b'{"query":"{ __typename }","variables":{"i":{"p":[{"a":1,"a":2}]}}}', "variables.i.p.0.a"),
    ):
        answer = await api.post("/graphql", body)
        assert (answer.status_code, answer.json["errors"][0]["extensions"]["field"]) == (400, field)
    for literal in ("1E999", "{a: 1, a: 2}", "[" + "9" * 4301 + "]"):
        query = f'mutation {{ sendEvent(input: {{eventType: "a.b", payload: {literal}}}) {{ id }} }}'
        answer = await api.post("/graphql", {"query": query})
        assert answer.json["errors"][0]["extensions"]["code"] == "INVALID", literal
    row = await (await conn.execute("SELECT count(*) FROM events")).fetchone()
    assert row == (0,)
