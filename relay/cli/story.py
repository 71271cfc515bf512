"""The page of `relay why`: an event's story told from what the API knows of it. Times are UTC."""

from __future__ import annotations

import http
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from relay.cli import left_out
from relay.cli.terminal import Paint, excerpt, plain, relative, span

_PAYLOAD_SHOWN = 400
_ANSWER_SHOWN = 400

_ENDINGS = {
    "QUEUED": "On its way: nothing has been tried yet.",
    "DELIVERING": "It is being sent right now.",
    "DELIVERED": "It arrived everywhere it should.",
    "FAILED": "It has not arrived everywhere yet, and Relay goes on trying.",
    "DEAD": "Relay has given up on at least one endpoint.",
    "CANCELLED": "It was cancelled.",
    "UNMATCHED": "No endpoint was to get it, so it was sent to nobody.",
}
_MARKS = {
    "DELIVERED": ("\N{CHECK MARK}", "green"),
    "DEAD": ("\N{BALLOT X}", "red"),
    "CANCELLED": ("\N{EN DASH}", "yellow"),
}
_OPEN = ("\N{HORIZONTAL ELLIPSIS}", "cyan")
_REASONS = {
    "ATTEMPTS_EXHAUSTED": "all its attempts failed",
    "ENDPOINT_DISABLED": "the endpoint was disabled",
    "EXPIRED": "it waited longer than events are kept",
    "WORKER_LOST": "every worker that sent it died of it",
    "UNRECORDABLE": "what came back could not be stored",
    "ENDPOINT_DELETED": "the endpoint was deleted",
    "CANCELLED_BY_USER": "somebody cancelled it",
    "CANCELLED_BY_TRANSFORMATION": "the endpoint's transformation cancelled it",
    "DRAINED": "its queue was drained",
    "ERASED": "its data was erased",
    "GONE": "the endpoint answered 410: gone for good",
    "TERMINAL_STATUS": "the endpoint's answer is one it lists as final",
    "SCHEDULED": "its time has not come",
    "PAUSED": "the endpoint is paused",
    "CIRCUIT_OPEN": "the endpoint kept failing and is left alone for a while",
    "RATE_LIMITED": "the endpoint's rate limit",
    "BUSY": "the endpoint has all the requests in flight that it may have",
    "LANE_BLOCKED": "an earlier one in its queue must go first",
}


def tell(found: dict[str, Any], *, now: datetime, paint: Paint) -> str:
    """Return the page for the answer to the query of `relay why`."""
    event, deliveries = found["event"], found["deliveries"]
    parts = [_head(event, now=now, paint=paint), _ending(event, deliveries["nodes"], now=now, paint=paint)]
    parts += [_delivery(delivery, event, now=now, paint=paint) for delivery in reversed(deliveries["nodes"])]
    if deliveries["pageInfo"]["hasNextPage"]:
        parts.append("There are more; these are the newest 100. `relay why ID --json` shows the same ones in full.")
    parts += _left_out(found["explainEvent"], event, paint=paint)
    return "\n\n".join(parts)


def _head(event: dict[str, Any], *, now: datetime, paint: Paint) -> str:
    facts = [f"accepted {_moment(event['createdAt'], now=now)}", f"priority {event['priority']}"]
    if event["idempotencyKey"]:
        facts.append(f"idempotency key {plain(event['idempotencyKey'])}")
    title = f"{plain(event['eventType'] or 'for ' + str(event['destination']))}  {paint(event['id'], 'dim')}"
    lines = [paint("Event", "bold") + " " + title, f"  {', '.join(facts)}", f"  payload {_payload(event)}"]
    return "\n".join(lines)


def _payload(event: dict[str, Any]) -> str:
    if event["payload"] is None:
        return "erased"
    return excerpt(json.dumps(event["payload"], ensure_ascii=False), limit=_PAYLOAD_SHOWN)


def _ending(event: dict[str, Any], deliveries: list[dict[str, Any]], *, now: datetime, paint: Paint) -> str:
    status = event["status"]
    sentence = _ENDINGS.get(status, "")
    if status == "QUEUED" and not deliveries:
        sentence = "Accepted and safe; the endpoints it goes to are about to be chosen."
        if event["scheduledAt"] and datetime.fromisoformat(event["scheduledAt"]) > now:
            sentence = f"Scheduled: it goes out {_moment(event['scheduledAt'], now=now)}."
    return f"{paint(status, _MARKS.get(status, _OPEN)[1])}  {sentence}"


