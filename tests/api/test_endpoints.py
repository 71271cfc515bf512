from __future__ import annotations

import pytest

from relay.db import Conn
from relay.settings import Settings
from tests.api.conftest import Api, make_key

CREATE = """mutation($input: CreateEndpointInput!) { createEndpoint(input: $input) {
    secret endpoint { id url description eventTypes status maxRetries retrySchedule retryBackoffMs timeoutMs
                      maxConcurrency customHeaders createdAt updatedAt } } }"""
UPDATE = """mutation($id: ID!, $input: UpdateEndpointInput!) { updateEndpoint(id: $id, input: $input) {
    url description maxRetries retrySchedule retryBackoffMs timeoutMs customHeaders } }"""
POLICY = """{ endpoints { nodes { maxRetries terminalStatusCodes rateLimitPerSec circuitThreshold circuitResetMs fifo
    fifoPartitionKey fifoOnDead format gzip disabledReason disabledAt } } }"""
DELETE = "mutation($id: ID!) { deleteEndpoint(id: $id) }"
FIND = "query($id: ID!) { endpoint(id: $id) { id } }"


async def make(api: Api, **input: object) -> str:
    made = await api.data(CREATE, input={"url": "http://127.0.0.1:9999/hook", "eventTypes": ["*"], **input})
    return made["createEndpoint"]["endpoint"]["id"]


async def test_a_new_endpoint_shows_its_secret_once_and_its_defaults(api: Api) -> None:
    input = {"url": "http://127.0.0.1:9999/", "eventTypes": ["order.*", "a.b"], "customHeaders": {"X-One": "1"}}
    made = (await api.data(CREATE, input=input))["createEndpoint"]
    assert made["secret"].startswith("whsec_")
    shown = made["endpoint"]
    assert shown["eventTypes"] == ["order.*", "a.b"]
    assert shown["customHeaders"] == {"X-One": "1"}
    assert (shown["status"], shown["maxRetries"], shown["timeoutMs"], shown["maxConcurrency"]) == (
        "ACTIVE",
        10,
        30000,
        20,
    )
    assert shown["retrySchedule"][:3] == [1000, 5000, 30000]
    assert shown["createdAt"].endswith("Z")


async def test_an_update_keeps_what_is_absent_and_clears_what_is_null(api: Api) -> None:
    id = await make(api, description="first", customHeaders={"X-One": "1"}, timeoutMs=5000)
    changed = (await api.data(UPDATE, id=id, input={"description": None, "maxRetries": 2}))["updateEndpoint"]
    assert (changed["description"], changed["maxRetries"]) == (None, 2)
    assert (changed["customHeaders"], changed["timeoutMs"]) == ({"X-One": "1"}, 5000)
    assert (await api.data(UPDATE, id=id, input={"timeoutMs": None}))["updateEndpoint"]["timeoutMs"] == 30000


async def policy_of_the_only_one(api: Api) -> dict[str, object]:
    (shown,) = (await api.data(POLICY))["endpoints"]["nodes"]
    return shown


async def test_a_delivery_policy_has_the_contracts_defaults_and_shows_what_was_given(api: Api) -> None:
    defaults = {
        "maxRetries": 10,
        "terminalStatusCodes": [],
        "rateLimitPerSec": 0,
        "circuitThreshold": 5,
        "circuitResetMs": 300_000,
        "fifo": False,
        "fifoPartitionKey": None,
        "fifoOnDead": "PARK",
        "format": "RAW",
        "gzip": False,
        "disabledReason": None,
        "disabledAt": None,
    }
    given = {
        "maxRetries": 3,
        "terminalStatusCodes": [422, 404, 404],
        "rateLimitPerSec": 50,
        "circuitThreshold": 1,
        "circuitResetMs": 100,
        "fifo": True,
        "fifoPartitionKey": "$.customer.id",
        "fifoOnDead": "BLOCK",
        "format": "CLOUDEVENTS_BINARY",
        "gzip": True,
    }
    shown = {**defaults, **given, "terminalStatusCodes": [404, 422]}
    id = await make(api)
    assert await policy_of_the_only_one(api) == defaults
    await api.data(UPDATE, id=id, input=given)
    assert await policy_of_the_only_one(api) == shown
    await api.data(UPDATE, id=id, input={"description": "the rest stays"})
    assert await policy_of_the_only_one(api) == shown
    await api.data(UPDATE, id=id, input=dict.fromkeys(given))
    assert await policy_of_the_only_one(api) == defaults
    await api.data(DELETE, id=id)
    await make(api, **given)
    assert await policy_of_the_only_one(api) == shown
    literal = UPDATE.replace("input: $input", "input: {fifoOnDead: PARK}").replace(", $input: UpdateEndpointInput!", "")
    (id,) = [node["id"] for node in (await api.data("{ endpoints { nodes { id } } }"))["endpoints"]["nodes"]]
    await api.data(literal, id=id)
    assert await policy_of_the_only_one(api) == {**shown, "fifoOnDead": "PARK"}


