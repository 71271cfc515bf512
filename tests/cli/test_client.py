from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from relay.cli.main import main


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> None:
    """What somebody has set who runs Relay with a Postgres of their own."""
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("SIGNING_KEY", "a signing key that only these tests use")
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest.fixture
def relay(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Any:
        assert main(["client", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_a_client_is_made_with_its_key_and_secret_listed_and_changed(relay: Any) -> None:
    made = relay("create", "shop", "--unknown-types", "refuse", "--rate-limit", "200")
    assert made["key"].startswith("rly_")
    assert made["secret"].startswith("whsec_")
    shown = {"name": "shop", "unknownEventTypes": "REFUSE", "rateLimitPerSec": 200}
    assert shown.items() <= made.items()
    (listed,) = relay("list")
    assert shown.items() <= listed.items()
    assert not {"key", "secret"} & listed.keys()
    changed = relay("update", "shop", "--rename", "market", "--rate-limit", "0")
    assert {"name": "market", "unknownEventTypes": "REFUSE", "rateLimitPerSec": 0}.items() <= changed.items()


def test_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "create", "shop", "--rate-limit", "5"]) == 0
    made = capsys.readouterr()
    assert made.out.startswith("rly_")
    assert "whsec_" in made.err
    assert main(["client", "update", "shop", "--unknown-types", "refuse"]) == 0
    assert capsys.readouterr().out == "shop: unknown types refuse, 5 requests a second.\n"
    assert main(["client", "list"]) == 0
    assert capsys.readouterr().out.split()[-3:] == ["shop", "refuse", "5"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "shop"], "There is a client named shop."),
        (["create", "new", "--rate-limit", "-1"], "rateLimitPerSec must be between 0 and 1000000."),
        (["update", "nobody", "--rate-limit", "1"], "There is no client named nobody."),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    relay: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    relay("create", "shop")
    assert main(["client", *arguments]) == 1
    assert sentence in capsys.readouterr().err
    assert len(relay("list")) == 1


def test_what_is_made_and_changed_stands_in_the_clients_audit_log(relay: Any, database_url: str) -> None:
    made = relay("create", "shop")
    relay("update", "shop", "--rate-limit", "5")
    with psycopg.connect(database_url) as conn:
        found = conn.execute(
            "SELECT action, actor, tenant_id::text, subject_id::text, before, after FROM audit_log ORDER BY id"
        ).fetchall()
    id = made["id"]
    assert [entry[:4] for entry in found] == [("createClient", "cli", id, id), ("updateClient", "cli", id, id)]
    assert found[1][4:] == ({"rateLimitPerSec": 0}, {"rateLimitPerSec": 5})
    assert made["key"] not in str(found)
    assert made["secret"] not in str(found)
