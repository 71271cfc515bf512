"""docs/explain.md: every reason is there, with something to do."""

from __future__ import annotations

from relay.insight.explain import FanoutReason
from tests.documents import ROOT, table

PAGE = ROOT / "docs" / "explain.md"


def test_every_reason_is_explained() -> None:
    rows = table(PAGE, "| `why` | meaning | what to do |")
    assert [row[0].strip("`") for row in rows] == [reason.name for reason in FanoutReason]
    assert all(row[1] and row[2] for row in rows)
