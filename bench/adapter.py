"""How an HTTP system is sent events: where they go, how they look, and what an acceptance is, as a JSON file says it.

Relay itself is described by such files: those of bench/adapters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psutil
import urllib3
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bench.plan import Plan
from bench.programs import ANY_PORT, CHECKOUT, ProgramFailed
from bench.receiver import number_in

_REFERENCE = re.compile(r"\$\{(\w+)\}")
_NUMBER, _EVENTS = '"{n}"', '"{events}"'
_SHOWN = 300


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(_Strict):
    """A POST: its URL, and its JSON with the placeholders for what changes."""

    url: str
    body: Any = "{events}"
    #: The members that lead to the list of results in the answer, one for each event, with its `error`.
    results: list[str] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.url.startswith("http://"):
            raise ValueError(f"The URL must begin with http://, and {self.url!r} does not.")
        return self


class Adapter(_Strict):
    """An HTTP system from outside; the README of the fields is docs/benchmark.md."""

    event: Any
    one: Request
    many: Request | None = None
    headers: dict[str, str] = {}
    accepted: list[int] = []
    refused_by: str = ""
    subscribe: Request | None = None
    receiver: str = ANY_PORT
    #: The processes that, with all that come from them, are the system.
    pids: list[int] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        event = _text(self.event)
        if event.count(_NUMBER) != 1 or number_in(event.replace(_NUMBER, "1").encode()) != 1:
            raise ValueError('The event must hold "n": "{n}" once: by it the receiver knows the event again.')
        if any(_text(way.body).count(_EVENTS) != 1 for way in (self.one, self.many) if way):
            raise ValueError('The body of `one` and of `many` must hold "{events}" once.')
        if gone := [pid for pid in self.pids if not psutil.pid_exists(pid)]:
            raise ValueError(f"There is no process {gone[0]}.")
        return self

    def plan(self, kinds: Sequence[tuple[str, int]], *, padding: str, batch: int) -> Plan:
        """What the generator is told: events of these types and priorities in turn, so many in a request."""
        way = self.one if batch == 1 else self.many
        if way is None:
            raise ProgramFailed("The adapter does not say how a list of events is sent (`many`).")
        address = urlsplit(way.url)
        event = _text(self.event).replace("{padding}", padding)
        opening, closing = _text(way.body).split(_EVENTS)
        return Plan(
            host=address.hostname or "127.0.0.1",
            port=address.port or 80,
            path=(address.path or "/") + (f"?{address.query}" if address.query else ""),
            headers=self.headers,
            events=[_parts(event, type_=type_, priority=priority) for type_, priority in kinds],
            opening=opening,
            closing=closing,
            batch=batch,
            accepted=self.accepted,
            refused_by=self.refused_by,
            results=way.results,
        )

    def subscribe_all(self, wanted: Sequence[tuple[str, str]]) -> None:
        """Have the system send each of these URLs the events of its type; without a `subscribe`, have a person do it."""
        if self.subscribe is None:
            print("Have the system under test send the events of these types to these URLs:")
            print("\n".join(f"  {type_}  {url}" for url, type_ in wanted))
            input("Press Enter when it does. ")
            return
        template = _text(self.subscribe.body)
        with urllib3.PoolManager(retries=False, timeout=30.0) as http:
            for url, type_ in wanted:
                body = template.replace("{receiver}", url).replace("{type}", type_)
                headers = {"Content-Type": "application/json", **self.headers}
                try:
                    answer = http.request("POST", self.subscribe.url, body=body.encode(), headers=headers)
                except urllib3.exceptions.HTTPError as cause:
                    raise ProgramFailed(f"{self.subscribe.url} does not answer: {cause}") from cause
                told = answer.data.decode(errors="replace")
                if not 200 <= answer.status < 300 or (self.refused_by and self.refused_by in told):
                    raise ProgramFailed(f"Subscribing {url} was answered with {answer.status}: {told[:_SHOWN]}")


def read(path: Path, environment: Mapping[str, str]) -> Adapter:
    """Read an adapter's file; `${NAME}` in it stands for what the environment holds."""
    try:
        return Adapter.model_validate(_resolved(json.loads(path.read_text(encoding="utf-8")), environment))
    except OSError as cause:
        raise ProgramFailed(f"{path} cannot be read: {cause.strerror}.") from cause
    except json.JSONDecodeError as cause:
        raise ProgramFailed(f"{path} is no JSON: {cause}.") from cause
    except ValidationError as cause:
        told = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'all'}: {one['msg']}" for one in cause.errors())
        raise ProgramFailed(f"{path} is no adapter: {told}") from cause


def of_relay(way: str, *, url: str, key: str) -> Adapter:
    """One of Relay's own ways in: `relay` (REST) or `relay-graphql`."""
    path = CHECKOUT / "bench" / "adapters" / f"{way}.json"
    return read(path, {"RELAY_URL": url.rstrip("/"), "RELAY_API_KEY": key})


def _resolved(value: Any, environment: Mapping[str, str]) -> Any:
    def found(reference: re.Match[str]) -> str:
        if reference[1] not in environment:
            raise ProgramFailed(f"The adapter names {reference[0]}, and the environment has no {reference[1]}.")
        return environment[reference[1]]

    match value:
        case str():
            return _REFERENCE.sub(found, value)
        case dict():
            return {name: _resolved(one, environment) for name, one in value.items()}
        case list():
            return [_resolved(one, environment) for one in value]
        case _:
            return value


def _text(template: Any) -> str:
    return json.dumps(template, ensure_ascii=False, separators=(",", ":"))


def _parts(event: str, *, type_: str, priority: int) -> tuple[str, str]:
    before, after = event.replace('"{priority}"', str(priority)).replace("{type}", type_).split(_NUMBER)
    return before, after
