"""Why an endpoint did not get an event, in sentences for a person: from what explainEvent says of it."""

from __future__ import annotations

import json
from typing import Any

from relay.catalog.subscriptions import matches
from relay.cli.terminal import excerpt

_SHOWN = 300


def sentences(decision: dict[str, Any], event: dict[str, Any]) -> list[str]:
    """Return the lines that tell it; `decision` has its endpoint."""
    endpoint = decision["endpoint"]
    if decision["changedSince"]:
        return [
            *_changed(decision, event),
            f"changed at {endpoint['updatedAt']}, after the event was fanned out: see relay audit",
        ]
    return _reason(decision, event)


def _changed(decision: dict[str, Any], event: dict[str, Any]) -> list[str]:
    """What is so today; an endpoint that would get the event by now was another when it did not."""
    if decision["why"] in ("TYPE_NOT_SUBSCRIBED", "FILTERED_OUT") and _fits(decision, event):
        return ["it would get this event today"]
    return _reason(decision, event)


def _fits(decision: dict[str, Any], event: dict[str, Any]) -> bool:
    subscribed = any(matches(pattern, event["eventType"] or "") for pattern in decision["endpoint"]["eventTypes"])
    return subscribed and decision["clause"] is None and event["payload"] is not None


def _reason(decision: dict[str, Any], event: dict[str, Any]) -> list[str]:
    endpoint: dict[str, Any] = decision["endpoint"]
    why: str = decision["why"]
    if why == "FILTERED_OUT":
        return _filtered(decision)
    known = {
        "TYPE_NOT_SUBSCRIBED": f"subscribed to {', '.join(endpoint['eventTypes'])}; not to {event['eventType']}",
        "ENDPOINT_DISABLED": "it is disabled",
        "CREATED_LATER": f"made {endpoint['createdAt']}, after the event was accepted",
        "NOT_FANNED_OUT_YET": "not decided yet",
    }
    return [known.get(why, why.lower().replace("_", " "))]


def _filtered(decision: dict[str, Any]) -> list[str]:
    if decision["clause"] is None:
        return ["its filter let this event not through"]
    return [f"its filter wants {_text(decision['clause'])}", f"the event has {_text(decision['found'])} there"]


def _text(value: Any) -> str:
    return "nothing" if value is None else excerpt(json.dumps(value, ensure_ascii=False), limit=_SHOWN)
