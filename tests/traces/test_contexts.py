"""Contexts are computed: the same for whoever asks, different for different things, sampled in the part asked for."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ids import Uuid7
from relay.traces import contexts
from relay.traces.contexts import SpanContext

SPANS = st.builds(
    SpanContext,
    st.binary(min_size=16, max_size=16).filter(any),
    st.binary(min_size=8, max_size=8).filter(any),
    st.booleans(),
)
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@given(SPANS)
def test_what_is_sent_as_traceparent_is_read_as_the_same_span(span: SpanContext) -> None:
    assert contexts.of_caller(span.traceparent) == span


@given(st.none() | st.text())
def test_no_header_is_too_bad_to_be_ignored(header: str | None) -> None:
    found = contexts.of_caller(header)
    assert found is None or header is not None


@pytest.mark.parametrize(
    "header",
    [
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        "",
    ],
)
def test_what_the_standard_calls_invalid_is_no_caller(header: str) -> None:
    assert contexts.of_caller(header) is None


def test_a_later_version_may_say_more() -> None:
    assert contexts.of_caller(f"01-{TRACE}-{SPAN}-03-more") == contexts.of_caller(f"00-{TRACE}-{SPAN}-01")


@given(st.uuids(), st.uuids(), st.lists(st.integers(0, 2**62 - 1), unique=True, max_size=5), st.floats(0, 1))
def test_spans_of_an_event_are_in_its_trace_and_no_two_are_one(
    event_id: UUID, delivery_id: UUID, fences: list[int], ratio: float
) -> None:
    event = contexts.of_event(event_id, ratio=ratio)
    spans = [event, contexts.of_fan_out(event), *(contexts.of_attempt(event, delivery_id, one) for one in fences)]
    assert {(one.trace_id.hex(), one.sampled) for one in spans} == {(event_id.hex, event.sampled)}
    assert len({one.span_id for one in spans}) == len(spans)


@given(SPANS, st.floats(0, 1))
def test_a_request_is_in_its_callers_trace_and_sampled_as_that(caller: SpanContext, ratio: float) -> None:
    span = contexts.of_request(caller, ratio=ratio)
    assert replace(span, span_id=caller.span_id) == caller
    assert span.span_id != caller.span_id


def test_the_sampled_part_is_the_one_asked_for_though_the_ids_hardly_differ() -> None:
    ids = Uuid7(lambda: 1_800_000_000.0)  # all of one millisecond
    events = [ids() for _ in range(4_000)]
    sampled = [{id for id in events if contexts.of_event(id, ratio=ratio).sampled} for ratio in (0.0, 0.1, 0.5, 1.0)]
    assert [len(some) for some in sampled] == [0, pytest.approx(400, abs=120), pytest.approx(2_000, abs=200), 4_000]
    assert sampled[0] <= sampled[1] <= sampled[2] <= sampled[3]
