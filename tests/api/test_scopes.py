"""Every field and every route asks for its scope: found from the schema and the router, so none can be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import strawberry
from falcon.asgi import App
from falcon.testing import DEFAULT_HOST, ASGIConductor

from api.app import create_app
from api.graphql.needs import Needs, check_needs
from api.graphql.schema import core_schema
from relay.db import Conn
from relay.settings import Settings
from relay.tenancy.scopes import CLIENT_SCOPES, Scope
from tests.api.conftest import Api, make_key
from tests.api.operations import operations
from tests.api.test_isolation import NEVER, fingerprint, needed

OWN: dict[str, str] = dict.fromkeys(("EventType", "Event", "Delivery", "Endpoint", "Job", "ApiKey", "Client"), NEVER)
#: Method and path to the scope it asks for; None: for everybody. /graphql asks by its fields.
ROUTES: dict[tuple[str, str], Scope | None] = {
    ("GET", "/"): None,
    ("GET", "/playground"): None,
    ("GET", "/playground/assets/{name}"): None,
    ("GET", "/health/live"): None,
    ("GET", "/health/ready"): None,
    ("GET", "/graphql/schema"): Scope.READ,
    ("GET", "/logs/stream"): Scope.READ,
    ("GET", "/metrics"): Scope.OPERATOR,
    ("GET", "/dramatiq"): Scope.OPERATOR,
    ("GET", "/dramatiq/{queue}"): Scope.OPERATOR,
    ("POST", "/dramatiq/{queue}"): Scope.OPERATOR,
    ("POST", "/api/v1/events"): Scope.SEND,
    ("POST", "/api/v1/events/batch"): Scope.SEND,
}
BY_FIELDS = ("POST", "/graphql")


def routes(app: App[Any, Any]) -> Iterator[tuple[str, str]]:
    """Method and path of everything that the application answers."""
    nodes: list[Any] = list(cast("Any", app)._router._roots)
    for node in nodes:
        nodes += node.children
        if node.resource is not None:
            for method in node.method_map:
                if hasattr(node.resource, f"on_{method.lower()}{_suffix(node)}"):
                    yield method, node.uri_template


def _suffix(node: Any) -> str:
    """What the names of a route's methods end with."""
    names = {responder.__name__ for responder in node.method_map.values()}
    for method in ("get", "post"):
        for name in names:
            if name.startswith(f"on_{method}"):
                return name.removeprefix(f"on_{method}")
    return ""


async def with_scopes(locked: Api, conn: Conn, settings: Settings, scopes: frozenset[Scope]) -> Api:
    return Api(locked.conductor, await make_key(conn, settings, scopes=scopes))


async def test_every_field_refuses_a_key_that_has_all_but_its_scope(
    locked: Api, conn: Conn, settings: Settings
) -> None:
    lacking = {
        scope: await with_scopes(locked, conn, settings, (CLIENT_SCOPES | {Scope.OPERATOR}) - {scope, Scope.OPERATOR})
        for scope in Scope
    }
    rows = await conn.execute("SELECT id FROM tenants WHERE name = 'acme'")
    (tenant_id,) = (await rows.fetchall())[0]
    before = await fingerprint(conn, tenant_id)
    for one in operations(core_schema):
        body = {"query": one.document, "variables": one.trying(NEVER, OWN)}
        for api, status, code in ((locked, 401, "UNAUTHENTICATED"), (lacking[Scope[needed(one)]], 403, "FORBIDDEN")):
            answer = await api.post("/graphql", body)
            assert (answer.status_code, answer.json["errors"][0]["extensions"]["code"]) == (status, code), one.name
    assert await fingerprint(conn, tenant_id) == before


def test_no_route_is_missing_from_the_table(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"enable_playground": True}))
    assert set(routes(app)) == {*ROUTES, BY_FIELDS}


async def test_every_route_refuses_a_key_that_has_all_but_its_scope(conn: Conn, settings: Settings) -> None:
    strict = settings.model_copy(update={"auth_enabled": True, "dramatiq_dashboard_writes": True})
    async with ASGIConductor(create_app(strict)) as conductor:
        nobody = Api(conductor)
        for (method, path), scope in ROUTES.items():
            if scope is not None:
                lacking = await with_scopes(nobody, conn, settings, CLIENT_SCOPES - {scope})
                where = path.replace("{queue}", "delivery")
                for api, status in ((nobody, 401), (lacking, 403)):
                    origin = {"Origin": f"http://{DEFAULT_HOST}"}
                    answer = await (api.get(where) if method == "GET" else api.post(where, b"{}", **origin))
                    assert (path, answer.status_code) == (path, status)


def test_a_field_without_a_scope_stops_the_start() -> None:
    @strawberry.type
    class Query:
        @strawberry.field(directives=[Needs(scope=Scope.READ)])
        def guarded(self) -> int:
            return 1

        @strawberry.field
        def forgotten(self) -> int:
            return 1

    with pytest.raises(TypeError, match=r"Query\.forgotten has no @needs"):
        check_needs(strawberry.Schema(query=Query)._schema)
    check_needs(core_schema)
