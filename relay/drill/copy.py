"""The throw-away copy of the system that a drill breaks: servers of its own behind proxies, two web services, two workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from relay.catalog import endpoints
from relay.catalog.endpoints import EndpointSpec
from relay.catalog.secrets import Vault
from relay.db import Database
from relay.delivery.addresses import guard_of
from relay.drill.proxy import Proxy
from relay.errors import Unavailable
from relay.ids import Uuid7
from relay.migrate import migrate
from relay.processes import Command
from relay.settings import Settings, SettingsError, read_settings
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import CLIENT_SCOPES
from relay.up import development
from relay.up.data_folder import signing_key
from relay.up.embedded import Server, create_database, prepare_postgres, prepare_valkey, redis_refusal
from relay.up.supervisor import Child, Log

_START_TIMEOUT_S = 60.0
_GRACE_S = 35.0
_LOOK_EVERY_S = 0.1
_SERVERS = ("DATABASE_URL", "REDIS_URL", "REDIS_STATE_URL", "DATABASE_REPLICA_URL")
WEBS = ("web-1", "web-2")
WORKERS = ("worker-1", "worker-2")


def refuse_real_servers(environ: Mapping[str, str]) -> None:
    """Raise SettingsError where servers are given: a drill must not get near anything that somebody uses."""
    for name in _SERVERS:
        if development.is_given(environ, name):
            raise SettingsError(
                f"{name} is set: a drill breaks what it runs on, so it starts servers of its own; unset it."
            )


class FileLog(Log):
    """The lines of all processes, in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("a", encoding="utf-8")

    def block(self, text: str) -> None:
        """Write text as it is."""
        self._file.write(text + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Backend:
    """Postgres or Valkey, behind a proxy: `url` is where the copy finds it."""

    def __init__(self, server: Server, log: Log, refusal: Callable[[], str | None]) -> None:
        self.server = server
        self.proxy = Proxy(urlsplit(server.url).port or 0)
        self.url = ""
        self._log = log
        self._refusal = refusal
        self._child = Child(server.command, log)

    async def open(self) -> None:
        """Start it and its proxy, once."""
        parts = urlsplit(self.server.url)
        self.url = self.server.url.replace(f":{parts.port}/", f":{await self.proxy.start()}/")
        await self.start()

    async def start(self) -> None:
        """Start it where it does not run, and wait until it answers."""
        self._child = Child(self.server.command, self._log)
        await self._child.start()
        await until(self._refusal, what=self.server.command.name)

    async def stop(self) -> None:
        """End it in order."""
        await self._child.stop(grace_s=_GRACE_S)

    async def crash(self) -> None:
        """End it by SIGKILL; it stays away until `start`."""
        self._child.kill()
        await self._child.stop(grace_s=0)


@dataclass(frozen=True, slots=True)
class Entry:
    """How a producer reaches the copy."""

    urls: tuple[str, ...]
    key: str


class Copy:
    """All of Relay in a folder of its own, each process to be ended, started and given another environment by name."""

    def __init__(self, folder: Path, procfile: Path, environ: Mapping[str, str]) -> None:
        """`folder` is empty; what is not said in `environ` has production's defaults."""
        self.folder, self._procfile = folder, procfile
        self._log = FileLog(folder / "processes.log")
        given = development.as_in_production(environ)
        self._environment = development.with_defaults({**given, "RELAY_DATA_DIR": str(folder)})
        self._environment["SIGNING_KEY"] = signing_key(folder)
        self._backends: list[Backend] = []
        self._children: dict[str, Child] = {}
        self._commands: dict[str, Command] = {}
        self._pages: dict[str, str] = {}

    async def open(self) -> None:
        """Start everything, and wait until every process is ready."""
        postgres = await asyncio.to_thread(prepare_postgres, self.folder)
        valkey = await asyncio.to_thread(prepare_valkey, self.folder)
        self.postgres = Backend(postgres, self._log, partial(create_database, postgres))
        self.redis = Backend(valkey, self._log, partial(redis_refusal, valkey.url))
        self._backends = [self.redis, self.postgres]
        await asyncio.gather(self.postgres.open(), self.redis.open())
        await asyncio.to_thread(migrate, postgres.url)
        self._environment |= {"DATABASE_URL": self.postgres.url, "REDIS_URL": self.redis.url}
        found = {one.name: one for one in development.procfile_commands(self._procfile, self._environment)}
        for name in (*WEBS, *WORKERS):
            port, metrics = str(development.free_port()), str(development.free_port())
            environment = {**self._environment, "PORT": port, "METRICS_PORT": metrics}
            self._commands[name] = replace(found[name.partition("-")[0]], name=name, environment=environment)
            self._pages[name] = f"http://127.0.0.1:{port if name in WEBS else metrics}"
        await asyncio.gather(*(self.start(name) for name in self._commands))

    async def close(self) -> None:
        """End everything that was started, what takes work first."""
        for name in list(self._children):
            await self.stop(name)
        for backend in self._backends:
            await backend.stop()
            await backend.proxy.close()
        self._log.close()

    async def enter(self, url: str, ordered: str, paths: tuple[str, ...]) -> Entry:
        """Make a client with a key, and an endpoint for each path; the one called `ordered` keeps the order of lanes."""
        settings = self.settings()
        db, ids = Database(settings, connections=1), Uuid7()
        await db.open()
        try:
            async with db.transaction() as conn:
                vault = Vault.of(settings)
                tenant, _ = await tenants.ensure(conn, "drill", vault=vault)
                _, key = await api_keys.create(conn, tenant.id, name="drill", scopes=CLIENT_SCOPES)
                for path in paths:
                    order = {"fifo": True, "fifo_partition_key": "$.lane"} if path == ordered else {}
                    fields = {"url": url + path.removeprefix("/"), "event_types": ["*"], **order}
                    spec = EndpointSpec.model_validate(fields)
                    guard = guard_of(settings)
                    await endpoints.create(conn, tenant.id, spec, id=ids(), vault=vault, guard=guard)
        finally:
            await db.close()
        return Entry(tuple(self._pages[name] for name in WEBS), key)

    def settings(self) -> Settings:
        """The settings of its processes, with the servers themselves instead of the proxies."""
        urls = {"DATABASE_URL": self.postgres.server.url, "REDIS_URL": self.redis.server.url}
        return read_settings({**self._environment, **urls})

    def connect(self) -> psycopg.Connection:
        """A connection to its Postgres, not through the proxy."""
        return psycopg.connect(self.postgres.server.url, autocommit=True)

    async def start(self, name: str, **environment: str) -> None:
        """Start a process that does not run, with this added to its environment, and wait until it is ready."""
        command = self._commands[name]
        self._children[name] = Child(replace(command, environment={**command.environment, **environment}), self._log)
        await self._children[name].start()
        await self.ready(name)

    async def stop(self, name: str) -> None:
        """End a process in order."""
        await self._children.pop(name).stop(grace_s=_GRACE_S)

    def crash(self, name: str) -> None:
        """End a process and its children by SIGKILL; it is started again, as by an orchestrator."""
        self._children[name].crash()

    def deaths(self, name: str) -> int:
        """How often a process has ended by itself since it was started here."""
        return self._children[name].deaths

    async def ready(self, name: str) -> None:
        """Wait until a process says that it is ready."""
        await until(partial(development.page_refusal, f"{self._pages[name]}/health/ready"), what=name)


async def until(refusal: Callable[[], str | None], *, what: str) -> None:
    """Wait until `refusal` has nothing to say any more; Unavailable when that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_TIMEOUT_S
    while (reason := await asyncio.to_thread(refusal)) is not None:
        if loop.time() > deadline:
            raise Unavailable(f"{what} did not get ready in {_START_TIMEOUT_S:g} s ({reason}).")
        await asyncio.sleep(_LOOK_EVERY_S)
