"""What moves at this moment, by API: what `relay top` shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from relay.db import Conn
from relay.insight import counts, stats
from relay.settings import Settings
from relay.tenancy.scopes import Scope
from tests.api.conftest import Api, make_key
from tests.rows import make_world

ACTIVITY = """query($since: DateTime, $first: Int) { activity(since: $since) {
    since asOf created delivered dead attempts failedAttempts circuits workers webProcesses
    high { ...T } normal { ...T } low { ...T }
    failing(first: $first) { url attempts failedAttempts circuit } }
    queueStats { ready held delayed delivering } }
    fragment T on TierActivity { ready held delayed delivering oldestAgeSeconds }"""
NUMBERS = ("ready", "held", "delayed", "delivering")


async def test_a_client_sees_what_moves_of_its_own_and_an_operator_what_moves_of_all(
    locked: Api, conn: Conn, settings: Settings
) -> None:
    world, other = await make_world(conn), await make_world(conn, "other")
    for tier in (0, 1, 1, 2):
        await world.waiting(await world.event(), tier=tier)
    await world.waiting(await world.event(), due_s=60, tier=2)
    await world.dispatched(await world.event(), owner=7)
    await conn.execute(
        "INSERT INTO scheduled VALUES (gen_random_uuid(), %s, now() + interval '1 h')", (world.tenant_id,)
    )
    for one, state in ((world, "delivered"), (world, "dead"), (other, "delivered")):
        delivery = await one.finished(await one.event(), state)
        await one.attempt(delivery, 1, status=500)
        await one.attempt(delivery, 2, status=200 if state == "delivered" else None)
    await conn.execute(
        """UPDATE lanes SET gate_reason = 'circuit_open', gate_until = now() + interval '1 min', opened_at = now()
           WHERE endpoint_id = %s AND key = ''""",
        (other.endpoint_id,),
    )
    await conn.execute("INSERT INTO workers (no, name) VALUES (1, 'a:1')")
    await counts.refresh(conn)
    await stats.refresh(conn)
    mine = Api(locked.conductor, await make_key(conn, settings))
    operator = Api(locked.conductor, await make_key(conn, settings, client="ops", scopes=frozenset({Scope.OPERATOR})))

    told = await mine.data(ACTIVITY, first=1)
    seen = told["activity"]
    tiers = [seen[name] for name in ("high", "normal", "low")]
    assert [[tier[name] for name in NUMBERS] for tier in tiers] == [[1, 0, 0, 0], [2, 0, 1, 1], [1, 0, 1, 0]]
    assert {name: sum(tier[name] for tier in tiers) for name in NUMBERS} == told["queueStats"]
    assert tiers[0]["oldestAgeSeconds"] > 0
    assert [seen[name] for name in ("created", "delivered", "dead", "attempts", "failedAttempts")] == [8, 1, 1, 4, 3]
    assert (seen["circuits"], seen["workers"], seen["webProcesses"]) == (0, None, None)
    assert [(one["attempts"], one["failedAttempts"], one["circuit"]) for one in seen["failing"]] == [(4, 3, "CLOSED")]

    everything = (await operator.data(ACTIVITY))["activity"]
    assert (everything["delivered"], everything["circuits"], everything["workers"]) == (2, 1, 1)
    assert [one["circuit"] for one in everything["failing"]] == ["CLOSED", "OPEN"]
    await conn.execute("UPDATE stats SET at = at - interval '10 min'")
    assert (await mine.data(ACTIVITY))["activity"]["failing"] == []


async def test_counts_begin_with_the_minute_of_since_and_reach_an_hour_back(api: Api, conn: Conn) -> None:
    world = await make_world(conn, "default")
    await world.finished(await world.event(), ago=timedelta(minutes=30))
    await stats.refresh(conn, minutes=45)
    now = datetime.now(UTC)
    seen = (await api.data(ACTIVITY))["activity"]
    assert seen["delivered"] == 0
    assert timedelta(minutes=1) < now - datetime.fromisoformat(seen["since"]) < timedelta(minutes=4)
    earlier = (await api.data(ACTIVITY, since=(now - timedelta(minutes=40)).isoformat()))["activity"]
    assert earlier["delivered"] == 1
    assert datetime.fromisoformat(earlier["since"]).second == 0
    assert datetime.fromisoformat(earlier["asOf"]) > now - timedelta(minutes=1)
    assert await api.error(ACTIVITY, since=(now - timedelta(hours=2)).isoformat()) == ("INVALID", "since")
