"""Clients and API keys over GraphQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from relay.db import Conn
from relay.settings import Settings
from relay.tenancy.scopes import CLIENT_SCOPES, Scope
from tests.api.conftest import Api, make_key

CREATE_KEY = """mutation($i: CreateApiKeyInput!) { createApiKey(input: $i) { key apiKey {
    id name prefix scopes createdAt expiresAt revokedAt lastUsedAt } } }"""
REVOKE = "mutation($id: ID!) { revokeApiKey(id: $id) { id revokedAt } }"
KEYS = "{ apiKeys { totalCount nodes { id name scopes lastUsedAt revokedAt } } }"
CREATE_CLIENT = """mutation($i: CreateClientInput!) { createClient(input: $i) { key secret client {
    id name unknownEventTypes rateLimitPerSec secretHint } } }"""
UPDATE_CLIENT = """mutation($id: ID!, $i: UpdateClientInput!) { updateClient(id: $id, input: $i) {
    name unknownEventTypes rateLimitPerSec } }"""
CLIENT = "{ client { id name unknownEventTypes rateLimitPerSec } }"


@pytest.fixture
async def admin(locked: Api, conn: Conn, settings: Settings) -> Api:
    return Api(locked.conductor, await make_key(conn, settings))


@pytest.fixture
async def operator(locked: Api, conn: Conn, settings: Settings) -> Api:
    scopes = frozenset({Scope.OPERATOR})
    return Api(locked.conductor, await make_key(conn, settings, client="operations", scopes=scopes))


async def test_a_key_is_shown_once_works_and_ends(admin: Api, locked: Api) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    wanted = {"name": "checkout", "scopes": ["SEND", "READ"], "expiresAt": tomorrow}
    made = (await admin.data(CREATE_KEY, i=wanted))["createApiKey"]
    shown = made["apiKey"]
    assert (shown["name"], shown["scopes"], shown["lastUsedAt"]) == ("checkout", ["SEND", "READ"], None)
    assert made["key"].startswith(shown["prefix"])
    assert len(shown["prefix"]) == len("rly_") + 8
    checkout = Api(locked.conductor, made["key"])
    assert (await checkout.data(CLIENT))["client"]["name"] == "acme"
    listed = (await admin.data(KEYS))["apiKeys"]
    assert (listed["totalCount"], listed["nodes"][0]["id"]) == (2, shown["id"])
    assert listed["nodes"][0]["lastUsedAt"].endswith(":00.000Z")
    assert made["key"] not in str(listed)
    revoked = (await admin.data(REVOKE, id=shown["id"]))["revokeApiKey"]
    assert revoked["revokedAt"] == (await admin.data(REVOKE, id=shown["id"]))["revokeApiKey"]["revokedAt"]


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"name": ""}, "INVALID", "name"),
        ({"name": "a\nb"}, "INVALID", "name"),
        ({"scopes": []}, "INVALID", "scopes"),
        ({"scopes": ["OPERATOR"]}, "INVALID", "scopes"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "INVALID", "expiresAt"),
    ],
)
async def test_a_key_nobody_can_have_is_refused(admin: Api, fields: dict[str, object], code: str, field: str) -> None:
    wanted = {"name": "k", "scopes": ["READ"], **fields}
    assert await admin.error(CREATE_KEY, i=wanted) == (code, field)
    assert (await admin.data(KEYS))["apiKeys"]["totalCount"] == 1


async def test_nobody_gives_away_what_he_has_not(locked: Api, conn: Conn, settings: Settings) -> None:
    scopes = frozenset({Scope.ADMIN, Scope.READ})
    limited = Api(locked.conductor, await make_key(conn, settings, scopes=scopes))
    code, _ = await limited.error(CREATE_KEY, i={"name": "k", "scopes": ["SEND"]})
    assert code == "FORBIDDEN"
    assert (await limited.data(CREATE_KEY, i={"name": "k", "scopes": ["READ"]}))["createApiKey"]["key"]


async def test_an_operator_makes_a_client_whose_key_works(operator: Api, locked: Api) -> None:
    wanted = {"name": "shop", "unknownEventTypes": "REFUSE", "rateLimitPerSec": 50}
    made = (await operator.data(CREATE_CLIENT, i=wanted))["createClient"]
    assert made["secret"].endswith(made["client"]["secretHint"])
    shop = Api(locked.conductor, made["key"])
    assert (await shop.data(CLIENT))["client"] == {"id": made["client"]["id"], **wanted}
    assert set((await shop.data(KEYS))["apiKeys"]["nodes"][0]["scopes"]) == {scope.name for scope in CLIENT_SCOPES}
    listed = (await operator.data("{ clients { totalCount nodes { name } } }"))["clients"]
    assert [one["name"] for one in listed["nodes"]] == ["shop", "operations"]
    acting = {"X-Relay-Client": made["client"]["id"]}
    answer = await operator.graphql(CREATE_KEY, {"i": {"name": "for shop", "scopes": ["READ"]}}, **acting)
    assert (await shop.data(KEYS))["apiKeys"]["nodes"][0]["name"] == "for shop", answer


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"name": ""}, "INVALID", "name"),
        ({"name": "operations"}, "CONFLICT", "name"),
        ({"rateLimitPerSec": -1}, "INVALID", "rateLimitPerSec"),
    ],
)
async def test_a_client_nobody_can_have_is_refused(
    operator: Api, fields: dict[str, object], code: str, field: str
) -> None:
    assert await operator.error(CREATE_CLIENT, i={"name": "shop", **fields}) == (code, field)
    assert (await operator.data("{ clients { totalCount } }"))["clients"]["totalCount"] == 1


async def test_a_client_changes_itself_but_for_its_rate(admin: Api, operator: Api) -> None:
    id = (await admin.data(CLIENT))["client"]["id"]
    changed = await admin.data(UPDATE_CLIENT, id=id, i={"name": "acme 2", "unknownEventTypes": "REFUSE"})
    assert changed["updateClient"] == {"name": "acme 2", "unknownEventTypes": "REFUSE", "rateLimitPerSec": 0}
    assert await admin.error(UPDATE_CLIENT, id=id, i={"rateLimitPerSec": 9}) == ("FORBIDDEN", "rateLimitPerSec")
    assert await admin.error(UPDATE_CLIENT, id=id, i={"name": "operations"}) == ("CONFLICT", "name")
    other = (await operator.data(CLIENT))["client"]["id"]
    assert await admin.error(UPDATE_CLIENT, id=other, i={"name": "x"}) == ("NOT_FOUND", "id")
    assert (await operator.data(UPDATE_CLIENT, id=id, i={"rateLimitPerSec": 9}))["updateClient"]["rateLimitPerSec"] == 9
