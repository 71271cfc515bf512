from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.catalog.policies import (
    DEFAULT_RETRY_SCHEDULE_MS,
    EndpointChange,
    EndpointSpec,
    FIFOHeadPolicy,
    PayloadFormat,
)
from relay.errors import Invalid

MINIMAL: dict[str, Any] = {"url": "https://example.com/", "event_types": ["*"]}
DEFAULTS = EndpointSpec(**MINIMAL).columns()


def test_what_is_not_said_or_null_gets_the_defaults_of_the_contract() -> None:
    nulls = dict.fromkeys(
        (
            "description", "max_retries", "retry_schedule", "timeout_ms", "max_concurrency", "custom_headers",
            "terminal_status_codes", "rate_limit_per_sec", "circuit_threshold", "circuit_reset_ms", "fifo",
            "fifo_partition_key", "fifo_on_dead", "format", "gzip",
        )
    )  # fmt: skip
    assert EndpointSpec(**MINIMAL, **nulls).columns() == DEFAULTS
    assert DEFAULTS["retry_schedule"] == list(DEFAULT_RETRY_SCHEDULE_MS)
    assert (DEFAULTS["max_retries"], DEFAULTS["timeout_ms"], DEFAULTS["max_concurrency"]) == (10, 30_000, 20)
    assert (DEFAULTS["rate_limit_per_sec"], DEFAULTS["terminal_status_codes"]) == (0, [])
    assert (DEFAULTS["circuit_threshold"], DEFAULTS["circuit_reset_ms"]) == (5, 300_000)
    assert (DEFAULTS["fifo"], DEFAULTS["fifo_partition_key"]) == (False, None)
    assert DEFAULTS["fifo_on_dead"] is FIFOHeadPolicy.PARK
    assert (DEFAULTS["format"], DEFAULTS["gzip"]) == (PayloadFormat.RAW, False)


def test_terminal_status_codes_are_kept_once_and_in_order() -> None:
    assert EndpointChange(terminal_status_codes=[422, 404, 301, 404]).terminal_status_codes == [301, 404, 422]


