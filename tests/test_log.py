"""Logs: one format for everything, ids in fields of their own, and never a secret or a payload."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import urllib3

from relay import log
from relay.catalog.secrets import Vault
from relay.delivery import attempt_log
from relay.settings import Settings
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import CLIENT_SCOPES
from relay.up.development import free_port
from tests.e2e.client import Client
from tests.running import until, web, worker
from tests.sink import Answer, Sink

PASSWORD = "pa55word-of-redis"


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the process writes to standard error."""
    text = io.StringIO()
    monkeypatch.setattr("sys.stderr", text)
    return text


@pytest.fixture
def logged(settings: Settings, stderr: io.StringIO) -> Iterator[logging.Logger]:
    """A logger of a configured process; all loggers are as before afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    secret = settings.model_copy(update={"redis_url": f"redis://:{PASSWORD}@127.0.0.1:1/0", "log_format": "json"})
    log.configure(secret)
    yield logging.getLogger("relay.test")
    root.handlers[:], root.level = before


def line(stderr: io.StringIO) -> dict[str, object]:
    return json.loads(stderr.getvalue())


def test_ids_stand_in_fields_of_their_own(logged: logging.Logger, stderr: io.StringIO) -> None:
    id = uuid4()
    logged.warning("delivery %s is dead", id, extra={"delivery_id": id, "attempt": 2, "tenant_id": None})
    told = line(stderr)
    assert (told["level"], told["logger"], told["message"]) == ("warn", "relay.test", f"delivery {id} is dead")
    assert (told["delivery_id"], told["attempt"]) == (str(id), 2)
    assert "tenant_id" not in told
    assert str(told["time"]).endswith("Z")


@pytest.mark.parametrize(
    ("level", "word"), [(logging.INFO, "info"), (logging.WARNING, "warn"), (logging.ERROR, "error"), (50, "error")]
)
def test_levels_are_the_words_of_the_setting(
    logged: logging.Logger, stderr: io.StringIO, level: int, word: str
) -> None:
    logged.log(level, "x")
    assert line(stderr)["level"] == word


@pytest.mark.parametrize(
    ("told", "secret"),
    [
        (f"cannot reach redis with {PASSWORD}", PASSWORD),
        ("the key is a signing key that only tests use", "signing key that"),
        ("postgres://relay:hunter22@db/relay is away", "hunter22"),
        ("POST https://shop.example/hook?token=abc123 failed", "abc123"),
        ("POST https://user:abc123@shop.example/hook failed", "abc123"),
        ("signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8"),
        ("key rly_abcdefghijklmnop does not work", "abcdefghij"),
        ("headers {'Authorization': 'Bearer abc123', 'X': 'y'}", "abc123"),
        ("Authorization: Basic abc123", "abc123"),
        ('{"X-API-Key": "abc123"}', "abc123"),
        ("a row failed\nDETAIL:  Failing row contains (1, {card: 4242}).\nCONTEXT: x", "4242"),
    ],
)
def test_what_looks_like_a_secret_is_masked(
    logged: logging.Logger, stderr: io.StringIO, told: str, secret: str
) -> None:
    try:
        raise ValueError(told)
    except ValueError as cause:
        logged.exception("it failed: %s", cause, extra={"error": told})
    text = stderr.getvalue()
    assert secret not in text
    assert json.loads(text)["exception"].startswith("Traceback")


def test_ordinary_words_are_left_alone(logged: logging.Logger, stderr: io.StringIO) -> None:
    told = "worker 3 is silent: https://shop.example/hook answered 500; no key, no password"
    logged.info("%s", told)
    assert line(stderr)["message"] == told


def test_on_a_terminal_a_line_says_nothing_twice(
    settings: Settings, logged: logging.Logger, stderr: io.StringIO
) -> None:
    log.configure(settings.model_copy(update={"log_format": "pretty"}))
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stderr)
    logged.warning("delivery %s is dead", "d-1", extra={"delivery_id": "d-1", "event_id": "e-1"})
    assert stderr.getvalue()[12:] == " warn  delivery d-1 is dead event_id=e-1\n"


@pytest.mark.usefixtures("logged")
def test_without_debug_an_attempt_costs_no_more_than_a_question() -> None:
    class Untouchable:
        def __iter__(self) -> Iterator[object]:
            raise AssertionError("the batch was looked at")

    attempt_log.tell(Untouchable())  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("name", ["gunicorn.error", "uvicorn.error", "dramatiq.MainProcess", "psycopg.pool"])
def test_libraries_log_in_the_same_format(stderr: io.StringIO, name: str) -> None:
    logging.getLogger(name).error("it broke")
    assert line(stderr)["logger"] == name


async def test_a_system_at_debug_tells_every_attempt_and_no_secret(settings: Settings, tmp_path: Path) -> None:
    async with await psycopg.AsyncConnection.connect(settings.database_url, autocommit=True) as conn:
        tenant, client_secret = await tenants.ensure(conn, "shop", vault=Vault(settings.signing_key))
        _, key = await api_keys.create(conn, tenant.id, name="test", scopes=CLIENT_SCOPES)
    talkative = settings.model_copy(
        update={"log_level": "debug", "log_format": "json", "auth_enabled": True, "port": free_port()}
    )
    running = [web(talkative, tmp_path / "web"), worker(talkative, tmp_path / "worker")]
    try:
        with Sink(lambda _: Answer(500, headers={"X-Token": "s3cr3t-answer"})) as sink:
            client = Client(f"http://127.0.0.1:{talkative.port}", key=key)
            await until(lambda: answers(client), what="a start")
            secret = _drive(client, sink.url("/s3cr3t-path?token=s3cr3t-query"))
            await until(lambda: len(attempts(tmp_path / "worker")) >= 2, what="two attempts in the log")
    finally:
        codes = [process.stop() for process in running]
    assert codes == [0, 0]
    text = "".join(process.text() for process in running)
    lines = [json.loads(one) for one in text.splitlines()]
    assert {type(one) for one in lines} == {dict}
    assert [one for one in lines if one["logger"] == "uvicorn.access"] == []
    secrets = [key, secret, client_secret, settings.signing_key, "s3cr3t"]
    assert [hidden for hidden in secrets if hidden and hidden in text] == []
    first = attempts(tmp_path / "worker")[0]
    assert first["tenant_id"] == str(tenant.id)
    assert {"endpoint_id", "event_id", "delivery_id"} <= first.keys()
    assert (first["state"], first["status_code"], first["level"]) == ("waiting", 500, "debug")


def _drive(client: Client, url: str) -> str:
    """Make an endpoint and send two events, with secrets wherever there is room; return the endpoint's secret."""
    made = client.endpoint(url, customHeaders={"Authorization": "s3cr3t-header"})
    for n in range(2):
        client.send(payload={"card": f"s3cr3t-{n}"}, headers={"X-Note": "s3cr3t-note"})
    client.post("/api/v1/events", b"{s3cr3t", Authorization="Bearer s3cr3t-bearer")
    client.post("/graphql", {"query": "{ s3cr3t }"}, X_API_Key="rly_s3cr3t")
    return made.secret


def answers(client: Client) -> bool:
    try:
        return client.get("/health/ready").status == 200
    except urllib3.exceptions.HTTPError:
        return False


def attempts(path: Path) -> list[dict[str, object]]:
    lines = [json.loads(text) for text in path.read_text().splitlines() if text.startswith("{") and text.endswith("}")]
    return [one for one in lines if one["logger"] == "relay.delivery.attempt_log"]
