"""`relay plan`, `relay apply` and `relay export` against a running web service, as a pipeline uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import urllib3

from relay.cli import config_file
from relay.cli.api_client import Client
from relay.cli.main import main
from relay.settings import Settings
from relay.up.development import free_port
from tests.cli.config_samples import ENVIRONMENT, document
from tests.running import until, web

Command = Callable[..., str]
_ENDPOINTS = "query Q { endpoints(first: 100) { nodes { id url description timeoutMs status } } }"
_UPDATE = "mutation M($id: ID!, $input: UpdateEndpointInput!) { updateEndpoint(id: $id, input: $input) { id } }"
_CREATE = "mutation M($input: CreateEndpointInput!) { createEndpoint(input: $input) { endpoint { id } } }"


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", f"{url}/health/ready", retries=False, timeout=2).status == 200
    except urllib3.exceptions.HTTPError:
        return False


@pytest.fixture
async def relay(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A web service, which the commands find by RELAY_URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    running = web(settings.model_copy(update={"port": port}), tmp_path / "web.log")
    try:
        await until(lambda: _answers(url), what=running.text())
        monkeypatch.setenv("RELAY_URL", url)
        monkeypatch.delenv("RELAY_API_KEY", raising=False)
        yield Client(url)
    finally:
        running.kill()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command with a document as its file; it must end with this code."""

    def run(*arguments: str, file: dict[str, Any] | str | None = None, code: int = 0) -> str:
        if file is not None:
            text = file if isinstance(file, str) else config_file.write(file)
            monkeypatch.setattr(sys, "stdin", StringIO(text))
            arguments = (*arguments, "-f", "-")
        ended = main(arguments)
        said = capsys.readouterr()
        assert ended == code, said.out + said.err
        return said.out + said.err

    return run


def _by_description(relay: Client) -> dict[str | None, dict[str, Any]]:
    return {node["description"]: node for node in relay.graphql(_ENDPOINTS)["endpoints"]["nodes"]}


def _with(file: dict[str, Any], index: int, **fields: Any) -> dict[str, Any]:
    """The file with fields of one endpoint changed."""
    endpoints = [dict(entry) for entry in file["endpoints"]]
    endpoints[index] |= fields
    return {**file, "endpoints": endpoints}


