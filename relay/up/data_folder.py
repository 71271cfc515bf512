"""The data folder of `relay up`: its lock, its signing key, and a small state file that other commands read.

Only the folder's owner can read what stands in it; one `relay up` at a time uses it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from pathlib import Path
from typing import IO

from relay.settings import SettingsError


def open_folder(path: Path) -> IO[str]:
    """Make the folder where needed and lock it until the returned file is closed or the process is gone."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        lock = (path / "lock").open("a", encoding="utf-8")
    except OSError as cause:
        raise SettingsError(f"RELAY_DATA_DIR: {path} cannot be used ({cause.strerror}).") from cause
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as cause:
        lock.close()
        raise SettingsError(
            f"RELAY_DATA_DIR: another `relay up` is using {path}; stop it or name another folder."
        ) from cause
    return lock


def signing_key(path: Path) -> str:
    """The SIGNING_KEY of this folder, made at the first start and kept: stored secrets cannot be read without it."""
    file = path / "signing_key"
    if not file.exists():
        scratch = path / "signing_key.new"
        scratch.unlink(missing_ok=True)
        _write_private(scratch, secrets.token_urlsafe(48))
        scratch.replace(file)
    return file.read_text(encoding="utf-8").strip()


def embedded_urls(data_dir: Path) -> dict[str, str]:
    """DATABASE_URL, REDIS_URL and RELAY_URL of the `relay up` that last used this data folder; empty where none did."""
    return {name: value for name, value in recall(data_dir).items() if name.endswith("_URL")}


def recall(data_dir: Path) -> dict[str, str]:
    """Everything the data folder's state file holds; empty where there is none."""
    try:
        return json.loads((data_dir / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as cause:
        raise SettingsError(f"{data_dir / 'state.json'} is damaged; remove it and start again.") from cause


def remember(data_dir: Path, **values: str) -> None:
    """Add to what the data folder's state file holds; the file is replaced whole and only its owner can read it."""
    state = recall(data_dir) | values
    path = data_dir / "state.json"
    scratch = path.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    _write_private(scratch, json.dumps(state, indent=1))
    scratch.replace(path)


def forget(data_dir: Path, *names: str) -> None:
    """Take names out of the state file: what does not run any more."""
    state = recall(data_dir)
    if state.keys() & set(names):
        (data_dir / "state.json").unlink()
        remember(data_dir, **{name: value for name, value in state.items() if name not in names})


def keep_port(data_dir: Path, name: str) -> int:
    """The port that this name had at the last start where it is still free, otherwise another, kept for the next."""
    for wanted in (int(recall(data_dir).get(name, "0")), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            remember(data_dir, **{name: str(port)})
            return port
    raise SettingsError("No free port on 127.0.0.1 is left for the embedded servers.")


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
