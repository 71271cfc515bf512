from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from relay.cli.main import main
from relay.tenancy import api_keys
from relay.tenancy.api_keys import Principal
from relay.tenancy.scopes import CLIENT_SCOPES, Scope

SIGNING_KEY = "a signing key that only these tests use"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> None:
    """What somebody has set who runs Relay with a Postgres of their own."""
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("SIGNING_KEY", SIGNING_KEY)
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest.fixture
def relay(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Any:
        assert main(["apikey", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def _principal(database_url: str, key: str) -> Principal | None:
    async def find() -> Principal | None:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
            return await api_keys.find_principal(conn, key)

    return asyncio.run(find())


def test_the_first_key_of_a_new_client_comes_with_its_secret(relay: Any, database_url: str) -> None:
    made = relay("create", "--tenant", "shop")
    principal = _principal(database_url, made["key"])
    assert principal is not None
    assert (made["tenant"], made["tenantId"], principal.scopes) == ("shop", str(principal.tenant_id), CLIENT_SCOPES)
    assert made["secret"].startswith("whsec_")


def test_a_second_key_belongs_to_the_same_client_and_shows_no_secret(relay: Any) -> None:
    first, second = relay("create", "--tenant", "shop"), relay("create", "--tenant", "shop")
    assert first["tenantId"] == second["tenantId"]
    assert first["key"] != second["key"]
    assert "secret" not in second


def test_a_key_has_the_scopes_asked_for(relay: Any, database_url: str) -> None:
    narrow = relay("create", "--tenant", "shop", "--scopes", "send,READ", "--name", "checkout")
    operator = relay("create", "--tenant", "operations", "--operator")
    principals = [_principal(database_url, made["key"]) for made in (narrow, operator)]
    assert [p and p.scopes for p in principals] == [{Scope.SEND, Scope.READ}, CLIENT_SCOPES | {Scope.OPERATOR}]


def test_keys_are_listed_without_their_text_and_end_when_revoked(relay: Any, database_url: str) -> None:
    key = relay("create", "--tenant", "shop", "--name", "checkout")["key"]
    listed = relay("list", "--tenant", "shop")
    assert [(k["name"], k["prefix"], k["revokedAt"]) for k in listed] == [("checkout", key[:12], None)]
    assert key not in json.dumps(listed)
    assert relay("revoke", "--tenant", "shop", listed[0]["id"])["revokedAt"] is not None
    assert _principal(database_url, key) is None


def test_for_a_person_the_key_stands_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apikey", "create", "--tenant", "shop"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("rly_")
    assert shown.out.count("\n") == 1
    assert "cannot be shown again" in shown.err
    assert main(["apikey", "list", "--tenant", "shop"]) == 0
    assert "never used" in capsys.readouterr().out


@pytest.mark.parametrize("scopes", ["", "operator", "send,fly"])
def test_a_scope_that_cannot_be_given_is_wrong_use(scopes: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["apikey", "create", "--tenant", "shop", "--scopes", scopes])
    assert ended.value.code == 2


def test_a_client_that_does_not_exist_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apikey", "list", "--tenant", "nobody"]) == 1
    assert capsys.readouterr().err == "relay: There is no client named nobody.\n"


def test_without_any_database_the_sentence_says_where_it_looked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    assert main(["apikey", "create", "--tenant", "shop"]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_an_empty_database_asks_for_the_migration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], empty_database_url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    assert main(["apikey", "create", "--tenant", "shop"]) == 1
    assert "relay migrate" in capsys.readouterr().err


def test_what_is_made_and_revoked_stands_in_the_audit_log(relay: Any, database_url: str) -> None:
    made = relay("create", "--tenant", "shop", "--name", "checkout")
    id = relay("list", "--tenant", "shop")[0]["id"]
    relay("revoke", "--tenant", "shop", id)
    with psycopg.connect(database_url) as conn:
        found = conn.execute("SELECT action, actor, subject_id::text, after FROM audit_log ORDER BY id").fetchall()
    assert [(action, actor, subject) for action, actor, subject, _ in found] == [
        ("createClient", "cli", made["tenantId"]),
        ("createApiKey", "cli", id),
        ("revokeApiKey", "cli", id),
    ]
    assert found[1][3]["scopes"] == ["ADMIN", "MANAGE", "READ", "SEND"]
    assert made["key"] not in str(found)
    assert made["secret"] not in str(found)
