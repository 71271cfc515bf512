from __future__ import annotations

from datetime import UTC, datetime

from relay.cli.stats import page
from relay.cli.terminal import Paint

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STATS = {
    "pending": 12,
    "queued": 3,
    "delivering": 1,
    "failed": 8,
    "ready": 3,
    "held": 0,
    "delayed": 8,
    "delivered": 4000,
    "dead": 1,
    "cancelled": 0,
    "oldestAgeSeconds": 2.5,
    "asOf": "2026-03-01T11:59:58Z",
}


def test_each_count_stands_beside_its_meaning() -> None:
    lines = page(STATS, now=NOW, paint=Paint()).splitlines()
    assert lines[0].split(maxsplit=2) == ["pending", "12", "accepted and not final"]
    assert next(line for line in lines if "delivered" in line).split() == ["delivered", "4,000", "arrived"]
    assert lines[-2:] == ["The oldest that is ready has waited 2 s.", "Counted 2 s ago."]


def test_an_empty_system_has_no_oldest() -> None:
    assert "oldest" not in page({**STATS, "oldestAgeSeconds": 0.0}, now=NOW, paint=Paint())


def test_counts_from_a_clock_ahead_of_ours_are_of_now() -> None:
    assert "Counted 0 ms ago." in page({**STATS, "asOf": "2026-03-01T12:00:09Z"}, now=NOW, paint=Paint())
