"""The services of the Compose file as processes of this machine: their commands, environment, checks and order.

What differs from containers: the address of each server and port, since all share one machine; the receiver's network;
Postgres is the embedded one, with the options of the file; and one run's folder stands for the volumes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from relay.processes import Command, spawn_options
from relay.up.development import free_port
from relay.up.embedded import Server, create_database, prepare_postgres
from tests.deploy.compose import seconds
from tests.deploy.dockerfile import ROOT

POSTGRES_PROGRAMS = "/usr/lib/postgresql/15/bin"
PATH = os.pathsep.join((str(Path(sys.executable).parent), POSTGRES_PROGRAMS, os.defpath))
HEALTHY_S = 60.0


class Composed:
    """A project, as `up` would run it, with as many of a service as `scale` says."""

    def __init__(self, project: dict[str, Any], folder: Path, **scale: int) -> None:
        self.services, self.folder, self.scale = project["services"], folder, scale
        self.postgres = prepare_postgres(folder, options=options_of(self.services["postgres"]["command"]))
        self.ports = {name: free_port() for name in self.services}
        self.ports["postgres"] = urlsplit(self.postgres.url).port or 0
        self.started: list[Instance] = []

    def up(self) -> None:
        """Start all, each when what it depends on is as it wants it."""
        needs = {name: service.get("depends_on", {}) for name, service in self.services.items()}
        for name in TopologicalSorter(needs).static_order():
            for needed, how in needs[name].items():
                for instance in self.of(needed):
                    instance.await_condition(how["condition"])
            for number in range(self.scale.get(name, 1)):
                self.started.append(Instance(self, name, number=number))
            if name == "postgres":
                self.of(name)[0].await_condition("service_healthy")
                _make_database(self.postgres, self.services[name]["environment"])

    def of(self, name: str) -> list[Instance]:
        """The instances of a service."""
        return [instance for instance in self.started if instance.name == name]

    def stop(self) -> dict[str, int]:
        """End all, the servers last, and return each one's exit code; one that took too long has -9."""
        needed = {name for service in self.services.values() for name in service.get("depends_on", {})}
        codes: dict[str, int] = {}
        for group in (self.services.keys() - needed, needed):
            ending = [instance for name in group for instance in self.of(name)]
            for instance in ending:
                instance.ask_to_end()
            codes |= {f"{instance.name}{instance.number}": instance.wait() for instance in ending}
        return codes

    def kill(self) -> None:
        for instance in self.started:
            instance.process.kill()
            instance.process.wait(10)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"


class Instance:
    """One container that is a process."""

    def __init__(self, project: Composed, name: str, *, number: int) -> None:
        self.name, self.number, self.service = name, number, project.services[name]
        self.port = project.ports[name] if number == 0 else free_port()
        self.log = project.folder / f"{name}{number}.log"
        self.environment = {"PATH": PATH, **self._settings(project)}
        self.command = self._command(project)
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self.command.argv, stdout=output, stderr=output, **spawn_options(self.command)
            )

    def is_healthy(self) -> bool:
        """Whether the file's health check says so."""
        kind, *words = self.service["healthcheck"]["test"]
        if kind == "CMD-SHELL":  # redis-cli is told its port in no other way
            words = ["sh", "-c", words[0].replace("redis-cli", f"redis-cli -p {self.port}")]
        environment = self.environment | {"PGPORT": str(self.port)}
        timeout_s = seconds(self.service["healthcheck"]["timeout"])
        try:
            done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def await_condition(self, condition: str) -> None:
        """Wait for what a `depends_on` asks for."""
        if condition == "service_completed_successfully":
            assert self.process.wait(HEALTHY_S) == 0, self.text()
            return
        assert condition == "service_healthy"
        deadline = time.monotonic() + HEALTHY_S
        while not self.is_healthy():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def ask_to_end(self) -> None:
        """Send what `stop` sends."""
        self.process.send_signal(self.command.stop_signal)

    def wait(self) -> int:
        """Give it the file's grace, kill it after that, and return the exit code."""
        try:
            return self.process.wait(seconds(self.service.get("stop_grace_period", "10s")))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def _settings(self, project: Composed) -> dict[str, str]:
        """The file's, with addresses of this machine in place of those of the project's network."""
        given: dict[str, str] = self.service.get("environment", {})
        settings = {name: _moved(value, project.ports) for name, value in given.items()}
        if "ALLOWED_PRIVATE_NETWORKS" in settings:
            settings["ALLOWED_PRIVATE_NETWORKS"] += ",127.0.0.0/8"
        here = {"api": "PORT", "worker": "METRICS_PORT"}
        return settings | ({here[self.name]: str(self.port)} if self.name in here else {})

    def _command(self, project: Composed) -> Command:
        words: list[str] = self.service["command"]
        if self.name == "postgres":
            return project.postgres.command
        if self.name == "redis":
            words = [*words, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(project.folder)]
        program = shutil.which(words[0], path=PATH)
        assert program is not None, words[0]
        return Command(self.name, (program, *words[1:]), ROOT, self.environment)


def _moved(value: str, ports: dict[str, int]) -> str:
    """A value with every `service:port` in it where that service is here."""
    for service, port in ports.items():
        value = re.sub(rf"(//|@){service}:\d+", rf"\g<1>127.0.0.1:{port}", value)
    return value


def options_of(command: list[str]) -> dict[str, str]:
    """The settings of `postgres -c name=value …`."""
    assert command[0] == "postgres"
    assert set(command[1::2]) == {"-c"}
    return dict(word.split("=", 1) for word in command[2::2])


def _make_database(server: Server, environment: dict[str, str]) -> None:
    """What the image of Postgres does at its first start; the embedded one has the same user, by another password."""
    assert urlsplit(server.url).username == environment["POSTGRES_USER"]
    assert urlsplit(server.url).path == f"/{environment['POSTGRES_DB']}"
    assert create_database(server) is None
    with psycopg.connect(server.url, autocommit=True) as conn:
        password = sql.Literal(environment["POSTGRES_PASSWORD"])
        conn.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(password))