async def test_a_file_is_planned_applied_found_again_and_its_drift_named(
    relay: Client, run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = document()
    page = run("plan", file=file, code=2)
    assert "create event type order.paid" in page
    assert "To do: 5 to create, 0 to change, 0 to delete." in page
    _applies_only_with_its_secrets(relay, run, file, monkeypatch, tmp_path)
    assert run("plan", file=file) == "No changes: Relay is as the file says.\n"
    assert "No changes" in run("apply", file=file)
    _exports_what_was_applied(run, file)
    _names_and_mends_drift(relay, run, file)
    _knows_secrets_by_their_shape(run, file)
    _prunes_only_when_told(relay, run, file)
    _finishes_unread(run, file, tmp_path)
    _moves_a_url_by_its_id(relay, run)


def _applies_only_with_its_secrets(
    relay: Client, run: Command, file: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused = run("apply", file=file, code=1)
    assert "endpoints[0] needs a secret: the environment variable SHOP_" in refused
    assert _by_description(relay) == {}, "nothing is half done"
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    made = run("apply", "--secrets-to", str(tmp_path / "secrets"), file=file)
    assert made.count("\ncreated ") == 5
    kept = [json.loads(line) for line in (tmp_path / "secrets").read_text().splitlines()]
    assert [one["secret"][:5] for one in kept] == ["whsk_", "whsec", "whsec"]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o600
    assert not any(one["secret"] in made for one in kept)
    assert not any(value in made for value in ENVIRONMENT.values())


def _exports_what_was_applied(run: Command, file: dict[str, Any]) -> None:
    text = run("export")
    assert run("plan", file=text) == "No changes: Relay is as the file says.\n"
    exported = config_file.parse(text, name="export")
    by_description = {entry.get("description"): entry for entry in exported["endpoints"]}
    for entry in file["endpoints"]:
        found = by_description[entry.get("description")]
        given = {name: value for name, value in entry.items() if name not in ("secretHeaders", "auth")}
        assert {name: found.get(name) for name in given} == given
    assert by_description[None].keys() == {"url", "eventTypes", "retrySchedule"}, "defaults are left out"
    full = next(entry for entry in exported["endpoints"] if "auth" in entry)
    assert full["auth"] == {"basic": {"username": "relay", "password": "${RELAY_127_0_0_1_PASSWORD}"}}
    assert full["secretHeaders"] == {"X-Token": "${RELAY_127_0_0_1_X_TOKEN}"}


def _names_and_mends_drift(relay: Client, run: Command, file: dict[str, Any]) -> None:
    twin = _by_description(relay)["the same URL once more"]
    relay.graphql(_UPDATE, {"id": twin["id"], "input": {"timeoutMs": 250, "retryBackoffMs": 7}})
    drift = run("plan", file=file, code=2)
    assert f"change endpoint {twin['url']} ({twin['id']})\n" in drift
    assert "  ~ timeoutMs: 250 -> 30000\n" in drift
    assert "  ~ retryBackoffMs: 7 -> 1000\n" in drift
    told = json.loads(run("plan", "--json", file=file, code=2))
    assert told["changes"][0]["fields"]["timeoutMs"] == {"before": 250, "after": 30000}
    run("apply", file=file)
    assert "No changes" in run("plan", file=file)
    relay.graphql(_UPDATE, {"id": twin["id"], "input": {"status": "DISABLED"}})
    assert f"Note: endpoint {twin['url']} ({twin['id']}) is DISABLED (CANCELLED_BY_USER)" in run("plan", file=file)
    assert "status: DISABLED" in run("export")
    run("apply", file=_with(file, 2, status="ACTIVE"))
    never = run("plan", file=_with(file, 0, signature="HMAC_SHA256"), code=1)
    assert "signature is ED25519 and can never become HMAC_SHA256" in never


def _knows_secrets_by_their_shape(run: Command, file: dict[str, Any]) -> None:
    bearer = _with(file, 0, auth={"bearer": "${SHOP_TOKEN}"}, secretHeaders=None)
    page = run("plan", file=bearer, code=2)
    assert "  ~ auth: BASIC relay -> BEARER (secrets are not compared)\n" in page
    assert "  ~ secretHeaders: x-token -> none (secrets are not compared)\n" in page
    run("apply", file=bearer)
    assert "No changes" in run("plan", file=bearer)
    assert "changed endpoint" in run("apply", "--send-secrets", file=bearer)
    assert "auth: none -> BASIC" in run("apply", file=_with(file, 0, auth=None, secretHeaders=None)) + run(
        "apply", file=file
    )
    assert "No changes" in run("plan", file=file)


def _prunes_only_when_told(relay: Client, run: Command, file: dict[str, Any]) -> None:
    input = {"url": "http://127.0.0.1:9009/by-hand", "eventTypes": ["*"]}
    by_hand = relay.graphql(_CREATE, {"input": input})["createEndpoint"]["endpoint"]["id"]
    relay.graphql('mutation M { createEventType(input: {name: "by.hand"}) { id } }')
    page = run("plan", file=file)
    assert "No changes" in page
    assert "  event type by.hand (" in page
    assert f"  endpoint http://127.0.0.1:9009/by-hand ({by_hand})\n" in page
    types_only = {"eventTypes": [*file["eventTypes"], {"name": "by.hand"}]}
    assert run("plan", "--prune", file=types_only) == "No changes: Relay is as the file says.\n", (
        "no section, no deletion"
    )
    assert "To do: 0 to create, 0 to change, 2 to delete." in run("plan", "--prune", file=file, code=2)
    assert f"deleted endpoint http://127.0.0.1:9009/by-hand ({by_hand})" in run("apply", "--prune", file=file)
    assert run("plan", "--prune", file=file) == "No changes: Relay is as the file says.\n"


def _finishes_unread(run: Command, file: dict[str, Any], tmp_path: Path) -> None:
    changed = _with(_with(file, 1, timeoutMs=700), 2, timeoutMs=800)
    (tmp_path / "relay.yaml").write_text(config_file.write(changed))
    argv = [Path(sys.executable).parent / "relay", "apply", "-f", tmp_path / "relay.yaml"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as unread:
        assert unread.stdout is not None
        unread.stdout.close()
        assert unread.wait(timeout=30) == 0
    assert "No changes" in run("plan", file=changed)


def _moves_a_url_by_its_id(relay: Client, run: Command) -> None:
    exported = config_file.parse(run("export", "--ids"), name="export")
    moved = {**exported, "endpoints": [{**entry, "url": entry["url"] + "?v=2"} for entry in exported["endpoints"]]}
    before = {node["id"] for node in _by_description(relay).values()}
    assert "To do: 0 to create, 3 to change, 0 to delete." in run("plan", "--prune", file=moved, code=2)
    run("apply", file=moved)
    after = _by_description(relay).values()
    assert {node["id"] for node in after} == before
    assert all(node["url"].endswith("?v=2") for node in after)
    refused = run("apply", file=_with(moved, 0, timeoutMs=1, url="http://127.0.0.1:9000/new"), code=1)
    assert "timeoutMs must be between 100 and 120 000. 0 of 1 changes were made before" in refused
