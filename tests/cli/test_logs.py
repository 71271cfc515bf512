from __future__ import annotations

from typing import Any

import pytest

from relay.cli.logs import events, sentence
from relay.cli.terminal import Paint

LINE: dict[str, Any] = {
    "at": "2026-03-01T12:00:01.250Z",
    "level": "warn",
    "status": "retry",
    "event_type": "order.paid",
    "event_id": "e-1",
    "endpoint_id": "p-1",
    "reason": "http_server_error",
    "attempt": 2,
    "status_code": 503,
    "duration_ms": 12.3,
    "retry_in_s": 5.2,
}


def test_a_line_tells_what_happened_to_which_event() -> None:
    words = (
        "12:00:01.250 retry order.paid attempt 2, 503, 12 ms, http_server_error, again in 5 s event e-1 endpoint p-1"
    )
    assert " ".join(sentence(LINE, paint=Paint()).split()) == words


def test_a_circuit_has_no_event() -> None:
    line = {"at": LINE["at"], "level": "error", "status": "circuit_open", "endpoint_id": "p-1"}
    assert sentence(line, paint=Paint()).split() == ["12:00:01.250", "circuit_open", "-", "endpoint", "p-1"]


def test_a_type_of_a_stranger_cannot_write_on_the_terminal() -> None:
    assert "\x1b" not in sentence({**LINE, "event_type": "a\x1b[31m"}, paint=Paint())


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    text = (
        b': hello\nretry: 1000\nid: 1-0\n\nid: 2-0-1\ndata: {"a": "b: c"}\n\nevent: gap\ndata: {}\n\n: all is well\n\n'
    )
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    assert list(events(chunks)) == [
        {"retry": "1000", "id": "1-0"},
        {"id": "2-0-1", "data": '{"a": "b: c"}'},
        {"event": "gap", "data": "{}"},
        {},
    ]
