"""`relay keys`: what is under which key, moved while it is counted, with an exit code for scripts."""

from __future__ import annotations

import json

import pytest

from relay.cli.main import main
from relay.db import Conn
from tests.conftest import SIGNING_KEY
from tests.rows import make_world

NEW_KEY = "a new signing key that only tests use"


async def test_secrets_are_counted_moved_and_then_need_no_other_key(
    conn: Conn, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await make_world(conn)
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("SIGNING_KEY", NEW_KEY)

    def relay(*argv: str) -> tuple[int, str]:
        return _in_thread(list(argv)), capsys.readouterr().out

    code, said = relay("keys", "status")
    assert code == 1
    assert "2 secrets are under a key that is neither SIGNING_KEY nor SIGNING_KEY_PREVIOUS" in said
    assert relay("keys", "rotate")[0] == 1
    monkeypatch.setenv("SIGNING_KEY_PREVIOUS", SIGNING_KEY)
    code, said = relay("keys", "status")
    assert code == 1
    assert "2 secrets are left: run `relay keys rotate`" in said
    code, said = relay("keys", "rotate", "--batch", "1", "--json")
    assert code == 0
    assert {"table": "secrets", "current": 2, "previous": 0, "unknown": 0} in json.loads(said)
    monkeypatch.delenv("SIGNING_KEY_PREVIOUS")
    code, said = relay("keys", "status")
    assert code == 0
    assert "SIGNING_KEY_PREVIOUS is not needed" in said
    assert relay("keys", "rotate")[0] == 0


def _in_thread(argv: list[str]) -> int:
    """Commands have an event loop of their own."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(main, argv).result()
