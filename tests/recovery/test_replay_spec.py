from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.deliveries import DeliveryStatus
from relay.errors import Invalid
from relay.recovery.replay_spec import ReplaySpec

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {"since": NOW - timedelta(days=1), "until": NOW}
FINAL = [DeliveryStatus.DEAD, DeliveryStatus.CANCELLED, DeliveryStatus.DELIVERED]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"since": NOW}, "since"),
        ({"since": NOW + timedelta(1)}, "since"),
        ({"statuses": []}, "statuses"),
        ({"statuses": [DeliveryStatus.DEAD, DeliveryStatus.FAILED]}, "statuses"),
        ({"rate_per_sec": 0}, "ratePerSec"),
        ({"rate_per_sec": 10_001}, "ratePerSec"),
        ({"event_types": []}, "eventTypes"),
        ({"event_types": ["a.*.b"]}, "eventTypes"),
        ({"endpoint_id": uuid4(), "to_endpoint_id": uuid4()}, "toEndpointId"),
    ],
)
def test_a_wrong_replay_names_its_field(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        ReplaySpec(**{**GOOD, **wrong})
    assert refusal.value.field == field


def test_dead_ones_are_meant_when_nobody_says_which() -> None:
    assert ReplaySpec(**GOOD).states == ["dead"]


@given(
    types=st.none() | st.lists(st.sampled_from(["a", "a.*", "*"]), min_size=1),
    statuses=st.none() | st.lists(st.sampled_from(FINAL), min_size=1),
    endpoint=st.none() | st.uuids(),
    target=st.booleans(),
    rate=st.none() | st.integers(1, 10_000),
)
def test_what_a_job_keeps_reads_back_as_what_was_asked(
    types: Any, statuses: Any, endpoint: Any, target: bool, rate: Any
) -> None:
    spec = ReplaySpec(
        **GOOD,
        event_types=types,
        statuses=statuses,
        rate_per_sec=rate,
        **{"to_endpoint_id" if target else "endpoint_id": endpoint},
    )
    assert ReplaySpec.from_json(spec.as_json()) == spec
