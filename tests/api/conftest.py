"""The application on a real Postgres and Redis, called as ASGI servers call it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from falcon.testing import ASGIConductor, Result

from api.app import create_app
from relay.catalog.secrets import Vault
from relay.db import Conn
from relay.settings import Settings
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import CLIENT_SCOPES, Scope


@dataclass(frozen=True)
class Api:
    """A client of the application; `key` goes with each request."""

    conductor: ASGIConductor
    key: str | None = None

    async def post(self, path: str, body: bytes | str | dict[str, Any], **headers: str) -> Result:
        data = msgspec.json.encode(body) if isinstance(body, dict) else body
        return await self.conductor.simulate_post(path, body=data, headers=self.headers(**headers))

    async def get(self, path: str, **headers: str) -> Result:
        return await self.conductor.simulate_get(path, headers=self.headers(**headers))

    def headers(self, **more: str) -> dict[str, str]:
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {"Content-Type": "application/json", **({"X-API-Key": self.key} if self.key else {}), **named}

    async def graphql(self, query: str, variables: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        """The whole answer."""
        return (await self.post("/graphql", {"query": query, "variables": variables or {}}, **headers)).json

    async def data(self, query: str, **variables: Any) -> Any:
        """The data of an answer without errors."""
        answer = await self.graphql(query, variables)
        assert "errors" not in answer, answer
        return answer["data"]

    async def error(self, query: str, **variables: Any) -> tuple[str, str | None]:
        """Code and field of the one error of an answer."""
        answer = await self.graphql(query, variables)
        (error,) = answer["errors"]
        assert error["extensions"]["requestId"]
        return error["extensions"]["code"], error["extensions"].get("field")


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    """The application as in development: no keys."""
    async with ASGIConductor(create_app(settings)) as conductor:
        yield Api(conductor)


@pytest.fixture
async def locked(settings: Settings) -> AsyncIterator[Api]:
    """The application as in production: with keys, without playground; the client has none yet."""
    strict = settings.model_copy(update={"auth_enabled": True, "enable_playground": False})
    async with ASGIConductor(create_app(strict)) as conductor:
        yield Api(conductor)


async def make_key(
    conn: Conn, settings: Settings, *, client: str = "acme", scopes: frozenset[Scope] = CLIENT_SCOPES
) -> str:
    """A key of a client, which is made when missing."""
    tenant, _ = await tenants.ensure(conn, client, vault=Vault(settings.signing_key))
    return (await api_keys.create(conn, tenant.id, name="test", scopes=scopes))[1]
