"""Accepting events as clients write them: what GraphQL's mutations and the REST intake have in common."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from relay import metrics
from relay.catalog import adhoc
from relay.catalog.type_rules import TypeRules
from relay.errors import Invalid, RelayError
from relay.intake.accept import Accepted, NewEvent
from relay.intake.specs import CreateEventSpec, SendEventSpec, is_json
from relay.runtime import Web

MAX_BATCH = 1_000
_MAX_DESTINATIONS = 10_000
_UNKNOWN = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Request:
    """One event as a client wrote it: its fields by name, and the bytes of its payload."""

    fields: Mapping[str, Any]
    payload: bytes
    #: An idempotency key that came beside the fields.
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that is stored, and what it was asked to be."""

    event: NewEvent
    accepted: Accepted


class Spans(Protocol):
    """Makes traces of what was sent (`api.tracing`)."""

    def accepted(self, results: Sequence[Sent | RelayError], *, since_ns: int) -> None:
        """Hear what became of a request that came at that time."""
        ...


class Sending:
    """Checks and accepts events; knows the hidden endpoints of the URLs it was sent lately."""

    def __init__(self, web: Web, *, spans: Spans | None = None) -> None:
        self._web = web
        self._spans = spans
        #: What its clients' event types mean for what is sent and shown.
        self.types = TypeRules(web.db)
        self._destinations: OrderedDict[tuple[UUID, str], UUID] = OrderedDict()

    async def send(self, tenant_id: UUID, request: Request) -> Sent:
        """Accept one event and return it after the commit that holds it. Raises what is wrong with it."""
        (result,) = await self.send_all(tenant_id, [request])
        if isinstance(result, RelayError):
            raise result
        return result

    async def check(self, tenant_id: UUID, request: Request) -> NewEvent:
        """Return the event that sending this would store; nothing is. Raises what is wrong with it."""
        event = await self._checked(tenant_id, request)
        if isinstance(event, RelayError):
            raise event
        return event

    async def send_all(self, tenant_id: UUID, requests: Sequence[Request]) -> list[Sent | RelayError]:
        """Accept each event on its own, in the order given, with one commit. Raises Invalid for too many."""
        started_ns = time.time_ns() if self._spans else 0
        try:
            results = await self._send_all(tenant_id, requests)
        except RelayError as error:
            metrics.REFUSED.labels(error.code.lower()).inc(len(requests))
            raise
        for reason, n in Counter(one.code.lower() for one in results if isinstance(one, RelayError)).items():
            metrics.REFUSED.labels(reason).inc(n)
        metrics.REPEATED.inc(sum(isinstance(one, Sent) and one.accepted.duplicate for one in results))
        if self._spans is not None:
            self._spans.accepted(results, since_ns=started_ns)
        return results

    async def _send_all(self, tenant_id: UUID, requests: Sequence[Request]) -> list[Sent | RelayError]:
        if len(requests) > MAX_BATCH:
            raise Invalid(f"At most {MAX_BATCH} events may be sent at once; here are {len(requests)}.")
        checked = [await self._checked(tenant_id, request) for request in requests]
        events = [event for event in checked if isinstance(event, NewEvent)]
        receipts = iter(await self._web.collector.accept(events) if events else [])
        results: list[Sent | RelayError] = []
        for event in checked:
            receipt = next(receipts) if isinstance(event, NewEvent) else event
            if isinstance(event, NewEvent) and isinstance(receipt, Accepted):
                results.append(Sent(event, receipt))
            elif isinstance(receipt, RelayError):
                results.append(receipt)
        return results

    async def _checked(self, tenant_id: UUID, request: Request) -> NewEvent | RelayError:
        limit = self._web.settings.max_payload_bytes
        try:
            if "destination" not in request.fields:
                sent = SendEventSpec(**request.fields)
                rule = self.types.check(tenant_id, sent.event_type)
                event = sent.to_event(tenant_id, request.payload, max_payload_bytes=limit, idempotency_key=request.key)
                if rule is not None and rule.revision is not None:
                    is_text = is_json(event.content_type)
                    await self.types.fit(rule, sent.event_type, event.payload, is_json=is_text)
                return event
            spec = CreateEventSpec(**request.fields)
            event = spec.to_event(
                tenant_id,
                request.payload,
                endpoint_id=_UNKNOWN,
                max_payload_bytes=limit,
                idempotency_key=request.key,
            )
            # Last, because it makes the endpoint: what is refused must leave nothing behind.
            return replace(event, endpoint_id=await self._endpoint(tenant_id, spec.destination))
        except RelayError as error:
            return error

    async def _endpoint(self, tenant_id: UUID, url: str) -> UUID:
        known = self._destinations.get((tenant_id, url))
        if known is not None:
            self._destinations.move_to_end((tenant_id, url))
            return known
        async with self._web.db.transaction() as conn:
            id = await adhoc.ensure(conn, tenant_id, url, id=self._web.ids(), guard=self._web.guard)
        self._destinations[tenant_id, url] = id
        if len(self._destinations) > _MAX_DESTINATIONS:
            self._destinations.popitem(last=False)
        return id
