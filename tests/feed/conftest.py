"""A web process as a server runs it, and readers of its streams over real connections."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection

from relay.catalog.secrets import Vault
from relay.delivery.live import Claimed
from relay.delivery.outcomes import Delivered, Outcome
from relay.delivery.record import Attempt, Recorded
from relay.settings import Settings
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import CLIENT_SCOPES, Scope
from relay.up.development import free_port
from tests.running import Running, web


@dataclass
class Watcher:
    """One who watches: reads what comes, when asked to."""

    connection: socket.socket
    status: int
    headers: str
    rest: bytes
    last_id: str | None = None
    gaps: int = 0
    heartbeats: int = 0
    ended: bool = False
    lines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def read(self, timeout_s: float = 0.05) -> Self:
        """Take in what there is."""
        self.connection.settimeout(timeout_s)
        try:
            while True:
                more = self.connection.recv(65536)
                self.rest += more
                if not more:
                    self.ended = True
                    break
                if self.rest.endswith(b"\n\n\r\n"):
                    break
        except TimeoutError:
            pass
        except ConnectionError:
            self.ended = True
        self._parse()
        return self

    def _parse(self) -> None:
        *whole, self.rest = self.rest.split(b"\n\n")
        for event in whole:
            self.heartbeats += b": all is well" in event.splitlines()
            fields = dict(line.split(": ", 1) for line in event.decode().splitlines() if ": " in line)
            self.last_id = fields.get("id", self.last_id)
            if fields.get("event") == "gap":
                self.gaps += 1
            elif "data" in fields:
                self.lines.append(json.loads(fields["data"]))


def watch(
    url: str,
    key: str,
    query: str = "",
    *,
    after: str | None = None,
    client: object | None = None,
    buffer: int | None = None,
) -> Watcher:
    """Begin to watch; returns when the head of the answer is there."""
    parts = urlsplit(url)
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(10)
    connection.connect((parts.hostname, parts.port))
    more = "" if after is None else f"Last-Event-ID: {after}\r\n"
    more += "" if client is None else f"X-Relay-Client: {client}\r\n"
    head = f"GET /logs/stream{query} HTTP/1.1\r\nHost: relay\r\nX-API-Key: {key}\r\nAccept-Encoding: gzip\r\n{more}\r\n"
    connection.sendall(head.encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = connection.recv(4096)
        assert part, answer
        answer += part
    headers, _, rest = answer.partition(b"\r\n\r\n")
    return Watcher(connection, int(headers.split()[1]), headers.decode().lower(), rest)


@pytest.fixture
def locked(settings: Settings) -> Settings:
    """Settings with keys asked for, on a port of its own."""
    return settings.model_copy(update={"auth_enabled": True, "port": free_port()})


@pytest.fixture
def url(locked: Settings) -> str:
    return f"http://127.0.0.1:{locked.port}"


@pytest.fixture
def server(locked: Settings, tmp_path: Path) -> Iterator[Running]:
    """A running web process."""
    process = web(locked, tmp_path / "web")
    with ExitStack() as stack:
        stack.callback(process.kill)
        yield process


@pytest.fixture
async def conn(locked: Settings) -> AsyncIterator[AsyncConnection[Any]]:
    async with await AsyncConnection.connect(locked.database_url, autocommit=True) as conn:
        yield conn


async def key_of(
    conn: AsyncConnection[Any], settings: Settings, client: str, *, scopes: frozenset[Scope] = CLIENT_SCOPES
) -> tuple[Any, str]:
    """A client's id, and a key of it."""
    tenant, _ = await tenants.ensure(conn, client, vault=Vault(settings.signing_key))
    return tenant.id, (await api_keys.create(conn, tenant.id, name="test", scopes=scopes))[1]


def outcome(
    tenant_id: UUID, result: Outcome | None = None, *, type: str = "order.paid", endpoint: UUID | None = None
) -> Recorded:
    """A recorded outcome of a client."""
    claimed = Claimed(uuid4(), 1, 1, tenant_id, uuid4(), endpoint or uuid4(), 1, "", 0, 0, None, 1)  # pyright: ignore[reportArgumentType]
    result = result or Delivered()
    return Recorded(claimed, result, Attempt(result.reason, "http://nowhere/?s3cr3t", 12.34, 200), event_type=type)
