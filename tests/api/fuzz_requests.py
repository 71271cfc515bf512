"""Requests that a client could send by mistake or on purpose: half right, half wrong, made from the schema itself."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from api.graphql.schema import core_schema


@dataclass(frozen=True)
class Sent:
    """One request."""

    method: str
    path: str
    body: bytes
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])


ODD_TEXTS = [
    "", "a.b", "*", "0", "null", "\0", "\ud800", "é", "\u202e", "x" * 300, "$.a[?@.b]", "$..*", "http://127.0.0.1:9/a",
    "http://169.254.169.254/", "ftp://x", "http://[::1", "http://\u2460.example/", "https://user:pw@h/", "whsec_AAAA",
    "*/5 * * * *",
    "2030-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59", "2030-02-30T00:00:00Z",
    "'; DROP TABLE events; --", "../../etc/passwd", "{{7*7}}", "%00", "00000000-0000-0000-0000-000000000000", "QUEUED", "id",
]  # fmt: skip
_texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
_numbers = st.sampled_from(
    [0, 1, -1, 5, 100, 101, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63, 10**400, 0.5, -0.0, 1e308]
)
_scalars = st.none() | st.booleans() | _numbers | _texts
_values: st.SearchStrategy[Any] = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=6
)
_FIELDS = ("eventType", "payload", "destination", "headers", "priority", "deliverAt", "delaySeconds", "contentType", "subject",
           "idempotencyKey", "maxAttempts", "colour", "self", "events")  # fmt: skip
_bodies = st.dictionaries(st.sampled_from(_FIELDS), _values, max_size=6) | _values
_likely = st.fixed_dictionaries(
    {"eventType": st.sampled_from(["a.b", "order.paid"]) | _texts, "payload": _values},
    optional=dict.fromkeys(_FIELDS[2:-1], _values),
)
_PATHS = ["/api/v1/events", "/api/v1/events", "/api/v1/events/batch", "/graphql", "/",
    "/graphql/schema", "/health/ready", "/metrics",
          "/dramatiq", "/dramatiq/{q}", "/playground", "/playground/assets/x",
    "/nothing", "/api/v1/events/", "/%00", "/logs/stream"]  # fmt: skip
_QUERIES = [
    "",
    "",
    "",
    "page=0",
    "page=x&part=y",
    "part=failed&page=200",
    "colour=1",
    "%ff=%ff",
    "a=" + "b" * 500,
    "v=1",
]
_HEADERS = [{}, {}, {}, {"Idempotency-Key": "k"}, {"Idempotency-Key": "x" * 300}, {"X-Request-Id": "a b"},
    {"Content-Type": "text/xml"},
            {"traceparent": "00-1-1-01"}, {"X-Relay-Client": "x"}, {"Authorization": "Basic ///"}, {"Origin": "http://evil.example"},

            {"Content-Type": "application/x-www-form-urlencoded"}, {"Last-Event-ID": "-1"},
    {"Accept-Encoding": "gzip;q=x"}]  # fmt: skip

_SPOILS = [b"", b'"', b"{", b"}", b"[", b",", b"\xff", b"\\u0000", b"\\ud800", b"1e999", b"..."]


@st.composite
def rest(draw: DrawFn) -> Sent:
    """A request to any address but a stream that would go on."""
    path = draw(st.sampled_from(_PATHS))
    body = draw(st.sampled_from([_likely, _likely, _bodies, st.binary(max_size=60)]).flatmap(lambda kind: kind))
    if path.endswith("batch") and draw(st.booleans()):
        body = {"events": [body] * draw(st.integers(0, 3))}
    methods = ["POST"] * 9 if path.startswith("/api") else ["GET"] * 6
    method = draw(st.sampled_from([*methods, "GET", "POST", "PUT", "HEAD"]))
    query = draw(st.sampled_from(_QUERIES))
    if path == "/logs/stream":
        query = "colour=1"
    return Sent(method, path, _spoiled(draw, _text(body)), query, draw(st.sampled_from(_HEADERS)))


def _text(body: object) -> bytes:
    try:
        return (
            body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        )
    except (TypeError, ValueError):
        return b"{}"


def _spoiled(draw: DrawFn, text: bytes) -> bytes:
    """Once in a while with something cut out or put in."""
    if draw(st.integers(0, 5)) or not text:
        return text
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.sampled_from(_SPOILS)) + text[at + draw(st.integers(0, 4)) :]


class Documents:
    """Makes GraphQL requests; `ids` are of things that there are."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = [*ids, "00000000-0000-7000-8000-000000000009", "x", ""]

    def requests(self) -> st.SearchStrategy[Sent]:
        """A request with one to three root fields."""

        @st.composite
        def made(draw: DrawFn) -> Sent:
            is_mutation = draw(st.booleans())
            root = core_schema.mutation_type if is_mutation else core_schema.query_type
            assert root is not None
            variables: dict[str, tuple[str, Any]] = {}
            fields = " ".join(self._field(draw, root, variables, depth=0) for _ in range(draw(st.integers(1, 2))))
            declared = ", ".join(f"${name}: {type_}" for name, (type_, _) in variables.items())
            text = f"{'mutation' if is_mutation else 'query'}{f'({declared})' if declared else ''} {{ {fields} }}"
            body = {"query": text, "variables": {name: value for name, (_, value) in variables.items()}}
            if not draw(st.integers(0, 9)):
                body["query"] = _spoiled(draw, text.encode()).decode("utf-8", "replace")
            return Sent("POST", "/graphql", _spoiled(draw, _text(body)))

        return made()

    def _field(self, draw: DrawFn, parent: GraphQLObjectType, variables: dict[str, Any], *, depth: int) -> str:
        name = draw(st.sampled_from(sorted(parent.fields)))
        field = parent.fields[name]
        arguments: list[str] = []
        for argument, definition in field.args.items():
            if is_required_argument(definition) or draw(st.integers(0, 2)) == 0:
                variable = f"v{len(variables)}"
                variables[variable] = str(definition.type), self._value(draw, definition.type, depth=0)
                arguments.append(f"{argument}: ${variable}")
        given = f"({', '.join(arguments)})" if arguments else ""
        alias = f"{draw(st.sampled_from(string.ascii_lowercase))}{len(variables)}: " if draw(st.booleans()) else ""
        child = get_named_type(field.type)
        if is_leaf_type(child):
            return f"{alias}{name}{given}"
        if not isinstance(child, GraphQLObjectType) or depth > 3:
            return f"{alias}{name}{given} {{ __typename }}"
        inner = " ".join(self._field(draw, child, variables, depth=depth + 1) for _ in range(draw(st.integers(1, 3))))
        return f"{alias}{name}{given} {{ {inner} }}"

    def _value(self, draw: DrawFn, type_: Any, *, depth: int) -> Any:
        if not draw(st.integers(0, 11)):
            return draw(_values)
        if is_non_null_type(type_):
            return self._value(draw, type_.of_type, depth=depth)
        if is_list_type(type_):
            return [self._value(draw, type_.of_type, depth=depth) for _ in range(draw(st.integers(0, 2)))]
        if isinstance(type_, GraphQLInputObjectType):
            return {
                name: self._value(draw, member.type, depth=depth + 1)
                for name, member in type_.fields.items()
                if is_required_input_field(member) or draw(st.integers(0, 3)) == 0
            }
        if isinstance(type_, GraphQLEnumType):
            return draw(st.sampled_from(sorted(type_.values)))
        return draw(self._leaf(str(type_)))

    def _leaf(self, name: str) -> st.SearchStrategy[Any]:
        kinds: dict[str, st.SearchStrategy[Any]] = {
            "ID": st.sampled_from(self._ids),
            "Int": st.sampled_from([0, 1, 2, 5, 10, 100, 101, -1, 2**31 - 1]),
            "SafeInt": st.sampled_from([0, 1, 2**53 - 1]),
            "Float": st.sampled_from([0.0, 0.5, 1.0, 1e308, -1.0]),
            "Boolean": st.booleans(),
            "DateTime": st.sampled_from(ODD_TEXTS[20:24]) | st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
            "JSON": _values,
        }
        return kinds.get(name, _texts)
