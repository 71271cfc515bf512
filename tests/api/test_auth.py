"""Keys, scopes and clients."""

from __future__ import annotations

import base64

from falcon.testing import DEFAULT_HOST, ASGIConductor

from api.app import create_app
from relay.db import Conn
from relay.settings import Settings
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import CLIENT_SCOPES, Scope
from tests.api.conftest import Api, make_key

EVENT = {"eventType": "a.b", "payload": 1}
SEND = 'mutation { sendEvent(input: {eventType: "a.b", payload: 1}) { id } }'
READ = "{ events { nodes { id } } }"


async def test_a_missing_or_wrong_key_is_unauthenticated_before_anything_is_read(locked: Api) -> None:
    for path in ("/graphql", "/api/v1/events", "/api/v1/events/batch"):
        for key in (None, "rly_wrong", "", "\x7f"):
            answer = await Api(locked.conductor, key).post(path, b"this is not even JSON")
            assert answer.status_code == 401, (path, key)
            body = answer.json
            code = body["errors"][0]["extensions"]["code"] if path == "/graphql" else body["error"]["code"]
            assert code == "UNAUTHENTICATED"
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_key_works_in_either_header(locked: Api, conn: Conn, settings: Settings) -> None:
    key = await make_key(conn, settings)
    assert (await Api(locked.conductor, key).post("/api/v1/events", EVENT)).status_code == 202
    assert (await locked.post("/api/v1/events", EVENT, Authorization=f"Bearer {key}")).status_code == 202
    basic = base64.b64encode(f"any:{key}".encode()).decode()
    assert (await locked.post("/api/v1/events", EVENT, Authorization=f"Basic {basic}")).status_code == 401


async def test_a_scope_that_lacks_is_forbidden_before_anything_runs(
    locked: Api, conn: Conn, settings: Settings
) -> None:
    sender = Api(locked.conductor, await make_key(conn, settings, scopes=frozenset({Scope.SEND})))
    assert (await sender.post("/graphql", {"query": SEND})).status_code == 200
    refused = await sender.post("/graphql", {"query": READ})
    assert refused.status_code == 403
    assert refused.json["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert "READ" in refused.json["errors"][0]["message"]
    hidden = "query { ...F } fragment F on Query { ... on Query { a: events { nodes { id } } } }"
    assert (await sender.post("/graphql", {"query": hidden})).status_code == 403
    assert (await sender.get("/graphql/schema")).status_code == 403
    reader = Api(locked.conductor, await make_key(conn, settings, scopes=frozenset({Scope.READ})))
    assert (await reader.post("/graphql", {"query": READ})).status_code == 200
    assert (await reader.post("/graphql", {"query": SEND})).status_code == 403
    rest = await reader.post("/api/v1/events", EVENT)
    assert (rest.status_code, rest.json["error"]["code"]) == (403, "FORBIDDEN")
    assert (await reader.post("/api/v1/events/batch", {"events": [EVENT]})).status_code == 403


BEHIND = [
    'mutation { sendEvent(input: {eventType: "a.b", payload: 1}) { deliveries { endpoint { url } } } }',
    'mutation { sendEvents(inputs: [{eventType: "a.b", payload: 1}]) { event { deliveries { id } } } }',
    """mutation { sendEvent(input: {eventType: "a.b", payload: 1}) { ...F } }
       fragment F on Event { ... on Event { ... { deliveries { event { payload } } } } }""",
    """mutation { ...M } fragment M on Mutation { cancelScheduledEvent(id: "x") { deliveries { id } } }""",
]
OWN = [
    'mutation { sendEvent(input: {eventType: "a.b", payload: 1}) { __typename id status payload } }',
    'mutation { sendEvents(inputs: [{eventType: "a.b", payload: 1}]) { event { id } error { code } } }',
]


async def test_what_a_result_leads_on_to_needs_read(locked: Api, conn: Conn, settings: Settings) -> None:
    """A key that may only send would otherwise read every event through the endpoint of its own."""
    sender = Api(locked.conductor, await make_key(conn, settings, scopes=frozenset({Scope.SEND})))
    for query in BEHIND:
        refused = await sender.post("/graphql", {"query": query})
        assert (refused.status_code, "READ" in refused.text) == (403, True), query
    assert (await conn.execute("SELECT FROM events")).rowcount == 0
    both = Api(locked.conductor, await make_key(conn, settings, scopes=frozenset({Scope.SEND, Scope.READ})))
    for api, queries in ((sender, OWN), (both, [*BEHIND, *OWN])):
        for query in queries:
            assert (await api.post("/graphql", {"query": query})).status_code == 200, query


async def test_one_client_never_sees_anothers_data(locked: Api, conn: Conn, settings: Settings) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings, client="mine"))
    other = Api(locked.conductor, await make_key(conn, settings, client="other"))
    create = """mutation { createEvent(input: {destination: "http://127.0.0.1:9999/", payload: 1}, idempotencyKey: "k") {
        id } }"""
    id = (await mine.data(create))["createEvent"]["id"]
    assert (await other.data("query($id: ID!) { event(id: $id) { id } explainEvent(id: $id) { why } }", id=id)) == {
        "event": None,
        "explainEvent": [],
    }
    assert (await other.data("{ events { totalCount nodes { id } } deliveries { totalCount } }")) == {
        "events": {"totalCount": 0, "nodes": []},
        "deliveries": {"totalCount": 0},
    }
    assert (await other.data(create))["createEvent"]["id"] != id


