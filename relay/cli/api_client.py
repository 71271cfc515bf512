"""The commands' way to a running Relay: GraphQL, the REST intake and plain pages, over urllib3.

Whatever goes wrong becomes one of the seven errors with a sentence for the person at the terminal.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3

from relay.cli.environment import api_key, api_url
from relay.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    RelayError,
    Throttled,
    Unauthenticated,
    Unavailable,
)

_ERRORS: dict[str, type[RelayError]] = {
    kind.code: kind for kind in (Invalid, Unauthenticated, Forbidden, NotFound, Conflict, Throttled, Unavailable)
}
_CONNECT_S = 5.0
_READ_S = 30.0


class Client:
    """One Relay, seen from outside; safe to use from several threads."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        """`key` is an API key, sent with every request; `Invalid` is raised for an address that is no http URL."""
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise Invalid(f"Relay's address must start with http:// or https://, and {url!r} does not.")
        self._headers = {"Content-Type": "application/json", **_key_header(key)}
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S), retries=False, maxsize=8
        )

    def graphql(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run one operation and return its data; the first error of the answer is raised."""
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        answer = self._json(self._request("POST", "/graphql", body=body))
        if answer.get("errors"):
            first = answer["errors"][0]
            raise _error({"message": first.get("message"), **(first.get("extensions") or {})})
        return answer["data"]

    def post_event(self, body: bytes, *, idempotency_key: str | None = None) -> tuple[dict[str, Any], bool]:
        """Hand one event (a JSON object's bytes) to the intake; return its answer and whether it repeats an old one."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        response = self._request("POST", "/api/v1/events", body=body, headers=headers)
        return self._json(response), response.status == 200

    def text(self, path: str) -> str:
        """Return the text of one page."""
        response = self._request("GET", path)
        if response.status != 200:
            self._json(response)
            raise self._stranger(response)
        return response.data.decode(errors="replace")

    @contextmanager
    def stream(self, path: str, *, silence_s: float, headers: dict[str, str]) -> Iterator[Iterator[bytes]]:
        """Lend what a page that goes on sends, as it comes; raises Unavailable when it ends or says nothing for so long."""
        timeout = urllib3.Timeout(connect=_CONNECT_S, read=silence_s)
        with self._translated():
            response = self._http.request(
                "GET",
                self.url + path,
                headers={**self._headers, **headers},
                timeout=timeout,
                preload_content=False,
            )
            try:
                if response.status != 200:
                    self._json(response)
                    raise self._stranger(response)
                yield response.stream()
            finally:
                response.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Make of what urllib3 raises a sentence for the person at the terminal."""
        try:
            yield
        except (urllib3.exceptions.LocationValueError, UnicodeError) as cause:
            raise Invalid(f"{self.url} is not an address that can be asked ({cause}).") from cause
        except urllib3.exceptions.ReadTimeoutError as cause:
            raise Unavailable(f"{self.url} took the request and did not answer within {_READ_S:.0f} s.") from cause
        except urllib3.exceptions.SSLError as cause:
            raise Unavailable(f"{self.url} could not be trusted ({cause}).") from cause
        except urllib3.exceptions.HTTPError as cause:
            raise Unavailable(
                f"No Relay answers at {self.url}. Start one with `relay up`, or name another with --url or RELAY_URL."
            ) from cause

    def _request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        with self._translated():
            return self._http.request(method, self.url + path, body=body, headers={**self._headers, **(headers or {})})

    def _json(self, response: urllib3.BaseHTTPResponse) -> dict[str, Any]:
        try:
            answer = json.loads(response.data)
        except (ValueError, RecursionError) as cause:
            raise self._stranger(response) from cause
        if not isinstance(answer, dict) or not (200 <= response.status < 300 or {"error", "errors"} & answer.keys()):
            raise self._stranger(response)
        if "error" in answer:
            raise _error(answer["error"])
        return answer

    def _stranger(self, response: urllib3.BaseHTTPResponse) -> Unavailable:
        return Unavailable(f"{self.url} answered {response.status}, but not as Relay does. Is the address right?")


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add --url and --key."""
    group = parser.add_argument_group("which Relay")
    group.add_argument("--url", help="its address; else RELAY_URL, else the running `relay up`, else PORT here")
    group.add_argument("--key", help="API key; else RELAY_API_KEY")


def connect(args: argparse.Namespace) -> Client:
    """Return the client for the parsed --url and --key, or for what the environment says."""
    return Client(args.url or api_url(), key=args.key or api_key())


def _key_header(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not key.strip().isascii() or not key.strip().isprintable():
        raise Invalid("The API key holds characters that no key has; copy it again.")
    return {"X-API-Key": key.strip()}


def _error(told: dict[str, Any]) -> RelayError:
    kind = _ERRORS.get(str(told.get("code")), Unavailable)
    message, field = str(told.get("message") or "Relay gave no reason."), told.get("field")
    if field and str(field) not in message:
        message = f"{field}: {message}"
    if kind is Unauthenticated:
        message += " Give a key with --key or RELAY_API_KEY; `relay apikey create` makes one."
    wait_ms = told.get("retryAfterMs")
    return kind(message, field=field, retry_after_s=wait_ms / 1000 if isinstance(wait_ms, int) else None)
