from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from relay.cli.story import tell
from relay.cli.terminal import Paint
from relay.delivery.outcomes import Reason

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ENDPOINT = {
    "id": "e1",
    "url": "http://127.0.0.1:9000/hook",
    "description": "the shop",
    "eventTypes": ["invoice.*", "order.refunded"],
    "createdAt": "2026-03-01T11:59:30.000Z",
    "updatedAt": "2026-02-03T04:05:06.000Z",
}


def _event(**more: Any) -> dict[str, Any]:
    return {
        "id": "ev1",
        "eventType": "order.paid",
        "status": "DELIVERED",
        "createdAt": "2026-03-01T11:59:20.000Z",
        "scheduledAt": None,
        "priority": 5,
        "idempotencyKey": None,
        "contentType": "application/json",
        "destination": None,
        "payload": {"id": 17},
        **more,
    }


def _delivery(**more: Any) -> dict[str, Any]:
    return {
        "id": "d1",
        "destination": ENDPOINT["url"],
        "status": "DELIVERED",
        "reason": "OK",
        "attempts": 1,
        "maxAttempts": 11,
        "createdAt": "2026-03-01T11:59:20.010Z",
        "nextAttemptAt": None,
        "deliveredAt": "2026-03-01T11:59:20.050Z",
        "endpoint": ENDPOINT,
        "deliveryAttempts": [],
        **more,
    }


def _attempt(**more: Any) -> dict[str, Any]:
    return {
        "attemptNumber": 1,
        "attemptedAt": "2026-03-01T11:59:20.020Z",
        "statusCode": 200,
        "reason": "OK",
        "error": None,
        "durationMs": 12,
        "responseBody": "",
        "responseBodyTruncated": False,
        **more,
    }


def _decision(**more: Any) -> dict[str, Any]:
    plain = {"matched": False, "why": "TYPE_NOT_SUBSCRIBED", "recorded": False, "endpoint": ENDPOINT}
    return {**plain, "clause": None, "found": None, "changedSince": False, **more}


def _tell(
    event: dict[str, Any], *deliveries: dict[str, Any], decisions: tuple[dict[str, Any], ...] = (), more: object = False
) -> str:
    page = {"nodes": list(deliveries), "pageInfo": {"hasNextPage": more}}
    return tell({"event": event, "deliveries": page, "explainEvent": list(decisions)}, now=NOW, paint=Paint())


def test_a_delivered_event_tells_when_and_at_which_attempt_it_arrived() -> None:
    attempts = [
        _attempt(statusCode=503, reason="HTTP_SERVER_ERROR", responseBody="try later"),
        _attempt(attemptNumber=2),
    ]
    page = _tell(_event(), _delivery(attempts=2, deliveryAttempts=attempts))
    assert "Event order.paid  ev1" in page
    assert 'payload {"id": 17}' in page
    assert "DELIVERED  It arrived everywhere it should." in page
    assert "attempt 1  11:59:20.020  503 Service Unavailable  in 12 ms\n      try later" in page
    assert "attempt 2  11:59:20.020  200 OK  in 12 ms" in page
    assert "Delivered 40 s ago (11:59:20 UTC), at attempt 2." in page


def test_a_failing_delivery_tells_the_error_and_when_the_next_attempt_comes() -> None:
    refused = _attempt(statusCode=None, reason="CONNECTION_REFUSED", error="Nothing listens there.")
    failing = _delivery(
        status="FAILED", reason="CONNECTION_REFUSED", nextAttemptAt="2026-03-01T12:01:05Z", deliveryAttempts=[refused]
    )
    page = _tell(_event(status="FAILED"), failing)
    assert "Nothing listens there." in page
    assert "Next: attempt 2 of 11, in 1 min 5 s (12:01:05 UTC)." in page


def test_a_delivery_that_is_due_waits_for_a_worker_only() -> None:
    due = _delivery(status="FAILED", reason="BUSY", nextAttemptAt="2026-03-01T11:59:59Z")
    assert "Next: attempt 2 of 11, as soon as a worker is free. It waits: the endpoint has all" in _tell(_event(), due)


def test_a_dead_delivery_tells_why_it_was_given_up() -> None:
    dead = _delivery(status="DEAD", reason="ATTEMPTS_EXHAUSTED", attempts=3, deliveredAt=None)
    page = _tell(_event(status="DEAD"), dead)
    assert "Given up after 3 attempts: all its attempts failed." in page


def test_a_cancelled_delivery_tells_who_did_it() -> None:
    page = _tell(_event(status="CANCELLED"), _delivery(status="CANCELLED", reason="ENDPOINT_DELETED"))
    assert "Cancelled after 1 attempt: the endpoint was deleted." in page


