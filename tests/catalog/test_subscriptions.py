from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.catalog.subscriptions import Matcher, check_patterns, check_type, matches
from relay.errors import Invalid

SEGMENTS = st.sampled_from(["a", "b", "relay", "order", "x-1", "a_b"])
NAMES = st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.one_of(NAMES, NAMES.map(lambda name: f"{name}.*"), st.just("*"))


@given(st.lists(st.lists(PATTERNS, max_size=5), max_size=12), NAMES)
def test_the_matcher_finds_exactly_those_with_a_matching_pattern_each_once(
    subscribed: list[list[str]], name: str
) -> None:
    found = Matcher(enumerate(subscribed)).match(name)
    assert sorted(found) == [i for i, patterns in enumerate(subscribed) if any(matches(p, name) for p in patterns)]


@pytest.mark.parametrize(
    ("pattern", "name", "matched"),
    [
        ("order.created", "order.created", True),
        ("order.created", "order.created.eu", False),
        ("order.*", "order.created", True),
        ("order.*", "order.created.eu", True),
        ("order.*", "order", False),
        ("order.*", "orders.created", False),
        ("*", "order", True),
        ("*", "relay.endpoint.failing", False),
        ("relay.*", "relay.endpoint.failing", True),
        ("*", "relayed.on", True),
    ],
)
def test_a_pattern_matches_as_the_contract_says(pattern: str, name: str, matched: bool) -> None:
    assert matches(pattern, name) is matched
    assert bool(Matcher([("x", [pattern])]).match(name)) is matched


@given(NAMES)
def test_every_name_is_a_pattern(name: str) -> None:
    check_patterns([name, f"{name}.*", "*"], field="eventTypes")


@pytest.mark.parametrize(
    "patterns",
    [
        [],
        ["*"] * 101,
        [""],
        ["a..b"],
        [".a"],
        ["a."],
        ["*.a"],
        ["a*"],
        ["a b"],
        ["**"],
        [".*"],
        ["ü"],
        ["a" * 256],
        ["a\n"],
    ],
)
def test_what_is_no_pattern_is_refused_by_the_name_of_its_field(patterns: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        check_patterns(patterns, field="eventTypes")
    assert refused.value.field == "eventTypes"


@pytest.mark.parametrize("name", ["", "order.*", "*", "a..b", "relay.x", "a" * 256, "a/b", "a\n"])
def test_a_producer_cannot_send_a_reserved_or_malformed_type(name: str) -> None:
    with pytest.raises(Invalid):
        check_type(name, field="eventType")


def test_a_producer_can_send_what_only_resembles_a_reserved_type() -> None:
    for name in ("relay", "relayed.on", "order.relay.x", "a" * 255):
        check_type(name, field="eventType")


@pytest.mark.parametrize(
    ("patterns", "event_type"),
    [
        (["*"], "order.created"),
        (["order.created"], "order.created"),
        (["order.*", "order.created"], "order.created"),
        (["a.*", "a.b.*", "a.b.c.*", "a.b.c.d.*", "a.b.c.d.e"], "a.b.c.d.e"),
    ],
)
def test_ten_thousand_endpoints_are_matched_in_less_than_a_millisecond(patterns: list[str], event_type: str) -> None:
    others = [[f"other.{n}.*", f"another.{n}"] for n in range(100)]
    matcher = Matcher(enumerate([patterns if n % 10 else others[n % 100] for n in range(10_000)]))
    assert len(matcher.match(event_type)) == 9_000
    assert min(_seconds(matcher, event_type) for _ in range(50)) < 0.001


def _seconds(matcher: Matcher[int], event_type: str) -> float:
    start = time.perf_counter()
    matcher.match(event_type)
    return time.perf_counter() - start
