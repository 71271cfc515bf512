"""A revoked key ends within 5 s in every web process."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import urllib3

from relay.catalog.secrets import Vault
from relay.settings import Settings
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import CLIENT_SCOPES
from relay.up.development import free_port
from tests.running import until, web

WITHIN_S = 5.0


async def test_a_revoked_key_ends_in_every_web_process(settings: Settings, tmp_path: Path) -> None:
    strict = settings.model_copy(update={"auth_enabled": True, "port": free_port()})
    url = f"http://127.0.0.1:{strict.port}/graphql"
    async with await psycopg.AsyncConnection.connect(settings.database_url, autocommit=True) as conn:
        tenant, _ = await tenants.ensure(conn, "shop", vault=Vault(settings.signing_key))
        made, key = await api_keys.create(conn, tenant.id, name="test", scopes=CLIENT_SCOPES)
        running = web(strict, tmp_path / "web", processes=2)
        try:

            def statuses() -> set[int]:
                """What twenty connections are told, which both processes accept some of."""
                asked = [
                    urllib3.request(
                        "POST", url, headers={"X-API-Key": key}, json={"query": "{ client { id } }"}, retries=0
                    )
                    for _ in range(20)
                ]
                return {answer.status for answer in asked}

            def works() -> bool:
                try:
                    return statuses() == {200}
                except urllib3.exceptions.HTTPError:
                    return False

            await until(works, what="a start")
            revoked_at = time.monotonic()
            await api_keys.revoke(conn, tenant.id, made.id)
            await until(lambda: statuses() == {401}, what="an end of the key")
            assert time.monotonic() - revoked_at < WITHIN_S + 1
            assert statuses() == {401}
        finally:
            running.stop()
