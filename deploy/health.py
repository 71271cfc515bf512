"""Asks the Relay process of this container how it is: exit code 0 when its page answers 200, else 1 and one sentence.

    python deploy/health.py [live|ready] [web|worker]

`live`, the default and the image's HEALTHCHECK, is 200 while the process answers at all. What replaces containers that
are unhealthy (a swarm does) must ask this one: a new container does not bring Postgres back. `ready` also wants Postgres
and its schema; docker-compose.yml asks it, where nothing is restarted for it and people look at it.

Where to ask is said by HOST, PORT and METRICS_PORT. Without a service's name, whichever of the two answers is meant: a
container holds but one. Only the standard library is used, and no proxy.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException

#: Where each service answers: the setting of its port, and the port when that is not set.
SERVICES = {"web": ("PORT", 8080), "worker": ("METRICS_PORT", 9090)}
PAGES = ("live", "ready")
# Longer than the page itself waits for Postgres, and then for Redis.
_TIMEOUT_S = 4.5
# An address to listen on that means all of them is none to connect to.
_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not listened on here


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Ask and return the exit code."""
    page = next((word for word in argv if word in PAGES), "live")
    services = [word for word in argv if word in SERVICES] or list(SERVICES)
    if set(argv) - {page, *services}:
        sys.stderr.write("usage: health.py [live|ready] [web|worker]\n")
        return 1
    refusals: list[str] = []
    for service in services:
        refusal = refusal_of(service, page, environ)
        if refusal is None:
            return 0
        refusals.append(f"{service}: {refusal}")
    sys.stderr.write("; ".join(refusals) + "\n")
    return 1


def refusal_of(service: str, page: str, environ: Mapping[str, str]) -> str | None:
    """Why this service's page does not answer 200; None when it does."""
    name, default = SERVICES[service]
    host, port = environ.get("HOST", ""), environ.get(name) or str(default)
    if port == "0":
        return f"{name} is 0, so there is no page to ask"
    try:
        with closing(HTTPConnection(_ALL.get(host, host) or "127.0.0.1", int(port), timeout=_TIMEOUT_S)) as connection:
            connection.request("GET", f"/health/{page}")
            answer = connection.getresponse()
            body = answer.read(1000).decode(errors="replace")
    except (OSError, HTTPException, ValueError) as cause:
        return f"no answer on port {port} ({cause})"
    return None if answer.status == 200 else f"{answer.status} {body}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
