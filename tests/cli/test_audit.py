from __future__ import annotations

from relay.cli.audit import sentence
from relay.cli.terminal import Paint


def test_an_entry_is_a_line_with_one_more_for_each_field() -> None:
    entry = {
        "at": "2026-03-01T12:00:00.123Z", "action": "updateEndpoint", "subjectType": "endpoint", "subjectId": "7",
        "actor": "9 shop\x1b", "ip": "192.0.2.1", "before": {"maxRetries": 3}, "after": {"maxRetries": 4, "url": "x"},
    }  # fmt: skip
    assert sentence(entry, paint=Paint()).splitlines() == [
        "2026-03-01T12:00:00 updateEndpoint endpoint 7 by 9 shop\N{REPLACEMENT CHARACTER} from 192.0.2.1",
        "    maxRetries: 3 -> 4",
        '    url: - -> "x"',
    ]


def test_an_entry_without_id_or_address_says_nothing_of_them() -> None:
    entry = {
        "at": "2026-03-01T12:00:00Z", "action": "retryEvents", "subjectType": "event", "subjectId": None,
        "actor": "cli", "ip": None, "before": None, "after": None,
    }  # fmt: skip
    assert sentence(entry, paint=Paint()) == "2026-03-01T12:00:00 retryEvents event by cli"