async def test_a_disabled_endpoint_shows_why_and_since_when(api: Api, conn: Conn) -> None:
    await make(api)
    await conn.execute(
        "UPDATE endpoints SET status = 'disabled', disabled_reason = 'gone', disabled_at = '2026-01-02T03:04:05Z'"
    )
    shown = await policy_of_the_only_one(api)
    assert (shown["disabledReason"], shown["disabledAt"]) == ("GONE", "2026-01-02T03:04:05.000Z")


async def test_an_order_in_use_is_a_conflict_that_says_what_to_do(api: Api, conn: Conn) -> None:
    id = await make(api, fifo=True, fifoPartitionKey="$.a")
    await api.data("mutation($id: ID!) { testEndpoint(id: $id) { id } }", id=id)
    await conn.execute("UPDATE live SET lane = 'fifo:x', seq = 1")
    assert await api.error(UPDATE, id=id, input={"fifo": False}) == ("CONFLICT", "fifo")
    assert await api.error(UPDATE, id=id, input={"fifo": None}) == ("CONFLICT", "fifo")
    answer = await api.graphql(UPDATE, {"id": id, "input": {"fifoPartitionKey": "$.b"}})
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "CONFLICT"
    assert "fifoPartitionKey" in error["message"]
    assert "drain" in error["message"]
    shown = await policy_of_the_only_one(api)
    assert (shown["fifo"], shown["fifoPartitionKey"]) == (True, "$.a")


async def test_a_deleted_endpoint_is_gone(api: Api) -> None:
    id = await make(api)
    assert (await api.data(FIND, id=id))["endpoint"] == {"id": id}
    assert (await api.data(DELETE, id=id))["deleteEndpoint"] is True
    assert (await api.data(FIND, id=id))["endpoint"] is None
    assert await api.error(DELETE, id=id) == ("NOT_FOUND", None)


async def test_an_unknown_endpoint_is_null_to_a_query_and_not_found_to_a_mutation(api: Api) -> None:
    for id in ["01890000-0000-7000-8000-000000000000", "nonsense"]:
        assert (await api.data(FIND, id=id))["endpoint"] is None
        assert (await api.error(DELETE, id=id))[0] == "NOT_FOUND"
        assert (await api.error(UPDATE, id=id, input={"maxRetries": 1}))[0] == "NOT_FOUND"
        assert (await api.error("mutation($id: ID!) { testEndpoint(id: $id) { id } }", id=id))[0] == "NOT_FOUND"


WRONG: list[tuple[dict[str, object], str]] = [
    ({"url": "example.com/hook"}, "url"),
    ({"url": "ftp://example.com/"}, "url"),
    ({"url": "https://user:secret@example.com/"}, "url"),
    ({"eventTypes": []}, "eventTypes"),
    ({"eventTypes": ["order.*.x"]}, "eventTypes"),
    ({"maxRetries": 101}, "maxRetries"),
    ({"timeoutMs": 99}, "timeoutMs"),
    ({"timeoutMs": "soon"}, "timeoutMs"),
    ({"rateLimitPerSec": 10_001}, "rateLimitPerSec"),
    ({"circuitThreshold": 0}, "circuitThreshold"),
    ({"circuitResetMs": 99}, "circuitResetMs"),
    ({"terminalStatusCodes": [200]}, "terminalStatusCodes"),
    ({"fifo": "yes"}, "fifo"),
    ({"fifoPartitionKey": "customer.id"}, "fifoPartitionKey"),
    ({"fifoPartitionKey": "$.items[?@.a]"}, "fifoPartitionKey"),
    ({"fifoOnDead": "DROP"}, "fifoOnDead"),
    ({"customHeaders": {"Host": "x"}}, "customHeaders"),
    ({"customHeaders": [1]}, "customHeaders"),
    ({"retrySchedule": [1000], "retryBackoffMs": 5}, "retrySchedule"),
    ({"secret": "short"}, "secret"),
    ({"colour": "red"}, "colour"),
]


