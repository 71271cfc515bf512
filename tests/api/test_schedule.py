"""Taking scheduled events back by API."""

from __future__ import annotations

from relay.db import Conn
from relay.settings import Settings
from relay.tenancy.scopes import Scope
from tests.api.conftest import Api, make_key
from tests.api.test_sending import SEND, event
from tests.delivery.crew import rows

CANCEL = "mutation($id: ID!) { cancelScheduledEvent(id: $id) { id status } }"


async def send(api: Api, **fields: object) -> str:
    return (await api.data(SEND, input=event(**fields)))["sendEvent"]["id"]


async def test_a_scheduled_event_is_cancelled_once(api: Api) -> None:
    id = await send(api, delaySeconds=3600)
    assert (await api.data(CANCEL, id=id))["cancelScheduledEvent"] == {"id": id, "status": "CANCELLED"}
    assert await api.error(CANCEL, id=id) == ("CONFLICT", None)
    shown = await api.data("query($id: ID!) { event(id: $id) { status deliveries { id } } }", id=id)
    assert shown["event"] == {"status": "CANCELLED", "deliveries": []}
    for unmatched, ids in (("true", []), ("false", [{"id": id}])):
        query = f"{{ events(filter: {{unmatched: {unmatched}}}) {{ nodes {{ id }} }} }}"
        assert (await api.data(query))["events"]["nodes"] == ids


async def test_an_event_for_one_url_can_be_cancelled_too(api: Api) -> None:
    query = "mutation($input: CreateEventInput!) { createEvent(input: $input) { id } }"
    input = {"destination": "http://127.0.0.1:9999/", "payload": 1, "delaySeconds": 60}
    id = (await api.data(query, input=input))["createEvent"]["id"]
    assert (await api.data(CANCEL, id=id))["cancelScheduledEvent"]["status"] == "CANCELLED"


async def test_what_was_not_scheduled_or_is_not_there_is_refused(api: Api) -> None:
    assert await api.error(CANCEL, id=await send(api)) == ("CONFLICT", None)
    for id in ("01890000-0000-7000-8000-000000000000", "nonsense"):
        assert (await api.error(CANCEL, id=id))[0] == "NOT_FOUND"


async def test_a_key_that_may_send_may_cancel_its_clients_events(locked: Api, conn: Conn, settings: Settings) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings, client="mine", scopes=frozenset({Scope.SEND})))
    other = Api(locked.conductor, await make_key(conn, settings, client="other"))
    id = await send(mine, delaySeconds=60)
    assert (await other.error(CANCEL, id=id))[0] == "NOT_FOUND"
    await mine.data("mutation($id: ID!) { cancelScheduledEvent(id: $id) { id } }", id=id)
    assert await rows(conn, "SELECT cancelled FROM fanouts") == [(True,)]
