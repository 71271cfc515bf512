"""`relay up`: the whole system on one machine, started, watched over and stopped by one command.

What is not given (DATABASE_URL, REDIS_URL, SIGNING_KEY) it brings itself, in a data folder. Its defaults are those of a
developer's machine: nothing but this machine can reach it, and keys are not asked for.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from relay import redis_urls
from relay.catalog.secrets import Vault
from relay.errors import Unavailable
from relay.migrate import migrate
from relay.processes import Command
from relay.redis_modes import refuse_wrong_redis
from relay.settings import Settings, SettingsError, read_settings
from relay.tenancy import tenants
from relay.up import development
from relay.up.data_folder import forget, open_folder, remember, signing_key
from relay.up.embedded import Server, create_database, postgres_refusal, prepare_postgres, prepare_valkey, redis_refusal
from relay.up.supervisor import Child, Log
from relay.up.welcome import welcome

_START_TIMEOUT_S = 60.0
_SERVER_GRACE_S = 10.0
_PATIENCE_S = 3.0  # beyond SHUTDOWN_GRACE_S, so that the processes' own deadline comes first
_DEATHS_ALLOWED = 3
_LOOK_EVERY_S = 0.05
# Stand in while the settings are checked, before the embedded servers have their ports.
_TO_COME = {"DATABASE_URL": "postgresql://to-come", "REDIS_URL": "redis://to-come"}


@dataclass(frozen=True, slots=True)
class Options:
    """Where `relay up` keeps its data and which processes it starts."""

    data_dir: Path
    procfile: Path


def up(options: Options, environ: Mapping[str, str]) -> int:
    """Run until told to stop and return the exit code; raise SettingsError, with nothing left running, if it cannot."""
    lock = open_folder(options.data_dir)
    try:
        return asyncio.run(_Run(options, environ).run())
    finally:
        lock.close()


class _Run:
    """One `relay up`, from its first check to the end of its last child."""

    def __init__(self, options: Options, environ: Mapping[str, str]) -> None:
        self._data_dir = options.data_dir.resolve()
        self._procfile = options.procfile
        self._log = Log()
        self._servers: list[Child] = []
        self._processes: list[Child] = []
        self._told_to_stop = asyncio.Event()
        self._grace_s = _SERVER_GRACE_S
        self._environment = development.with_defaults(environ)
        self._environment["RELAY_DATA_DIR"] = str(self._data_dir)

    async def run(self) -> int:
        """Start all, wait to be told to stop, stop all; return the exit code."""
        self._listen_for_signals()
        await self._check()
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._told_to_stop.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await stopping
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.wait((starting,))
            await self._stop_all()
        return 0

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self._told_to_stop.is_set():
            for child in self._processes:
                child.kill()
            return
        self._log.line("relay", "stopping; once more: at once")
        self._told_to_stop.set()

    async def _check(self) -> None:
        """Refuse here, before anything is started, whatever can be refused."""
        environment = self._environment
        forget(self._data_dir, "DATABASE_URL", "REDIS_URL", "RELAY_URL")
        if not development.is_given(environment, "SIGNING_KEY"):
            environment["SIGNING_KEY"] = signing_key(self._data_dir)
        missing = {name: url for name, url in _TO_COME.items() if not development.is_given(environment, name)}
        settings = read_settings({**environment, **missing})
        if settings.log_format == "auto" and sys.stdout.isatty():
            environment["LOG_FORMAT"] = "pretty"  # the processes to come write into a pipe
        development.check_exposure(settings)
        development.check_port(settings)
        development.procfile_commands(self._procfile, environment)
        servers = [
            ("DATABASE_URL", settings.database_url, urlsplit(settings.database_url).hostname, postgres_refusal),
            ("REDIS_URL", settings.redis_url, redis_urls.parse(settings.redis_url).places, redis_refusal),
        ]
        for name, url, place, refusal in servers:
            if name not in missing and (reason := await asyncio.to_thread(refusal, url)) is not None:
                raise SettingsError(f"{name}: no answer from {place} ({reason}).")
        if "REDIS_URL" not in missing:
            await asyncio.to_thread(refuse_wrong_redis, settings)
        self._grace_s = settings.shutdown_grace_s + _PATIENCE_S
        self._choose_metrics_port(settings)

    def _choose_metrics_port(self, settings: Settings) -> None:
        """A taken METRICS_PORT is no reason to stop: nobody needs it to deliver."""
        if settings.metrics_port == 0 or development.bind_problem("127.0.0.1", settings.metrics_port) is None:
            return
        chosen = "0" if development.is_given(self._environment, "METRICS_PORT") else str(development.free_port())
        self._environment["METRICS_PORT"] = chosen
        instead = "there will be no metrics page" if chosen == "0" else f"using {chosen}"
        self._log.line("relay", f"METRICS_PORT {settings.metrics_port} is taken by another program; {instead}")

    async def _start(self) -> None:
        await self._start_servers()
        settings = read_settings(self._environment)
        applied = await asyncio.to_thread(migrate, settings.database_url)
        if applied:
            self._log.line("relay", f"database brought up to date: {', '.join(applied)}")
        secret = None if settings.auth_enabled else await _one_client(settings)
        url = development.local_url(settings)
        metrics_url = f"http://127.0.0.1:{settings.metrics_port}" if settings.metrics_port else None
        remember(self._data_dir, RELAY_URL=url)
        for command in development.procfile_commands(self._procfile, self._environment):
            await self._add(command, self._processes)
        for child in self._processes:
            base = {"web": url, "worker": metrics_url}.get(child.command.name)
            if base is not None:
                await self._until(partial(development.page_refusal, f"{base}/health/ready"), child=child)
        self._log.block(
            welcome(settings, url=url, data_dir=self._data_dir, metrics_url=metrics_url, client_secret=secret)
        )

    async def _start_servers(self) -> None:
        """Start the embedded servers that stand in for what was not given, both at once."""
        started: list[tuple[Child, Server, Callable[[], str | None]]] = []
        if not development.is_given(self._environment, "DATABASE_URL"):
            server = await asyncio.to_thread(prepare_postgres, self._data_dir)
            self._environment["DATABASE_URL"] = server.url
            started.append((await self._add(server.command, self._servers), server, partial(create_database, server)))
        if not development.is_given(self._environment, "REDIS_URL"):
            server = await asyncio.to_thread(prepare_valkey, self._data_dir)
            self._environment["REDIS_URL"] = server.url
            started.append((await self._add(server.command, self._servers), server, partial(redis_refusal, server.url)))
        for child, server, refusal in started:
            await self._until(refusal, child=child)
            name = "DATABASE_URL" if server.command.name == "postgres" else "REDIS_URL"
            remember(self._data_dir, **{name: server.url})

    async def _add(self, command: Command, group: list[Child]) -> Child:
        child = Child(command, self._log)
        group.append(child)
        await child.start()
        return child

    async def _until(self, refusal: Callable[[], str | None], *, child: Child) -> None:
        """Wait until `refusal` has nothing to say any more; give up on a child that keeps dying or takes too long."""
        name = child.command.name
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_TIMEOUT_S
        while (reason := await asyncio.to_thread(refusal)) is not None:
            if child.deaths >= _DEATHS_ALLOWED:
                raise Unavailable(f"{name} ended {child.deaths} times while starting; its lines above say why.")
            if loop.time() > deadline:
                raise Unavailable(f"{name} did not get ready in {_START_TIMEOUT_S:g} s ({reason}).")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _stop_all(self) -> None:
        """Stop what takes work first and what it needs last."""
        for child in self._processes:
            await child.stop(grace_s=self._grace_s)
        for server in reversed(self._servers):
            await server.stop(grace_s=_SERVER_GRACE_S)
        forget(self._data_dir, "DATABASE_URL", "REDIS_URL", "RELAY_URL")


async def _one_client(settings: Settings) -> str | None:
    """Make the client that everything belongs to without keys; return its secret if it is new."""
    async with await psycopg.AsyncConnection.connect(settings.database_url) as conn:
        _, secret = await tenants.ensure(conn, tenants.DEFAULT_NAME, vault=Vault.of(settings))
        return secret