async def test_an_operator_sees_totals_and_acts_for_a_client(locked: Api, conn: Conn, settings: Settings) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings, client="mine"))
    id = (await mine.data(SEND))["sendEvent"]["id"]
    operator = Api(locked.conductor, await make_key(conn, settings, client="ops", scopes=frozenset({Scope.OPERATOR})))
    client = await tenants.find_by_name(conn, "mine")
    assert client is not None
    find = f'{{ event(id: "{id}") {{ id }} }}'
    assert (await operator.graphql(find))["data"]["event"] is None
    assert (await operator.graphql(find, X_Relay_Client=str(client.id)))["data"]["event"] == {"id": id}
    await conn.execute("INSERT INTO intake_counts (tenant_id, queued, scheduled) VALUES (%s, 3, 0)", (client.id,))
    totals = "{ queueStats { queued } }"
    assert (await operator.graphql(totals))["data"]["queueStats"]["queued"] == 3
    other = Api(locked.conductor, await make_key(conn, settings, client="other"))
    assert (await other.graphql(totals))["data"]["queueStats"]["queued"] == 0
    assert (await mine.post("/graphql", {"query": find}, X_Relay_Client=str(client.id))).status_code == 403
    assert (await operator.post("/graphql", {"query": find}, X_Relay_Client="mine")).status_code == 400
    unknown = "01890000-0000-7000-8000-000000000000"
    assert (await operator.post("/graphql", {"query": find}, X_Relay_Client=unknown)).status_code == 404


async def test_metrics_are_for_operators(locked: Api, conn: Conn, settings: Settings) -> None:
    assert (await locked.get("/metrics")).status_code == 401
    reader = Api(locked.conductor, await make_key(conn, settings, scopes=CLIENT_SCOPES))
    assert (await reader.get("/metrics")).status_code == 403
    key = await make_key(conn, settings, scopes=frozenset({Scope.OPERATOR}))
    basic = base64.b64encode(f"any:{key}".encode()).decode()
    shown = await locked.get("/metrics", Authorization=f"Basic {basic}")
    assert shown.status_code == 200
    assert "# HELP" in shown.text


async def test_without_keys_pages_of_other_sites_are_refused(api: Api) -> None:
    assert (await api.post("/graphql", {"query": READ}, Origin="http://evil.example")).status_code == 403
    own = f"http://{DEFAULT_HOST}"
    assert (await api.post("/graphql", {"query": READ}, Origin=own)).status_code == 200


async def test_the_schema_may_be_asked_for_without_a_key_when_the_playground_is_on(settings: Settings) -> None:
    for playground, status in ((True, 200), (False, 401)):
        strict = settings.model_copy(update={"auth_enabled": True, "enable_playground": playground})
        async with ASGIConductor(create_app(strict)) as conductor:
            api = Api(conductor)
            assert (await api.post("/graphql", {"query": "{ __schema { queryType { name } } }"})).status_code == status
            assert (await api.post("/graphql", {"query": READ})).status_code == 401
            mixed = "{ __typename events { totalCount } }"
            assert (await api.post("/graphql", {"query": mixed})).status_code == 401


async def test_a_revoked_key_ends_with_its_memory(locked: Api, conn: Conn, settings: Settings) -> None:
    key = await make_key(conn, settings)
    client = await tenants.find_by_name(conn, "acme")
    assert client is not None
    (record,) = (await api_keys.list_(conn, client.id, first=1)).items
    await api_keys.revoke(conn, client.id, record.id)
    assert (await Api(locked.conductor, key).post("/graphql", {"query": READ})).status_code == 401