@given(st.lists(st.integers(0, 700), max_size=120))
def test_terminal_status_codes_are_those_that_end_a_failure(codes: list[int]) -> None:
    good = len(codes) <= 100 and all(100 <= code < 600 and code // 100 != 2 for code in codes)
    try:
        taken = EndpointChange(terminal_status_codes=codes).terminal_status_codes
    except Invalid:
        assert not good
    else:
        assert good
        assert taken == sorted(set(codes))


def test_a_schedule_sets_the_number_of_retries_unless_one_is_given() -> None:
    assert EndpointSpec(**MINIMAL, retry_schedule=[1, 2]).columns()["max_retries"] == 2
    assert EndpointSpec(**MINIMAL, retry_schedule=[1, 2], max_retries=5).columns()["max_retries"] == 5


def test_a_backoff_field_clears_the_schedule_and_the_reverse() -> None:
    backoff = EndpointChange(retry_backoff_mult=3).over(DEFAULTS)
    assert backoff["retry_schedule"] is None
    assert backoff["retry_backoff_mult"] == 3.0
    schedule = EndpointChange(retry_schedule=[7]).over(backoff)
    assert schedule["retry_schedule"] == [7]
    assert schedule["retry_backoff_mult"] == DEFAULTS["retry_backoff_mult"]
    assert EndpointChange(retry_schedule=None).over(schedule)["retry_schedule"] == list(DEFAULT_RETRY_SCHEDULE_MS)


def test_an_absent_field_stays_and_null_clears_to_the_default() -> None:
    changed = EndpointChange(timeout_ms=500, description="till", max_retries=3).over(DEFAULTS)
    assert EndpointChange().over(changed) == changed
    assert EndpointChange(timeout_ms=None, description=None, max_retries=None).over(changed) == DEFAULTS


@pytest.mark.parametrize("field", ["url", "event_types"])
def test_what_has_no_default_cannot_be_cleared(field: str) -> None:
    with pytest.raises(Invalid, match="must not be null"):
        EndpointChange(**{field: None}).over({**DEFAULTS})


@pytest.mark.parametrize(
    ("wrong", "field", "allowed"),
    [
        ({"event_types": []}, "eventTypes", "1 to 100"),
        ({"event_types": ["a..b"]}, "eventTypes", "segments"),
        ({"max_retries": 101}, "maxRetries", "between 0 and 100"),
        ({"max_retries": "5"}, "maxRetries", "whole number"),
        ({"timeout_ms": 99}, "timeoutMs", "between 100 and 120 000"),
        ({"timeout_ms": True}, "timeoutMs", "whole number"),
        ({"max_concurrency": 0}, "maxConcurrency", "between 1 and 1 000"),
        ({"rate_limit_per_sec": -1}, "rateLimitPerSec", "between 0 and 10 000"),
        ({"rate_limit_per_sec": 10_001}, "rateLimitPerSec", "between 0 and 10 000"),
        ({"circuit_threshold": 0}, "circuitThreshold", "between 1 and 1 000"),
        ({"circuit_reset_ms": 99}, "circuitResetMs", "between 100 and 86 400 000"),
        ({"circuit_reset_ms": 86_400_001}, "circuitResetMs", "between 100 and 86 400 000"),
        ({"terminal_status_codes": [404, 204]}, "terminalStatusCodes", "none of them from 200 to 299"),
        ({"terminal_status_codes": [99]}, "terminalStatusCodes", "from 100 to 599"),
        ({"terminal_status_codes": [404] * 101}, "terminalStatusCodes", "at most 100"),
        ({"fifo": 1}, "fifo", "true or false"),
        ({"fifo_partition_key": "customer.id"}, "fifoPartitionKey", "RFC 9535"),
        ({"fifo_partition_key": "$.a\0"}, "fifoPartitionKey", "NUL"),
        ({"fifo_partition_key": "$." + "a" * 254}, "fifoPartitionKey", "at most 255"),
        ({"retry_schedule": []}, "retrySchedule", "at least 1"),
        ({"retry_schedule": [1] * 101}, "retrySchedule", "at most 100"),
        ({"retry_schedule": [-1]}, "retrySchedule", "between 0 and"),
        ({"retry_backoff_ms": 0}, "retryBackoffMs", "between 1 and"),
        ({"retry_backoff_mult": 0.5}, "retryBackoffMult", "between 1 and 100"),
        ({"retry_backoff_mult": float("nan")}, "retryBackoffMult", "finite"),
        ({"retry_schedule": [1], "retry_backoff_ms": 5}, "retrySchedule", "exclude"),
        ({"retry_backoff_ms": 10, "retry_backoff_max": 5}, "retryBackoffMax", "not be less"),
        ({"custom_headers": {"Host": "x"}}, "customHeaders", "reserved"),
        ({"custom_headers": {"X-Relay-Event-ID": "x"}}, "customHeaders", "reserved"),
        ({"custom_headers": {"webhook-id": "x"}}, "customHeaders", "reserved"),
        ({"custom_headers": {"a": "b\r\nc: d"}}, "customHeaders", "printable"),
        ({"custom_headers": {"a b": "c"}}, "customHeaders", "header name"),
        ({"custom_headers": {"a": 1}}, "customHeaders", "string"),
        ({"custom_headers": {"a": "1", "A": "2"}}, "customHeaders", "twice"),
        ({"custom_headers": []}, "customHeaders", "object"),
        ({"description": "x" * 1001}, "description", "at most 1000"),
        ({"description": "a\0"}, "description", "NUL"),
        ({"secret": "short"}, "secret", "whsec_"),
        ({"url": None}, "url", "string"),
        ({"colour": "red"}, "colour", "not a known field"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(wrong: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(Invalid) as refused:
        EndpointSpec(**{**MINIMAL, **wrong}).columns()
    assert refused.value.field == field
    assert field in refused.value.message
    assert allowed in refused.value.message
