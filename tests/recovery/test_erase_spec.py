from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from relay.errors import Invalid
from relay.recovery.erase_spec import EraseSpec, kept

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "ids"),
        ({"event_types": ["a.b"]}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": [UUID(int=1)] * 1001}, "ids"),
        ({"subject": ""}, "subject"),
        ({"subject": "a\0"}, "subject"),
        ({"since": NOW, "until": NOW}, "since"),
        ({"until": NOW, "event_types": ["a..b"]}, "eventTypes"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        EraseSpec(**given)
    assert caught.value.field == field


def test_a_stored_spec_reads_back_and_forgets_the_subject_in_the_end() -> None:
    spec = EraseSpec(ids=[UUID(int=1)], subject="user/1", event_types=["a.*"], since=NOW)
    assert EraseSpec.from_json(spec.as_json()) == spec
    over = kept(spec.as_json())
    assert over["subject"].startswith("sha256:")
    assert kept(over) == over
