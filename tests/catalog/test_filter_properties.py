"""Subscriptions and filters against a slow, plain reference that shares nothing with them; and no input raises."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.catalog.filters import Failing, Seen, Verdict, check_filter, compile_filter
from relay.catalog.json_paths import Budget, Path
from relay.catalog.json_values import read
from relay.catalog.subscriptions import Matcher, check_patterns
from relay.errors import Invalid
from tests.catalog import filter_reference as reference
from tests.catalog.filter_reference import Segment, Selector

SEGMENTS = st.sampled_from(["a", "b", "relay", "order", "x-1"])
TYPES = st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.one_of(TYPES, TYPES.map(lambda name: f"{name}.*"), st.just("*"))

NAMES = st.sampled_from(["a", "b", "0", "ä b", "'"])
TEXTS = st.text(st.sampled_from("ab1 ä\U0001f600"), max_size=4)
#: As they stand in JSON: one number has many spellings, and neighbours no double tells apart.
NUMBERS = st.sampled_from(
    [
        "0",
        "-0",
        "0.0",
        "1",
        "1.0",
        "10e-1",
        "1e0",
        "2",
        "-1",
        "0.1",
        "0.10",
        "1e-400",
        "9007199254740992",
        "9007199254740993",
        "123456789012345678901234567890",
        "1.00000000000000000000001",
        "1e300",
        "1E2",
        "100",
    ]
)
SCALARS = st.one_of(NUMBERS, st.sampled_from(["null", "true", "false"]), TEXTS.map(json.dumps))


def _array(items: list[str]) -> str:
    return f"[{','.join(items)}]"


def _object(members: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in members.items()) + "}"


DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4).map(_array) | st.dictionaries(NAMES, inner, max_size=4).map(_object),
    max_leaves=12,
)

INDEXES = st.integers(-3, 3)
SLICES = st.builds(slice, st.none() | INDEXES, st.none() | INDEXES, st.none() | INDEXES)
SELECTORS: st.SearchStrategy[Selector] = st.one_of(NAMES, INDEXES, SLICES, st.none())
PLAIN: st.SearchStrategy[Segment] = (NAMES | INDEXES).map(lambda selector: (False, [selector]))
ANY: st.SearchStrategy[Segment] = st.tuples(st.booleans(), st.lists(SELECTORS, min_size=1, max_size=2))
PATHS = st.one_of(st.lists(PLAIN, max_size=3), st.lists(ANY, max_size=3))


def written(path: list[Segment]) -> str:
    """The path as text."""
    return "$" + "".join(
        (".." if descends else "") + f"[{','.join(map(_selector, selectors))}]" for descends, selectors in path
    )


def _selector(selector: Selector) -> str:
    match selector:
        case None:
            return "*"
        case str():
            return "'" + selector.replace("'", "\\'") + "'"
        case slice():
            return ":".join("" if one is None else str(one) for one in (selector.start, selector.stop, selector.step))
        case _:
            return str(selector)


REGEXES = st.sampled_from(["", "^a", "b$", "^$", "a.b", "[ab]+1", "a|b", "^(ab)*$", "ä", "(?i)^A", "\\d", "^.{2}$"])
TESTS: st.SearchStrategy[tuple[str, str]] = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne", "contains"]), DOCUMENTS),
    st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), NUMBERS | TEXTS.map(json.dumps)),
    st.tuples(st.sampled_from(["in", "nin"]), st.lists(DOCUMENTS, min_size=1, max_size=4).map(_array)),
    st.tuples(st.sampled_from(["startsWith", "endsWith"]), TEXTS.map(json.dumps)),
    st.tuples(st.just("exists"), st.sampled_from(["true", "false"])),
    st.tuples(st.just("regex"), REGEXES.map(json.dumps)),
)
HEADERS = st.dictionaries(st.sampled_from(["A", "b", "X-Y"]), TEXTS, max_size=2)
#: A filter as JSON text, and what the paths in it mean.
Written = tuple[str, dict[str, list[Segment]]]


def _path_test(path: list[Segment], test: tuple[str, str]) -> Written:
    return _object({"path": json.dumps(written(path)), test[0]: test[1]}), {written(path): path}


def _other_test(subject: tuple[str, str], test: tuple[str, str]) -> Written:
    return _object({subject[0]: json.dumps(subject[1]), test[0]: test[1]}), {}


def _joined(word: str, parts: list[Written]) -> Written:
    paths: dict[str, list[Segment]] = {}
    for _, own in parts:
        paths |= own
    return _object({word: _array([text for text, _ in parts])}), paths


FILTERS: st.SearchStrategy[Written] = st.recursive(
    st.builds(_path_test, PATHS, TESTS)
    | st.builds(
        _other_test, st.sampled_from([("header", "a"), ("header", "x-y"), ("field", "type")]), TESTS
    ),
    lambda inner: st.builds(_joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3))
    | inner.map(lambda one: (_object({"not": one[0]}), one[1])),
    max_leaves=6,
)  # fmt: skip


@given(st.lists(st.lists(PATTERNS, min_size=1, max_size=5), max_size=12), TYPES)
@settings(max_examples=100, deadline=None)
def test_the_matching_set_is_that_of_the_reference(subscribed: list[list[str]], event_type: str) -> None:
    for patterns in subscribed:
        check_patterns(patterns, field="eventTypes")
    expected = [i for i, patterns in enumerate(subscribed) if reference.is_subscribed(patterns, event_type)]
    assert sorted(Matcher(enumerate(subscribed)).match(event_type)) == expected


@given(PATHS, DOCUMENTS)
@settings(max_examples=100, deadline=None)
def test_a_path_finds_what_the_reference_finds(path: list[Segment], document: str) -> None:
    found = Path(written(path)).values(read(document), Budget(10_000))
    expected = reference.select(path, reference.read(document))
    assert len(found) == len(expected)
    assert sorted(map(_spelled, found)) == sorted(map(_spelled, expected))


def _spelled(value: Any) -> str:
    """Values of both readers in one spelling."""
    if isinstance(value, dict):
        return f"{{{sorted((name, _spelled(one)) for name, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_spelled, value))}]"
    if value is None or isinstance(value, (bool, str)):
        return json.dumps(value)
    return str(reference.Fraction(value))


@given(FILTERS, DOCUMENTS, HEADERS, TYPES)
@settings(max_examples=150, deadline=None)
@example(('{"path": "$", "eq": 1.0}', {"$": []}), "1", {}, "a")
@example(('{"path": "$", "eq": 9007199254740993}', {"$": []}), "9007199254740992", {}, "a")
@example(('{"not": {"path": "$[*]", "ne": true}}', {"$[*]": [(False, [None])]}), "[1, true]", {}, "a")
def test_a_filter_lets_through_what_the_reference_lets_through(
    filter: Written, document: str, headers: dict[str, str], event_type: str
) -> None:
    text, paths = filter
    check_filter(text, field="filter")
    expected = reference.passes(reference.read(text), paths, reference.read(document), headers, event_type)
    event = Seen(document.encode(), headers, event_type)
    compiled = compile_filter(text)
    refused = compiled.failing(event)
    assert (refused is None) == expected
    assert compiled.verdict(event) is (Verdict.PASSES if expected else Verdict.REFUSES)
    if refused is not None:
        assert refused.error is None
        alone = compile_filter(refused.clause).failing(event)
        assert alone == refused


def invalid_in(filter: bytes | str) -> Invalid | None:
    try:
        check_filter(filter, field="filter")
    except Invalid as refused:
        return refused
    return None


WORDS = st.sampled_from(
    ["and", "or", "not", "path", "header", "field", "eq", "gt", "in", "contains", "exists", "regex", "other"]
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=9),
    st.sampled_from(["$", "$.a", "$..*", "$[?@.a]", "$[0]", "type", "(", "a{1000}{1000}", "\\pL+"]),
)  # fmt: skip
NEARLY = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=15,
)
PAYLOADS = st.binary(max_size=50) | DOCUMENTS.map(str.encode) | NEARLY.map(lambda one: json.dumps(one).encode())


@given(
    NEARLY.map(json.dumps) | st.text(max_size=50) | st.binary(max_size=50) | FILTERS.map(lambda one: one[0]), PAYLOADS
)
@settings(max_examples=120, deadline=None)
def test_no_input_raises_anything_but_invalid(filter: bytes | str, payload: bytes) -> None:
    if (invalid := invalid_in(filter)) is not None:
        assert (invalid.field, invalid.message[:6]) == ("filter", "filter")
        return
    event = Seen(payload, {"a": "b"}, None)
    refused = compile_filter(filter).failing(event)
    assert refused is None or isinstance(refused, Failing)
    if refused is not None:
        json.loads(refused.clause)
        json.loads(refused.found or b"null")