def test_an_event_for_nobody_says_so_and_names_what_the_endpoints_want() -> None:
    page = _tell(_event(status="UNMATCHED"), decisions=(_decision(),))
    assert "UNMATCHED  No endpoint was to get it" in page
    assert "Not sent to (as these endpoints are today):" in page
    assert "subscribed to invoice.*, order.refunded; not to order.paid" in page


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("ENDPOINT_DISABLED", "it is disabled"),
        ("CREATED_LATER", "after the event was accepted"),
        ("NOT_FANNED_OUT_YET", "not decided yet"),
        ("SOMETHING_NEW", "something new"),
    ],
)
def test_every_reason_to_be_left_out_has_words(why: str, words: str) -> None:
    assert words in _tell(_event(), decisions=(_decision(why=why),))


def test_a_filter_that_refused_is_told_with_what_the_event_had_there() -> None:
    clause = {"path": "$.total", "gt": 100}
    page = _tell(_event(), decisions=(_decision(why="FILTERED_OUT", clause=clause, found=70),))
    assert '      its filter wants {"path": "$.total", "gt": 100}\n      the event has 70 there' in page
    page = _tell(_event(), decisions=(_decision(why="FILTERED_OUT", clause=clause, found=None),))
    assert "the event has nothing there" in page
    assert "its filter let this event not through" in _tell(_event(), decisions=(_decision(why="FILTERED_OUT"),))


def test_an_endpoint_that_was_changed_since_says_when_and_whether_it_would_get_the_event_now() -> None:
    changed = {"changedSince": True}
    page = _tell(_event(), decisions=(_decision(**changed),))
    assert "subscribed to invoice.*, order.refunded; not to order.paid\n      changed at 2026-02-03" in page
    fits = {**ENDPOINT, "eventTypes": ["order.*"]}
    page = _tell(_event(), decisions=(_decision(endpoint=fits, **changed),))
    assert "      it would get this event today\n      changed at 2026-02-03T04:05:06.000Z, after the event" in page
    clause = {"path": "$.total", "gt": 100}
    refused = _decision(endpoint=fits, why="FILTERED_OUT", clause=clause, **changed)
    assert "its filter wants" in _tell(_event(), decisions=(refused,))


def test_an_endpoint_that_is_gone_leaves_a_line() -> None:
    assert "an endpoint that is gone" in _tell(_event(), decisions=(_decision(endpoint=None),))


def test_a_scheduled_event_tells_when_it_goes_out() -> None:
    page = _tell(_event(status="QUEUED", scheduledAt="2026-03-02T12:00:00Z"))
    assert "Scheduled: it goes out in 1 d (2026-03-02 12:00:00 UTC)." in page


def test_an_event_just_accepted_says_that_it_is_safe() -> None:
    assert "Accepted and safe" in _tell(_event(status="QUEUED"))


def test_an_event_for_one_url_is_named_by_it() -> None:
    event = _event(eventType=None, destination="http://127.0.0.1:9000/one")
    page = _tell(event, _delivery(endpoint=None, destination="http://127.0.0.1:9000/one"))
    assert "Event for http://127.0.0.1:9000/one" in page
    assert "✓ http://127.0.0.1:9000/one  as the event asked\n" in page


def test_a_delivery_whose_endpoint_is_gone_keeps_its_address() -> None:
    assert "✓ http://127.0.0.1:9000/hook  endpoint deleted since\n" in _tell(_event(), _delivery(endpoint=None))


def test_the_oldest_delivery_comes_first_and_a_cut_list_says_so() -> None:
    page = _tell(_event(), _delivery(destination="http://new/"), _delivery(destination="http://old/"), more=True)
    assert page.index("http://old/") < page.index("http://new/")
    assert "these are the newest 100" in page


@pytest.mark.parametrize("status", ["QUEUED", "DELIVERING", "DELIVERED", "FAILED", "DEAD", "CANCELLED"])
def test_every_reason_has_words_in_every_status(status: str) -> None:
    for reason in (None, *(reason.name for reason in Reason)):
        attempt = _attempt(statusCode=None, reason=reason or "OK")
        page = _tell(_event(status=status), _delivery(status=status, reason=reason, deliveryAttempts=[attempt]))
        assert "None" not in page


def test_what_an_endpoint_answers_cannot_steer_the_terminal() -> None:
    hostile = _attempt(statusCode=500, reason="HTTP_SERVER_ERROR", responseBody="\x1b[2Jgone\x9b1m")
    assert "\x1b" not in _tell(_event(), _delivery(deliveryAttempts=[hostile]))
