"""A client of a running Relay that sends exactly the bytes it is told to, and keeps exactly those that come back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import urllib3

CONNECTIONS = 128
CREATE_ENDPOINT = """mutation($input: CreateEndpointInput!) {
  createEndpoint(input: $input) { secret endpoint { id } } }"""
STORY = """query($id: ID!) { event(id: $id) { status attempts
  deliveries { id status reason attempts destination endpoint { id } } } }"""


@dataclass(frozen=True)
class Answer:
    """A response, its headers' names in lower case; a trace of Relay's own code must never be in one."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __post_init__(self) -> None:
        assert b"Traceback" not in self.body
        assert b'.py"' not in self.body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The one error: of REST as it is, of GraphQL with its code and field beside the message."""
        if "error" in self.json:
            return self.json["error"]
        (error,) = self.json["errors"]
        return {"message": error["message"], "field": None, **error["extensions"]}


@dataclass(frozen=True)
class Made:
    """An endpoint that was created, and the secret that signs what it gets."""

    id: str
    secret: str


class Client:
    """Talks to one Relay with one key; safe to use from many threads."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        self.url, self.key = url, key
        self._http = urllib3.PoolManager(maxsize=CONNECTIONS, block=True, retries=False, timeout=30)

    def close(self) -> None:
        self._http.clear()

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request; an underscore in a header's name stands for a hyphen."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        key = {} if self.key is None else {"X-API-Key": self.key}
        response = self._http.request(
            method, self.url + path, body=body, headers={"Content-Type": "application/json", **key, **given}
        )
        received = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, received, response.data)

    def post(self, path: str, body: bytes | dict[str, Any], **headers: str) -> Answer:
        return self.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), **headers)

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def ask(self, query: str, **variables: Any) -> Answer:
        """Run a GraphQL operation, whatever comes of it."""
        return self.post("/graphql", {"query": query, "variables": variables})

    def data(self, query: str, **variables: Any) -> Any:
        """The data of an operation without errors."""
        answer = self.ask(query, **variables)
        assert answer.status == 200, answer.body
        assert "errors" not in answer.json, answer.body
        return answer.json["data"]

    def endpoint(self, url: str, **fields: Any) -> Made:
        """Make an endpoint; `fields` are those of CreateEndpointInput."""
        made = self.data(CREATE_ENDPOINT, input={"url": url, "eventTypes": ["*"], **fields})["createEndpoint"]
        return Made(made["endpoint"]["id"], made["secret"])

    def send(self, event_type: str = "order.paid", payload: Any = 1, **fields: Any) -> str:
        """Send one event through the REST intake and return its id."""
        answer = self.post("/api/v1/events", {"eventType": event_type, "payload": payload, **fields})
        assert answer.status == 202, answer.body
        return answer.json["id"]

    def send_batch(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send many events in one request; one result each."""
        answer = self.post("/api/v1/events/batch", {"events": events})
        assert answer.status == 200, answer.body
        return answer.json["results"]

    def story(self, event_id: str) -> dict[str, Any]:
        """An event's status with its deliveries."""
        return self.data(STORY, id=event_id)["event"]
