"""Subscriptions and filters against a slow, plain reference that shares nothing with them; and no input raises."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from relay.catalog.filters import Failing, Seen, Verdict, check_filter, compile_filter
from relay.catalog.json_paths import MAX_PATH, Path
from relay.catalog.json_values import read
from relay.catalog.looking import Budget
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
PLACES = st.sampled_from(["@", "$"])


def _child(selector: Selector) -> Segment:
    return False, [selector]


PLAIN: st.SearchStrategy[Segment] = (NAMES | INDEXES).map(_child)
ONE_PLACE: st.SearchStrategy[list[Segment]] = st.lists(PLAIN, max_size=2)
SEVERAL: list[list[Segment]] = [[(False, [None])], [(True, [None])], [(True, ["a"])], [(False, [slice(1, None)])]]
SOME_PLACES: st.SearchStrategy[list[Segment]] = ONE_PLACE | st.sampled_from(SEVERAL)
OPERANDS: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("literal"), SCALARS),
    st.tuples(st.just("query"), PLACES, ONE_PLACE),
    st.tuples(st.just("length"), st.tuples(st.just("query"), PLACES, ONE_PLACE)),
    st.tuples(st.sampled_from(["count", "value"]), PLACES, SOME_PLACES),
)
CONDITIONS: st.SearchStrategy[tuple[Any, ...]] = st.recursive(
    st.one_of(
        st.tuples(st.just("exists"), PLACES, SOME_PLACES),
        st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), OPERANDS, OPERANDS),
        st.tuples(
            st.sampled_from(["match", "search"]), OPERANDS, st.sampled_from(["a", "a.*", "[ab]1?", "b|a", ".", "ä.1"])
        ),
    ),
    lambda inner: st.tuples(st.sampled_from(["&&", "||"]), inner, inner) | st.tuples(st.just("not"), inner),
    max_leaves=3,
)
SELECTORS: st.SearchStrategy[Selector] = st.one_of(NAMES, INDEXES, SLICES, st.none(), CONDITIONS)
ANY: st.SearchStrategy[Segment] = st.tuples(st.booleans(), st.lists(SELECTORS, min_size=1, max_size=2))
PATHS: st.SearchStrategy[list[Segment]] = (st.lists(PLAIN, max_size=3) | st.lists(ANY, max_size=3)).filter(
    lambda path: len(written(path)) <= MAX_PATH
)


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
        case tuple():
            return f"?{_condition(selector)}"
        case _:
            return str(selector)


def _condition(test: tuple[Any, ...]) -> str:
    match test:
        case "exists", place, path:
            return place + written(path)[1:]
        case "not", inner:
            return f"!({_condition(inner)})"
        case ("&&" | "||") as word, left, right:
            return f"({_condition(left)} {word} {_condition(right)})"
        case ("match" | "search") as name, what, pattern:
            return f"{name}({_operand(what)}, '{pattern}')"
        case operator, left, right:
            return f"{_operand(left)} {operator} {_operand(right)}"
        case _:
            raise AssertionError(test)


def _operand(operand: tuple[Any, ...]) -> str:
    match operand:
        case "literal", text:
            return "'" + json.loads(text) + "'" if text.startswith('"') else text
        case "length", inner:
            return f"length({_operand(inner)})"
        case kind, place, path:
            at = place + written(path)[1:]
            return at if kind == "query" else f"{kind}({at})"
        case _:
            raise AssertionError(operand)


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


def filters(leaves: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(_joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
            inner.map(lambda one: (_object({"not": one[0]}), one[1])),
        ),
        max_leaves=6,
    )


SUBJECTS = st.sampled_from([("header", "a"), ("header", "x-y"), ("field", "type")])
FILTERS = filters(st.builds(_path_test, PATHS, TESTS) | st.builds(_other_test, SUBJECTS, TESTS))

#: A world so small that what is asked for is often there, or nearly.
FEW = st.sampled_from(["1", "1.0", "2", "0", '"a"', '"A1"', '"ba1"', '"2"', "null", "true", "false", "[1]", '{"a": 1}'])
FEW_TESTS: st.SearchStrategy[tuple[str, str]] = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne", "contains"]), FEW),
    st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), FEW.filter(lambda one: one[0] in '012"')),
    st.tuples(st.sampled_from(["in", "nin"]), st.lists(FEW, min_size=1, max_size=2).map(_array)),
    st.tuples(st.sampled_from(["startsWith", "endsWith"]), st.sampled_from(['"a"', '"1"', '""', '"A1"'])),
    st.tuples(st.just("exists"), st.sampled_from(["true", "false"])),
    st.tuples(st.just("regex"), REGEXES.map(json.dumps)),
)
FEW_PATHS: list[list[Segment]] = [[_child("a")], [_child("a")], [_child("b")], [_child(None)], [], [(True, [0])]]
NEAR_FILTERS = filters(
    st.builds(_path_test, st.sampled_from(FEW_PATHS), FEW_TESTS) | st.builds(_other_test, SUBJECTS, FEW_TESTS)
)
NEAR_DOCUMENTS = st.one_of(
    FEW, st.builds(lambda a: _object({"a": a}), FEW), st.builds(lambda a, b: _object({"a": a, "b": b}), FEW, FEW),
    st.lists(FEW, max_size=3).map(_array).map(lambda items: _object({"a": items})),
)  # fmt: skip
WORLDS = (
    st.tuples(NEAR_FILTERS, NEAR_DOCUMENTS) | st.tuples(NEAR_FILTERS, NEAR_DOCUMENTS) | st.tuples(FILTERS, DOCUMENTS)
)


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
    value = reference.read(document)
    expected = reference.select(path, value, value)
    assert len(found) == len(expected)
    assert sorted(map(_spelled, found)) == sorted(map(_spelled, expected))


ELEMENTS = st.dictionaries(st.sampled_from(["a", "b"]), FEW, max_size=2).map(_object) | FEW
A_OR_B: st.SearchStrategy[list[Segment]] = st.sampled_from(["a", "b", 0]).map(lambda name: [_child(name)])
NEAR: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("query"), PLACES, A_OR_B),
    st.tuples(st.just("literal"), FEW.filter(lambda one: one[0] not in "[{")),
)


@given(
    st.one_of(
        CONDITIONS,
        st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), NEAR, NEAR),
        st.tuples(st.sampled_from(["match", "search"]), NEAR, st.sampled_from(["a", "a.*", "[ab]1?", "b|a", ".", "1"])),
    ),
    st.lists(ELEMENTS, min_size=1, max_size=4).map(_array) | st.dictionaries(NAMES, ELEMENTS, min_size=1).map(_object),
)
@settings(max_examples=250, deadline=None)
def test_a_filter_inside_of_a_path_finds_what_the_reference_finds(condition: tuple[Any, ...], document: str) -> None:
    path: list[Segment] = [(False, [condition])]
    assume(len(written(path)) <= MAX_PATH)
    value = reference.read(document)
    found = Path(written(path)).values(read(document), Budget(10_000))
    assert [_spelled(one) for one in found] == [_spelled(one) for one in reference.select(path, value, value)]


def _spelled(value: Any) -> str:
    """Values of both readers in one spelling."""
    if isinstance(value, dict):
        return f"{{{sorted((name, _spelled(one)) for name, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_spelled, value))}]"
    if value is None or isinstance(value, (bool, str)):
        return json.dumps(value)
    return str(reference.Fraction(value))


@given(WORLDS, HEADERS, TYPES)
@settings(max_examples=500, deadline=None)
@example((('{"path": "$", "eq": 1.0}', {"$": []}), "1"), {}, "a")
@example((('{"path": "$", "eq": 9007199254740993}', {"$": []}), "9007199254740992"), {}, "a")
@example((('{"path": "$", "gte": "a"}', {"$": []}), '"a"'), {}, "a")
@example((('{"path": "$", "eq": 1}', {"$": []}), "true"), {}, "a")
@example((('{"path": "$", "contains": 1}', {"$": []}), '"A1"'), {}, "a")
@example((('{"path": "$", "in": [1]}', {"$": []}), "true"), {}, "a")
@example((('{"header": "A", "exists": true}', {}), "true"), {"a": ""}, "a")
@example((('{"not": {"path": "$[*]", "ne": true}}', {"$[*]": [_child(None)]}), "[1, true]"), {}, "a")
def test_a_filter_lets_through_what_the_reference_lets_through(
    world: tuple[Written, str], headers: dict[str, str], event_type: str
) -> None:
    (text, paths), document = world
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
