"""What `relay up` decides before it starts anything: defaults for a developer's machine, addresses, the Procfile."""

from __future__ import annotations

import errno
import ipaddress
import os
import shlex
import shutil
import socket
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from relay.processes import Command
from relay.settings import Settings, SettingsError

#: What a developer's machine wants, each only where the user said nothing.
_DEFAULTS: Mapping[str, str] = {
    "AUTH_ENABLED": "false",
    "HOST": "127.0.0.1",
    "ENABLE_PLAYGROUND": "true",
    "ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
    "WEB_CONCURRENCY": "1",
    "WORKER_PROCESSES": "1",
}

#: What production has in their place, for a copy of the system on this machine; it may deliver to this machine.
_PRODUCTION: Mapping[str, str] = {
    "AUTH_ENABLED": "true",
    "ENABLE_PLAYGROUND": "false",
    "METRICS_PROVIDER": "prometheus",
    "ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8",
}

_PAGE_TIMEOUT_S = 2.0


def is_given(environ: Mapping[str, str], name: str) -> bool:
    """Whether the user set this setting, directly or by a file."""
    return name in environ or f"{name}_FILE" in environ


def with_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with development defaults for what it does not say, and this Python's commands on its PATH."""
    defaults = _left_open(environ, _DEFAULTS)
    path = os.pathsep.join((str(Path(sys.executable).parent), environ.get("PATH", os.defpath)))
    return {**environ, **defaults, "PATH": path, "PYTHONUNBUFFERED": "1"}


def as_in_production(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with production's defaults for what it does not say, so that `with_defaults` has no say in them."""
    return {**environ, **_left_open(environ, _PRODUCTION)}


def _left_open(environ: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if not is_given(environ, name)}


def check_exposure(settings: Settings) -> None:
    """Refuse to listen beyond this machine while keys are not asked for."""
    if not settings.auth_enabled and not _is_loopback(settings.host):
        raise SettingsError(
            f"HOST: with AUTH_ENABLED=false anyone who reaches {settings.host} could do anything;"
            " set AUTH_ENABLED=true or leave HOST at 127.0.0.1."
        )


def check_port(settings: Settings) -> None:
    """Refuse a PORT that another program listens on, or that may not be listened on."""
    problem = bind_problem(settings.host, settings.port)
    if problem == errno.EADDRINUSE:
        raise SettingsError(f"PORT: {settings.port} is taken by another program; set PORT to a free one.")
    if problem is not None:
        raise SettingsError(f"HOST, PORT: cannot listen on {settings.host}:{settings.port} ({os.strerror(problem)}).")


def bind_problem(host: str, port: int) -> int | None:
    """The errno of an attempt to listen there; None when it works."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as cause:
        return cause.errno
    return None


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def local_url(settings: Settings) -> str:
    """Where a program on this machine reaches the web processes."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{settings.port}"


def page_refusal(url: str) -> str | None:
    """Why a page of a process of ours does not answer 200; None when it does."""
    try:
        with urllib.request.urlopen(url, timeout=_PAGE_TIMEOUT_S):  # noqa: S310 - a page of our own child
            return None
    except OSError as cause:
        return str(cause)


def chosen_procfile(given: Path | None = None) -> Path:
    """The Procfile that is given, else the one here, else the checkout's."""
    here, checkout = Path("Procfile"), Path(__file__).parents[2] / "Procfile"
    return given or (here if here.exists() else checkout)


def procfile_commands(procfile: Path, environment: Mapping[str, str]) -> list[Command]:
    """The processes a Procfile names (`name: command`, no shell), to run in its folder."""
    try:
        text = procfile.read_text(encoding="utf-8")
    except OSError as cause:
        raise SettingsError(f"{procfile} cannot be read ({cause.strerror}); name one with --procfile.") from cause
    commands: list[Command] = []
    for line in text.splitlines():
        name, colon, command = line.partition(":")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        argv = shlex.split(command)
        if not colon or not argv:
            raise SettingsError(f"{procfile}: the line {line!r} is not of the form `name: command`.")
        program = shutil.which(argv[0], path=environment["PATH"])
        if program is None:
            raise SettingsError(f"{procfile}: the command {argv[0]} of {name.strip()} is not installed.")
        commands.append(Command(name.strip(), (program, *argv[1:]), procfile.resolve().parent, environment))
    return commands


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
