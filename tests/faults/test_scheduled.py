"""Events with a time go out at that time, however many share it, and a cancelled one never does."""

from __future__ import annotations

from relay.db import Conn
from relay.errors import Conflict
from relay.intake import cancelling
from tests.delivery.crew import rows
from tests.faults.conftest import StartWorker
from tests.running import until, until_true
from tests.shop import Shop, accepted
from tests.sink import Sink

#: What is promised is 1 s, on a machine that does nothing else.
LATE_S = 5.0


async def test_five_thousand_events_of_the_same_moment_are_fanned_out_then(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    with Sink() as sink:
        await shop.endpoint(sink.url())
        for _ in range(10):
            await shop.accept(*(shop.event(delay_s=3600) for _ in range(500)))
        start_worker()
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM workers)")
        await conn.execute("UPDATE scheduled SET due_at = now() + interval '2 s'")
        ((due_at,),) = await rows(conn, "SELECT DISTINCT due_at FROM scheduled")
        await until_true(conn, "SELECT count(*) = 5000 FROM fanouts")
        found = await rows(
            conn,
            """SELECT min(extract(epoch FROM at - %(due)s))::float8, max(extract(epoch FROM at - %(due)s))::float8
               FROM fanouts""".replace("%(due)s", f"'{due_at}'::timestamptz"),
        )
        print("fanned out after (s):", found)
        ((first_s, last_s),) = found
        assert isinstance(first_s, float)
        assert isinstance(last_s, float)
        assert 0 <= first_s <= last_s < LATE_S
        await until(lambda: len(sink.events()) == 5000, 30, what="every arrival")
    assert set(sink.events().values()) == {1}


async def test_what_is_cancelled_while_due_never_arrives_and_the_rest_does(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    with Sink() as sink:
        await shop.endpoint(sink.url())
        events = [one.id for one in accepted(await shop.accept(*(shop.event(delay_s=3600) for _ in range(400))))]
        start_worker()
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM workers)")
        await conn.execute("UPDATE scheduled SET due_at = now() + random() * interval '1 s'")
        cancelled: set[str] = set()
        for id in reversed(events):
            try:
                async with shop.web.db.transaction() as tx:
                    await cancelling.cancel(tx, shop.tenant_id, id)
                cancelled.add(str(id))
            except Conflict:
                pass
        await until_true(conn, "SELECT count(*) = 400 FROM fanouts")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)")
    print(len(cancelled), "of 400 cancelled")
    assert cancelled
    assert sink.events() == {str(id): 1 for id in events if str(id) not in cancelled}
