"""What `relay up` prints when everything answers: where things are, and three lines to paste."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from relay.settings import Settings

_EVENT = '{"eventType":"user.created","payload":{"id":1}}'


def welcome(settings: Settings, *, url: str, data_dir: Path, metrics_url: str | None, client_secret: str | None) -> str:
    """The block of text; `url` is where this machine reaches the API, `client_secret` the new client's, to be seen once."""
    places = [("API", f"{url}/graphql"), ("Events", f"POST {url}/api/v1/events")]
    if settings.enable_playground:
        places.insert(0, ("Playground", f"{url}/playground"))
    if metrics_url is not None:
        places.append(("Metrics", f"{metrics_url}/metrics"))
    places.append(("Data", _short(data_dir)))
    if client_secret is not None:
        places.append(
            ("Secret", f"{client_secret}\n  {'':<12}(shown this once: signs what is sent to a `destination`)")
        )
    relay = _prefix(data_dir) + shlex.quote(_short(_relay_command()))
    key = " -H 'X-API-Key: YOUR_KEY'" if settings.auth_enabled else ""
    with_key = " --key YOUR_KEY" if settings.auth_enabled else ""
    steps = [
        f"{relay} listen{with_key}",
        f"curl -s {url}/api/v1/events -H 'Content-Type: application/json'{key} -d '{_EVENT}'",
        f"{relay} why EVENT_ID{with_key}",
    ]
    if settings.auth_enabled:
        steps.insert(0, f"{relay} apikey create --tenant demo")
    lines = ["", f"Relay is running: {url}", ""]
    lines += [f"  {name:<12}{place}" for name, place in places]
    lines += ["", "Try it in a second terminal: listen, send an event from a third, then ask what became of it."]
    lines += ["", *(f"  {step}" for step in steps), "", "Ctrl-C here stops everything; the data stays.", ""]
    return "\n".join(lines)


def _relay_command() -> Path:
    """The `relay` of this Python: the path that works in a terminal whatever its PATH is."""
    return Path(sys.executable).parent / "relay"


def _short(path: Path) -> str:
    """The path as seen from here where that is shorter and leads down."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _prefix(data_dir: Path) -> str:
    """What other terminals must be told when the data folder is not the usual one."""
    if data_dir == Path.cwd() / ".relay":
        return ""
    return f"RELAY_DATA_DIR={shlex.quote(os.fspath(data_dir))} "
