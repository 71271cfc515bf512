from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from relay.cli.api_client import Client
from relay.cli.config_requests import ask
from relay.errors import Conflict, Invalid, NotFound, Unauthenticated, Unavailable


@dataclass
class Script:
    """What the scripted API answers next, and what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    first: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.asked.append((self.command, self.path, headers, body))
            status, answer = script.first.pop(0) if script.first else (script.status, script.body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield script
    server.shutdown()
    server.server_close()
    thread.join()


def _answer(script: Script, status: int, body: object) -> None:
    script.status, script.body = status, json.dumps(body).encode()


def test_a_query_goes_out_with_variables_and_key_and_its_data_comes_back(script: Script) -> None:
    _answer(script, 200, {"data": {"event": None}})
    assert Client(script.url + "/", key=" rly_abc ").graphql("query Q { event }", {"id": "1"}) == {"event": None}
    method, path, headers, body = script.asked[0]
    assert (method, path, headers["x-api-key"]) == ("POST", "/graphql", "rly_abc")
    assert json.loads(body) == {"query": "query Q { event }", "variables": {"id": "1"}}


@pytest.mark.parametrize("status", [200, 400, 401])
def test_the_first_error_of_an_answer_is_raised_with_its_field(script: Script, status: int) -> None:
    error = {"message": "must be 1 to 10.", "extensions": {"code": "INVALID", "field": "priority"}}
    _answer(script, status, {"data": None, "errors": [error]})
    with pytest.raises(Invalid, match=r"^priority: must be 1 to 10\.$"):
        Client(script.url).graphql("query Q { event }")


def test_many_changes_wait_as_long_as_relay_says(script: Script) -> None:
    extensions = {"code": "THROTTLED", "retryAfterMs": 20}
    refusal = json.dumps(
        {"data": None, "errors": [{"message": "Too many requests.", "extensions": extensions}]}
    ).encode()
    script.first = [(429, refusal), (200, refusal)]
    _answer(script, 200, {"data": {"made": {"id": "1"}}})
    assert ask(Client(script.url), "mutation M { made }", {}) == {"made": {"id": "1"}}
    assert len(script.asked) == 3


def test_a_field_that_the_sentence_names_is_not_said_twice(script: Script) -> None:
    _answer(script, 400, {"error": {"code": "INVALID", "message": "priority must be 1 to 10.", "field": "priority"}})
    with pytest.raises(Invalid, match=r"^priority must be 1 to 10\.$"):
        Client(script.url).post_event(b"{}")


@pytest.mark.parametrize(("code", "error"), [("NOT_FOUND", NotFound), ("CONFLICT", Conflict), ("NEWS", Unavailable)])
def test_an_error_keeps_its_kind(script: Script, code: str, error: type[Exception]) -> None:
    _answer(script, 409, {"error": {"code": code, "message": "No."}})
    with pytest.raises(error, match="No"):
        Client(script.url).post_event(b"{}")


def test_a_missing_key_says_where_to_give_one(script: Script) -> None:
    _answer(script, 401, {"error": {"code": "UNAUTHENTICATED", "message": "No API key."}})
    with pytest.raises(Unauthenticated, match="--key or RELAY_API_KEY"):
        Client(script.url).post_event(b"{}")


def test_an_event_is_posted_as_given_with_its_idempotency_key(script: Script) -> None:
    _answer(script, 202, {"id": "1"})
    assert Client(script.url).post_event(b'{"payload":1e2}', idempotency_key="k") == ({"id": "1"}, False)
    _, path, headers, body = script.asked[0]
    assert (path, headers["idempotency-key"], body) == ("/api/v1/events", "k", b'{"payload":1e2}')


def test_an_event_known_before_is_told_apart(script: Script) -> None:
    _answer(script, 200, {"id": "1"})
    assert Client(script.url).post_event(b"{}")[1] is True


def test_a_page_is_read_as_text(script: Script) -> None:
    script.body = b"type Query"
    assert Client(script.url).text("/graphql/schema") == "type Query"


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (502, b"{}"), (200, b"[]"), (404, b"{" * 5000)])
def test_a_server_that_is_no_relay_is_recognised(script: Script, status: int, body: bytes) -> None:
    script.status, script.body = status, body
    with pytest.raises(Unavailable, match="not as Relay does"):
        Client(script.url).graphql("query Q { event }")


def test_nobody_answering_is_one_sentence_that_says_what_to_do() -> None:
    with pytest.raises(Unavailable, match=r"^No Relay answers at http://127\.0\.0\.1:1\. .*`relay up`"):
        Client("http://127.0.0.1:1").graphql("query Q { event }")


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", ""])
def test_an_address_without_http_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="http://"):
        Client(url)


@pytest.mark.parametrize("url", ["http://", "http://[", "http://a..b", "http://host:99999"])
def test_an_address_that_cannot_be_asked_is_one_sentence(url: str) -> None:
    with pytest.raises((Invalid, Unavailable)):
        Client(url).graphql("query Q { event }")


def test_a_key_with_a_line_end_inside_is_refused() -> None:
    with pytest.raises(Invalid, match="copy it again"):
        Client("http://127.0.0.1:1", key="rly_a\nb")
