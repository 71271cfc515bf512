"""What a command knows of its surroundings: the environment, and what a running `relay up` left in its data folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from relay.settings import Settings, SettingsError, read_settings
from relay.up.data_folder import embedded_urls, signing_key
from relay.up.development import is_given


def data_dir() -> Path:
    """The folder of RELAY_DATA_DIR; `.relay` in the working directory where it is not set."""
    return Path(os.environ.get("RELAY_DATA_DIR") or ".relay").absolute()


def command_environment() -> dict[str, str]:
    """The environment, with the embedded servers' URLs and the kept SIGNING_KEY where they are not set."""
    folder = data_dir()
    found = embedded_urls(folder)
    if (folder / "signing_key").exists():
        found["SIGNING_KEY"] = signing_key(folder)
    return {name: value for name, value in found.items() if not is_given(os.environ, name)} | dict(os.environ)


def with_stand_ins(environment: Mapping[str, str], stand_ins: Mapping[str, str]) -> dict[str, str]:
    """The environment, with values for settings that must be there and are not used; those that are given stay."""
    return {name: value for name, value in stand_ins.items() if not is_given(environment, name)} | dict(environment)


def command_settings() -> Settings:
    """Settings for a command that works on the database or Redis itself; raise SettingsError where neither is known."""
    environment = command_environment()
    if not is_given(environment, "DATABASE_URL"):
        raise SettingsError(f"DATABASE_URL is not set, and no `relay up` runs with the data folder {data_dir()}.")
    return read_settings(environment)


def api_url() -> str:
    """Where the API answers: RELAY_URL, otherwise that of the running `relay up`, otherwise PORT on this machine."""
    environment = command_environment()
    return environment.get("RELAY_URL") or f"http://127.0.0.1:{environment.get('PORT', '8080')}"


def api_key() -> str | None:
    """The key that commands present to the API: RELAY_API_KEY."""
    return os.environ.get("RELAY_API_KEY") or None