async def test_a_wrong_endpoint_is_one_clear_error_and_nothing_is_stored(api: Api) -> None:
    for input, field in WRONG:
        wrong = {"url": "http://127.0.0.1:9999/", "eventTypes": ["*"], **input}
        assert await api.error(CREATE, input=wrong) == ("INVALID", field), input
    assert (await api.data("{ endpoints { totalCount } }"))["endpoints"]["totalCount"] == 0


async def test_a_private_address_names_the_setting_that_allows_it(api: Api) -> None:
    answer = await api.graphql(CREATE, {"input": {"url": "http://10.1.2.3/", "eventTypes": ["*"]}})
    assert "ALLOWED_PRIVATE_NETWORKS" in answer["errors"][0]["message"]


async def test_pages_follow_one_another_newest_first(api: Api) -> None:
    ids = [await make(api) for _ in range(5)]
    query = """query($after: String) { endpoints(first: 2, after: $after) {
        edges { cursor node { id } } nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
    seen: list[str] = []
    after = None
    while True:
        page = (await api.data(query, after=after))["endpoints"]
        assert [edge["node"] for edge in page["edges"]] == page["nodes"]
        assert page["totalCount"] == 5
        assert page["pageInfo"]["hasPreviousPage"] is bool(seen)
        assert page["pageInfo"]["endCursor"] == page["edges"][-1]["cursor"]
        seen += [node["id"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("arguments", "field"), [("first: 0", "first"), ("first: 101", "first"), ('after: "?"', "after")]
)
async def test_a_page_that_cannot_be_is_invalid(api: Api, arguments: str, field: str) -> None:
    assert await api.error(f"{{ endpoints({arguments}) {{ nodes {{ id }} }} }}") == ("INVALID", field)


async def test_a_test_event_goes_to_one_endpoint_only(api: Api) -> None:
    id, _other = await make(api, url="http://127.0.0.1:9999/a"), await make(api)
    query = """mutation($id: ID!) { testEndpoint(id: $id) {
        destination endpoint { id } event { eventType deliveries { destination } } } }"""
    sent = (await api.data(query, id=id))["testEndpoint"]
    assert sent["endpoint"]["id"] == id
    assert sent["event"] == {"eventType": "relay.test", "deliveries": [{"destination": "http://127.0.0.1:9999/a"}]}


@pytest.mark.parametrize("event_type", ["", "a b", "order.*", "x" * 300, "a\0b"])
async def test_a_test_event_has_a_type_that_an_event_can_have(api: Api, event_type: str) -> None:
    id = await make(api)
    query = "mutation($id: ID!, $type: String) { testEndpoint(id: $id, eventType: $type) { event { eventType } } }"
    assert await api.error(query, id=id, type=event_type) == ("INVALID", "eventType")
    for own in ("order.paid", "relay.endpoint.disabled"):
        assert (await api.data(query, id=id, type=own))["testEndpoint"]["event"] == {"eventType": own}


async def test_waiting_deliveries_of_a_deleted_endpoint_are_cancelled(api: Api, conn: Conn) -> None:
    id = await make(api)
    await api.data("mutation($id: ID!) { testEndpoint(id: $id) { id } }", id=id)
    await api.data(DELETE, id=id)
    query = "{ deliveries { nodes { status reason endpoint { id } destination } } }"
    (delivery,) = (await api.data(query))["deliveries"]["nodes"]
    assert delivery == {
        "status": "CANCELLED",
        "reason": "ENDPOINT_DELETED",
        "endpoint": None,
        "destination": "http://127.0.0.1:9999/hook",
    }


async def test_a_client_sees_and_changes_its_own_endpoints_only(locked: Api, conn: Conn, settings: Settings) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings, client="mine"))
    other = Api(locked.conductor, await make_key(conn, settings, client="other"))
    id = await make(mine)
    assert (await other.data(FIND, id=id))["endpoint"] is None
    assert (await other.data("{ endpoints { totalCount } }"))["endpoints"]["totalCount"] == 0
    assert (await other.error(DELETE, id=id))[0] == "NOT_FOUND"
    assert (await mine.data(FIND, id=id))["endpoint"] == {"id": id}


async def test_a_new_client_secret_is_shown_once(api: Api) -> None:
    query = "mutation($s: String) { rotateClientSecret(secret: $s, overlapSeconds: 60) { newSecret client { secretHint } } }"
    rotated = (await api.data(query))["rotateClientSecret"]
    assert rotated["newSecret"].endswith(rotated["client"]["secretHint"])
    assert await api.error(query, s="short") == ("INVALID", "secret")