def _delivery(delivery: dict[str, Any], event: dict[str, Any], *, now: datetime, paint: Paint) -> str:
    mark, colour = _MARKS.get(delivery["status"], _OPEN)
    if delivery["endpoint"]:
        name = _name(delivery["endpoint"])
    else:
        name = "as the event asked" if event["destination"] else "endpoint deleted since"
    lines = [f"{paint(mark, colour)} {plain(delivery['destination'])}  {paint(name, 'dim')}"]
    for attempt in delivery["deliveryAttempts"]:
        lines += _attempt(attempt, paint=paint)
    lines.append(f"  {_outlook(delivery, now=now)}")
    return "\n".join(lines)


def _attempt(attempt: dict[str, Any], *, paint: Paint) -> list[str]:
    good = attempt["reason"] == "OK"
    at = datetime.fromisoformat(attempt["attemptedAt"]).strftime("%H:%M:%S.%f")[:-3]
    took = span(timedelta(milliseconds=attempt["durationMs"]))
    line = (
        f"  attempt {attempt['attemptNumber']}  {at}  {paint(_answer(attempt), 'green' if good else 'red')}  in {took}"
    )
    if good or not attempt["responseBody"]:
        return [line]
    body = excerpt(attempt["responseBody"], limit=_ANSWER_SHOWN)
    return [line, *(f"      {text}" for text in body.splitlines())]


def _answer(attempt: dict[str, Any]) -> str:
    status, error = attempt["statusCode"], attempt["error"]
    if not status:
        return plain(error or attempt["reason"].lower().replace("_", " "))
    known = status in http.HTTPStatus._value2member_map_
    return f"{status} {http.HTTPStatus(status).phrase}" if known else str(status)


def _outlook(delivery: dict[str, Any], *, now: datetime) -> str:
    status, tried = delivery["status"], delivery["attempts"]
    why = _REASONS.get(delivery["reason"] or "")
    if status == "DELIVERED":
        return f"Delivered {_moment(delivery['deliveredAt'], now=now)}, at attempt {tried}."
    if status == "DEAD":
        return f"Given up after {_count(tried, 'attempt')}: {why or _word(delivery['reason'])}."
    if status == "CANCELLED":
        return f"Cancelled after {_count(tried, 'attempt')}: {why or _word(delivery['reason'])}."
    next_one = f"attempt {tried + 1} of {delivery['maxAttempts']}"
    if status == "DELIVERING":
        return f"Now: {next_one} is on the wire."
    held = f" It waits: {why}." if why else ""
    if delivery["nextAttemptAt"] and datetime.fromisoformat(delivery["nextAttemptAt"]) > now:
        return f"Next: {next_one}, {_moment(delivery['nextAttemptAt'], now=now)}.{held}"
    return f"Next: {next_one}, as soon as a worker is free.{held}"


def _left_out(decisions: list[dict[str, Any]], event: dict[str, Any], *, paint: Paint) -> Iterable[str]:
    others = [decision for decision in decisions if not decision["matched"]]
    if others:
        today = "" if any(other["recorded"] for other in others) else " (as these endpoints are today)"
        yield "\n".join([f"Not sent to{today}:", *(_decision(other, event, paint=paint) for other in others)])


def _decision(decision: dict[str, Any], event: dict[str, Any], *, paint: Paint) -> str:
    endpoint = decision["endpoint"]
    if endpoint is None:
        return "  an endpoint that is gone"
    lines = [f"  {plain(endpoint['url'])}  {paint(_name(endpoint), 'dim')}"]
    lines += [f"      {plain(sentence)}" for sentence in left_out.sentences(decision, event)]
    return "\n".join(lines)


def _name(endpoint: dict[str, Any]) -> str:
    description = f", {plain(endpoint['description'])}" if endpoint["description"] else ""
    return f"endpoint {endpoint['id']}{description}"


def _word(reason: str | None) -> str:
    return (reason or "no reason is known").lower().replace("_", " ")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _moment(text: str, *, now: datetime) -> str:
    moment = datetime.fromisoformat(text)
    day = "" if moment.date() == now.date() else moment.strftime("%Y-%m-%d ")
    return f"{relative(moment, now=now)} ({day}{moment.strftime('%H:%M:%S')} UTC)"
