"""Relay with keys asked for, as processes of its own: what an operator runs, restarts and reads the logs of."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.settings import Settings
from relay.up.development import free_port
from tests.running import Running, environment, until, web, worker

CREATE = (
    """mutation($input: CreateEndpointInput!) { createEndpoint(input: $input) { secret endpoint { id publicKey } } }"""
)


@dataclass
class Site:
    """A web process and a worker with these settings, and every answer that was given but those marked as `once`."""

    settings: Settings
    folder: Path
    key: str
    running: list[Running] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    url: str = ""

    async def start(self, **changes: str) -> None:
        """Start both with these changes, wait until they work, and only then end those before them."""
        before, port = self.running, free_port()
        settings = self.settings.model_copy(update={"port": port, **changes})
        names = [f"{kind}-{len(self.logs)}.log" for kind in ("web", "worker")]
        self.logs += [self.folder / name for name in names]
        self.running = [web(settings, self.logs[-2]), worker(settings, self.logs[-1])]
        url = f"http://127.0.0.1:{port}"
        await asyncio.to_thread(self._until_ready, url)
        self.url = url
        for process in before:
            assert await asyncio.to_thread(process.stop) == 0, process.text()

    def _until_ready(self, url: str) -> None:
        def ready() -> bool:
            try:
                return urllib.request.urlopen(f"{url}/health/ready", timeout=5).status == 200
            except OSError:
                return False

        asyncio.run(until(ready, 30, what="a web process"))

    def kill(self) -> None:
        """End everything, and show what was logged."""
        for process in self.running:
            process.kill()
        print("\n".join(log.read_text(errors="replace")[-4000:] for log in self.logs))

    def ask(self, path: str, body: bytes, **headers: str) -> bytes:
        """Send a request, good or bad, and keep its answer."""
        answer = self.once(path, body, **headers)
        self.answers.append(answer)
        return answer

    def once(self, path: str, body: bytes, **headers: str) -> bytes:
        """Send a request whose answer may show a secret: the one time it is shown."""
        given = {"Content-Type": "application/json", "X-API-Key": self.key}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, data=body, headers=given)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.read()
        except urllib.error.HTTPError as refused:
            return refused.read()

    def data(self, query: str, **variables: Any) -> Any:
        """The data of an operation that shows a secret once."""
        answer = json.loads(self.once("/graphql", _operation(query, variables)))
        assert "errors" not in answer, answer
        return answer["data"]

    def tell(self, query: str, **variables: Any) -> bytes:
        """The answer of an operation, whatever comes of it; it is kept."""
        return self.ask("/graphql", _operation(query, variables))

    def endpoint(self, url: str, **fields: Any) -> dict[str, Any]:
        """Make an endpoint: `secret`, `endpoint { id publicKey }`."""
        return self.data(CREATE, input={"url": url, "eventTypes": ["*"], **fields})["createEndpoint"]

    def send(self, payload: Any = 1, **fields: Any) -> str:
        """Send an event and return its id."""
        event = {"payload": payload, **({} if "destination" in fields else {"eventType": "order.paid"}), **fields}
        return json.loads(self.ask("/api/v1/events", json.dumps(event).encode()))["id"]


def _operation(query: str, variables: Mapping[str, Any]) -> bytes:
    return json.dumps({"query": query, "variables": variables}).encode()


def environment_of(site: Site, **changes: str) -> dict[str, str]:
    """The environment of a command on the site's machine."""
    return environment(site.settings.model_copy(update=changes))
