"""A delivery as `relay listen` shows it: what it was, whether both signatures hold, and its body."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from relay.cli.api_client import Client
from relay.cli.terminal import Paint, iso, plain, pretty
from relay.delivery.signing import verify_relay, verify_standard
from relay.errors import RelayError
from relay.receiver import Arrival

_EVENT_TYPE = "query EventType($id: ID!) { event(id: $id) { eventType } }"
_KNOWN_TYPES = 1_000
_BODY_SHOWN = 16_384


class EventTypes:
    """Looks up the types of events that arrive: deliveries do not carry them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._types: dict[str, str | None] = {}

    def known(self, arrival: Arrival) -> str | None:
        """Return the type if this event came before; asks nobody, so that a burst is shown as fast as it comes."""
        return self._types.get(arrival.headers.get("webhook-id", ""))

    def of(self, arrival: Arrival) -> str | None:
        """Return the type, or None where the event has none, is unknown or the key may not read it."""
        id = arrival.headers.get("webhook-id")
        if id is None:
            return None
        if id not in self._types:
            if len(self._types) >= _KNOWN_TYPES:
                self._types.clear()
            self._types[id] = self._ask(id)
        return self._types[id]

    def _ask(self, id: str) -> str | None:
        try:
            event = self._client.graphql(_EVENT_TYPE, {"id": id})["event"]
        except RelayError:
            return None
        return event and event["eventType"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A delivery that arrived, and what was found out about it."""

    arrival: Arrival
    event_type: str | None
    answered: int
    standard_signature: bool
    relay_signature: bool


def check(arrival: Arrival, *, secret: str, event_type: str | None, answered: int) -> Seen:
    """Check both signatures of an arrival with the secret of its endpoint."""
    return Seen(
        arrival=arrival,
        event_type=event_type,
        answered=answered,
        standard_signature=verify_standard(arrival.headers, arrival.body, secret),
        relay_signature=verify_relay(arrival.headers, arrival.body, secret),
    )


def page(seen: Seen, *, paint: Paint) -> str:
    """Return it as a person reads it: one line on the delivery, then the body."""
    headers = seen.arrival.headers
    head = [
        paint(seen.arrival.at.astimezone().strftime("%H:%M:%S.%f")[:-3], "dim"),
        paint(plain(seen.event_type or "(no type)"), "bold"),
        f"attempt {plain(headers.get('webhook-attempt', '?'))}",
        _mark("webhook-signature", paint=paint, good=seen.standard_signature),
        _mark("X-Relay-Signature", paint=paint, good=seen.relay_signature),
        f"answered {seen.answered}",
        paint(f"event {plain(headers.get('webhook-id', '?'))}", "dim"),
    ]
    body = pretty(seen.arrival.body, limit=_BODY_SHOWN)
    return "  ".join(head) + "".join(f"\n    {line}" for line in body.splitlines())


def as_json(seen: Seen) -> dict[str, Any]:
    """Return it as a JSON object; `body` is the exact text, or `bodyBase64` where it is no UTF-8."""
    arrival = seen.arrival
    try:
        body = {"body": arrival.body.decode()}
    except UnicodeDecodeError:
        body = {"bodyBase64": base64.b64encode(arrival.body).decode()}
    attempt = arrival.headers.get("webhook-attempt", "")
    return {
        "receivedAt": iso(arrival.at),
        "eventId": arrival.headers.get("webhook-id"),
        "eventType": seen.event_type,
        "attempt": int(attempt) if attempt.isascii() and attempt.isdigit() else None,
        "standardSignature": seen.standard_signature,
        "relaySignature": seen.relay_signature,
        "answered": seen.answered,
        "headers": arrival.headers,
        **body,
    }


def _mark(name: str, *, paint: Paint, good: object) -> str:
    return paint(f"\N{CHECK MARK} {name}", "green") if good else paint(f"\N{BALLOT X} {name}", "red")
