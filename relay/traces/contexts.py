"""Which trace and span a thing of Relay is: computed from its ids, so that every process knows, whenever it asks.

An event's id is the id of its trace. See docs/decisions/0011-a-trace-is-its-event.md.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from hashlib import blake2b
from uuid import UUID

# W3C Trace Context, section 3.2: a later version may add fields, version ff is none.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SpanContext:
    """A span by the ids of its trace and its own; `sampled`: somebody wants to see it."""

    trace_id: bytes
    span_id: bytes
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The span as a W3C header."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{self.sampled:02x}"


def of_event(event_id: UUID, *, ratio: float) -> SpanContext:
    """The span under which all of an event's spans stand; that part of all events is sampled."""
    return SpanContext(event_id.bytes, _hash(b"event", event_id.bytes), _is_within(event_id.bytes, ratio))


def of_fan_out(event: SpanContext) -> SpanContext:
    """The span of an event's fan-out."""
    return replace(event, span_id=_hash(b"fan-out", event.trace_id))


def of_attempt(event: SpanContext, delivery_id: UUID, fence: int) -> SpanContext:
    """The span of one attempt: each claim of a delivery has a fence of its own, and sends once."""
    return replace(event, span_id=_hash(b"attempt", delivery_id.bytes + fence.to_bytes(8)))


def of_request(caller: SpanContext | None, *, ratio: float) -> SpanContext:
    """A new span of a request: in the caller's trace, and sampled if that is; else that part of them is."""
    if caller is not None:
        return replace(caller, span_id=secrets.token_bytes(8))
    trace_id = secrets.token_bytes(16)
    return SpanContext(trace_id, secrets.token_bytes(8), _is_within(trace_id, ratio))


def of_caller(traceparent: str | None) -> SpanContext | None:
    """The caller's span by its W3C header; None when there is none, or none that is valid."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None or (found[1] == "00" and found[5]) or not (int(found[2], 16) and int(found[3], 16)):
        return None
    return SpanContext(bytes.fromhex(found[2]), bytes.fromhex(found[3]), bool(int(found[4], 16) & 1))


def _hash(kind: bytes, of: bytes) -> bytes:
    return blake2b(of, digest_size=8, person=kind).digest()


def _is_within(id: bytes, ratio: float) -> bool:
    """By a hash, for the bits of a UUIDv7 are not random: neither its time, nor within a millisecond the rest."""
    return int.from_bytes(_hash(b"sample", id)) < ratio * 2**64
