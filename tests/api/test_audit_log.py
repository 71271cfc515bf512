"""The audit log by API: every mutation that changes something has its entry, in the transaction of the change."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from api.graphql.schema import core_schema
from relay.db import Conn
from relay.settings import Settings
from relay.tenancy import audit
from relay.tenancy.scopes import Scope
from tests.api.conftest import Api, make_key
from tests.api.test_endpoints import make
from tests.api.test_schedule import send
from tests.delivery.crew import rows
from tests.rows import World, make_world

LOG = """query($filter: AuditFilter, $first: Int, $after: String) { auditLog(filter: $filter, first: $first, after: $after) {
    nodes { actor action subjectType subjectId before after ip requestId } totalCount
    pageInfo { hasNextPage endCursor } } }"""
#: Mutations that write no entry, and why.
EXCEPTIONS = {
    "sendEvent": "an event is a record of its own",
    "sendEvents": "as sendEvent",
    "createEvent": "as sendEvent",
    "testEndpoint": "as sendEvent: a test event",
    "testFilter": "it changes nothing",
    "testTransformation": "it changes nothing",
}
#: How each other mutation is called so that it changes something; {names} are ids that `world_of` makes.
CALLS = {
    "createEndpoint": '(input: {url: "http://127.0.0.1:9999/", eventTypes: ["*"]}) { endpoint { id } }',
    "updateEndpoint": '(id: "{endpoint}", input: {maxRetries: 2}) { id }',
    "pauseEndpoint": '(id: "{endpoint}") { id }',
    "resumeEndpoint": '(id: "{endpoint}") { id }',
    "releaseFIFOLock": '(endpointId: "{endpoint}")',
    "drainFIFOQueue": '(endpointId: "{endpoint}") { messagesDrained }',
    "rotateClientSecret": "{ newSecret }",
    "rotateEndpointSecret": '(id: "{endpoint}") { newSecret }',
    "clearPreviousSecret": '(id: "{endpoint}") { id }',
    "createClient": '(input: {name: "new"}) { key secret }',
    "updateClient": '(id: "{client}", input: {rateLimitPerSec: 100000}) { id }',
    "createApiKey": '(input: {name: "second", scopes: [READ]}) { key }',
    "revokeApiKey": '(id: "{apiKey}") { id }',
    "createEventType": '(input: {name: "order.shipped"}) { id }',
    "updateEventType": '(id: "{eventType}", input: {description: "changed"}) { id }',
    "deleteEventType": '(id: "{eventType}")',
    "importEventTypes": '(document: {openapi: "3.1.0", webhooks: {imported: {}}}) { created }',
    "eraseEvents": '(input: {ids: ["{died}"]}) { id }',
    "cancelScheduledEvent": '(id: "{scheduled}") { id }',
    "replayEvent": '(id: "{died}") { id }',
    "retryDelivery": '(id: "{failed}") { id }',
    "cancelDelivery": '(id: "{failed}") { id }',
    "retryEvents": '(ids: ["{died}"]) { totalSucceeded }',
    "retryEventsByStatus": "(status: CANCELLED, limit: 1) { totalSucceeded }",
    "retryEventsByEndpoint": '(endpointId: "{theirs}", status: CANCELLED) { totalSucceeded }',
    "startReplay": '(input: {since: "2020-01-01T00:00:00Z", until: "2100-01-01T00:00:00Z"}) { id }',
    "pauseJob": '(id: "{job}") { id }',
    "resumeJob": '(id: "{job}") { id }',
    "cancelJob": '(id: "{job}") { id }',
    "deleteEndpoint": '(id: "{endpoint}")',
}
#: A job with nothing to do.
START = '{ startReplay(input: {since: "2020-01-01T00:00:00Z", until: "2020-01-02T00:00:00Z"}) { id } }'


KEY = '{ createApiKey(input: {name: "first", scopes: [READ]}) { apiKey { id } } }'
TYPE = '{ createEventType(input: {name: "order.paid"}) { id } }'


async def log(api: Api, **arguments: Any) -> list[dict[str, Any]]:
    return (await api.data(LOG, **arguments))["auditLog"]["nodes"]


async def world_of(api: Api, conn: Conn) -> tuple[World, dict[str, str]]:
    """The client that is everybody, and one of each thing that a mutation changes."""
    await api.data("{ __typename }")
    world = await make_world(conn, "default")
    died = await world.event()
    await world.finished(died, "dead")
    for _ in range(2):
        await world.finished(await world.event(), "cancelled")
    return world, {
        "endpoint": await make(api),
        "theirs": str(world.endpoint_id),
        "scheduled": await send(api, delaySeconds=3600),
        "died": str(died),
        "failed": str(await world.waiting(await world.event(), attempts=1, due_s=3600)),
        "job": (await api.data("mutation " + START))["startReplay"]["id"],
        "client": str(world.tenant_id),
        "apiKey": (await api.data("mutation " + KEY))["createApiKey"]["apiKey"]["id"],
        "eventType": (await api.data("mutation " + TYPE))["createEventType"]["id"],
    }


async def entries(conn: Conn, action: str) -> list[Any]:
    """Of all clients: createClient's entry is the new client's."""
    found = await conn.execute(
        "SELECT tenant_id, actor, request_id, ip FROM audit_log WHERE action = %s ORDER BY id", (action,)
    )
    return await found.fetchall()


def filled(call: str, ids: dict[str, str]) -> str:
    for name, id in ids.items():
        call = call.replace("{" + name + "}", id)
    return call


async def test_every_mutation_has_one_entry_or_a_reason_to_have_none(api: Api, conn: Conn) -> None:
    mutations = core_schema.mutation_type
    assert mutations is not None
    assert set(mutations.fields) == CALLS.keys() | EXCEPTIONS.keys(), "say in CALLS how a new mutation is called"
    world, ids = await world_of(api, conn)
    for name, call in CALLS.items():
        before = await entries(conn, name)
        await api.data(f"mutation {{ {name}{filled(call, ids)} }}")
        after = await entries(conn, name)
        assert len(after) == len(before) + 1, name
        tenant_id, actor, request_id, ip = after[-1]
        assert (actor, tenant_id == world.tenant_id) == ("no key", name != "createClient"), name
        assert request_id, name
        assert ip, name
    text = str(await rows(conn, "SELECT a::text FROM audit_log a"))
    assert "whsec_" not in text
    assert not re.search(r"rly_[A-Za-z0-9_-]{9}", text)


async def test_an_entry_says_what_changed_and_who_did_it(locked: Api, conn: Conn, settings: Settings) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings))
    id = await make(mine, maxRetries=3)
    update = "mutation($id: ID!, $i: UpdateEndpointInput!) { updateEndpoint(id: $id, input: $i) { id } }"
    headers = {"Authorization": "Bearer abc", "X-Team": "a"}
    change = {"maxRetries": 4, "customHeaders": headers, "status": "PAUSED"}
    answer = await mine.graphql(update, {"id": id, "i": change}, X_Request_Id="my-request")
    assert "errors" not in answer
    updated, created = await log(mine)
    ((key,),) = await rows(conn, "SELECT id::text FROM api_keys")
    assert (updated["actor"], updated["subjectId"], updated["requestId"]) == (f"{key} test", id, "my-request")
    assert updated["before"] == {"maxRetries": 3, "customHeaders": None, "status": "ACTIVE"}
    shown = {"maxRetries": 4, "customHeaders": {"Authorization": "***", "X-Team": "a"}, "status": "PAUSED"}
    assert updated["after"] == shown
    assert (created["action"], created["before"], created["after"]["maxRetries"]) == ("createEndpoint", None, 3)


async def test_a_client_sees_its_own_entries_and_an_operator_all(locked: Api, conn: Conn, settings: Settings) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings))
    other = Api(locked.conductor, await make_key(conn, settings, client="other"))
    operator = Api(locked.conductor, await make_key(conn, settings, client="ops", scopes=frozenset(Scope)))
    reader = Api(locked.conductor, await make_key(conn, settings, scopes=frozenset({Scope.READ, Scope.MANAGE})))
    id = await make(mine)
    ((found,),) = await rows(conn, "SELECT id::text FROM tenants WHERE name = 'acme'")
    tenant = str(found)
    pause = "mutation($id: ID!) { pauseEndpoint(id: $id) { id } }"
    await operator.graphql(pause, {"id": id}, X_Relay_Client=tenant)
    await make(other)
    paused, created = await log(mine)
    assert paused["actor"].endswith(" test (operator)")
    assert not created["actor"].endswith("(operator)")
    assert len(await log(other)) == 1
    assert len(await log(operator)) == 3
    one = await operator.graphql(LOG, {}, X_Relay_Client=tenant)
    assert [node["action"] for node in one["data"]["auditLog"]["nodes"]] == ["pauseEndpoint", "createEndpoint"]
    assert await log(other, filter={"subjectId": id}) == []
    assert await reader.error(LOG) == ("FORBIDDEN", None)
    for actor, count in ((paused["actor"], 1), (paused["actor"].split()[0], 1), ("test", 2), ("cli", 0)):
        assert len(await log(mine, filter={"actor": actor})) == count
    first = (await mine.data(LOG, first=1))["auditLog"]
    assert (first["totalCount"], first["pageInfo"]["hasNextPage"]) == (2, True)
    assert [e["action"] for e in await log(mine, after=first["pageInfo"]["endCursor"])] == ["createEndpoint"]
    assert await mine.error(LOG, filter={"subjectId": "nonsense"}) == ("INVALID", "subjectId")


async def test_what_is_refused_has_no_entry(locked: Api, conn: Conn, settings: Settings) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings))
    reader = Api(locked.conductor, await make_key(conn, settings, scopes=frozenset({Scope.READ})))
    unknown = UUID(int=7)
    delete = f'mutation {{ deleteEndpoint(id: "{unknown}") }}'
    assert (await reader.error(delete))[0] == "FORBIDDEN"
    assert (await mine.error(delete))[0] == "NOT_FOUND"
    assert (await mine.error(f'mutation {{ pauseEndpoint(id: "{unknown}") {{ id }} }}'))[0] == "NOT_FOUND"
    wrong = 'mutation { createEndpoint(input: {url: "http://169.254.169.254/", eventTypes: ["*"]}) { secret } }'
    assert (await mine.error(wrong))[0] == "INVALID"
    assert await rows(conn, "SELECT 1 FROM audit_log") == []


async def test_neither_the_change_nor_its_entry_is_there_without_the_other(
    api: Api, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ids = await world_of(api, conn)
    entries = await rows(conn, "SELECT id FROM audit_log ORDER BY id")
    tables = ("endpoints", "lanes", "live", "jobs", "secrets", "fanouts", "history", "scheduled", "api_keys")
    tables += ("tenants", "event_types", "credentials")
    stored = [await rows(conn, f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables]
    write, killed = audit.write, set[str]()

    async def written_then_killed(conn: Conn, *args: Any, **named: Any) -> None:
        await write(conn, *args, **named)
        killed.add(args[1].action)
        await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(audit, "write", written_then_killed)
    for name, call in CALLS.items():
        answer = await api.graphql(f"mutation {{ {name}{filled(call, ids)} }}")
        assert "errors" in answer, name
    monkeypatch.setattr(audit, "write", write)
    assert killed == CALLS.keys() - {"resumeJob"}, "which found no paused job"
    assert await rows(conn, "SELECT id FROM audit_log ORDER BY id") == entries
    assert [await rows(conn, f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables] == stored


async def test_credentials_that_change_are_told_by_what_may_be_seen_of_them(api: Api, conn: Conn) -> None:
    await api.data("{ __typename }")
    id = await make(api)
    update = "mutation($id: ID!, $i: UpdateEndpointInput!) { updateEndpoint(id: $id, input: $i) { id } }"
    for token in ("first-token-of-many-letters-1234", "other-token-of-many-letters-1234"):
        await api.data(update, id=id, i={"auth": {"bearer": token}})
    await api.data(update, id=id, i={"secretHeaders": {"X-Team-Key": "hush-hush"}})
    await api.data(update, id=id, i={"auth": None, "maxRetries": 1})
    taken, headers, changed, given = (await log(api, filter={"action": "updateEndpoint"}))[:4]
    hint = given["after"]["auth"]
    assert hint["hint"].endswith("1234")
    assert (given["before"], changed["before"], changed["after"]) == ({"auth": None}, {"auth": hint}, {"auth": hint})
    assert headers["after"] == {"secretHeaders": ["X-Team-Key"]}
    assert taken["before"]["auth"] == hint
    assert taken["after"] == {"maxRetries": 1, "auth": None}
    stored = str(await rows(conn, "SELECT a::text FROM audit_log a"))
    assert not any(secret in stored for secret in ("first-token", "other-token", "hush-hush"))


async def test_an_erasure_keeps_of_the_subject_only_its_hash(api: Api, conn: Conn) -> None:
    await api.data('mutation { eraseEvents(input: {subject: "jane@shop.example"}) { id } }')
    await api.data('mutation { eraseEvents(input: {subject: "jane@shop.example", dryRun: true}) { id } }')
    ((after,),) = await rows(conn, "SELECT after FROM audit_log WHERE action = 'eraseEvents'")
    assert "'subject': 'sha256:" in str(after)


async def test_an_operators_change_of_a_client_is_the_clients_entry(
    locked: Api, conn: Conn, settings: Settings
) -> None:
    operator = Api(locked.conductor, await make_key(conn, settings, client="ops", scopes=frozenset(Scope)))
    made = await operator.data('mutation { createClient(input: {name: "shop"}) { key client { id } } }')
    id = made["createClient"]["client"]["id"]
    await operator.data(
        "mutation($id: ID!) { updateClient(id: $id, input: {unknownEventTypes: REFUSE}) { id } }", id=id
    )
    updated, created = await log(Api(locked.conductor, made["createClient"]["key"]))
    assert (updated["before"], updated["after"]) == ({"unknownEventTypes": "ALLOW"}, {"unknownEventTypes": "REFUSE"})
    assert (created["subjectId"], created["after"]["name"]) == (id, "shop")
    assert all(one["actor"].endswith(" test (operator)") for one in (updated, created))
