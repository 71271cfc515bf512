"""Gates: one row however much waits, moved only in the epoch they were decided in, and never forgotten by a lane."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from relay.db import Conn, Database
from relay.delivery import gates, lanes
from relay.delivery.gates import CircuitStatus, Gate
from relay.delivery.live import Dispatched, claim
from relay.delivery.outcomes import Reason
from relay.settings import Settings
from tests.delivery.crew import handed_out, rows
from tests.rows import World, make_world
from tests.scale import sized, tell

LANES = ("", "fifo:a", "high", "low")
WAITING = sized(1_000_000, 50_000)


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def epoch_of(world: World, endpoint_id: UUID | None = None) -> tuple[UUID, int]:
    id = endpoint_id or world.endpoint_id
    ((epoch,),) = await rows(world.conn, "SELECT gate_epoch FROM lanes WHERE endpoint_id = %s AND key = ''", (id,))
    assert isinstance(epoch, int)
    return id, epoch


async def opened(world: World, *, over: bool = False) -> tuple[UUID, int]:
    """Open the endpoint's circuit; `over`: its time is over at once, too."""
    assert await gates.open_circuits(world.conn, [await epoch_of(world)])
    if over:
        await rows(world.conn, "UPDATE lanes SET gate_until = now() WHERE gate_reason IS NOT NULL RETURNING 1")
    return await epoch_of(world)


async def written(world: World) -> int:
    """Rows that were ever written by the test's connection."""
    await rows(world.conn, "SELECT pg_stat_force_next_flush()")
    ((count,),) = await rows(world.conn, "SELECT sum(n_tup_upd + n_tup_ins + n_tup_del)::int FROM pg_stat_user_tables")
    assert isinstance(count, int)
    return count


async def asleep(world: World, until: str = "now() + interval '1 h'") -> None:
    """Give the endpoint lanes of every kind, all asleep."""
    for key in LANES:
        await rows(
            world.conn,
            f"""INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at) VALUES (%s, %s, %s, 1, {until})
                ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = excluded.ready_at RETURNING 1""",
            (world.endpoint_id, key, world.tenant_id),
        )


async def test_a_circuit_opens_once_and_for_as_long_as_its_endpoint_wants(world: World) -> None:
    await rows(world.conn, "UPDATE endpoints SET circuit_reset_ms = 90000 RETURNING 1")
    before = await epoch_of(world)
    (one,) = await gates.open_circuits(world.conn, [before])
    assert (one.tenant_id, one.endpoint_id) == (world.tenant_id, world.endpoint_id)
    assert await gates.open_circuits(world.conn, [before]) == []
    assert await gates.open_circuits(world.conn, [await epoch_of(world)]) == []
    assert await rows(
        world.conn, "SELECT gate_reason, gate_until - opened_at, probe_until FROM lanes WHERE gate_reason IS NOT NULL"
    ) == [("circuit_open", timedelta(seconds=90), None)]
    assert await epoch_of(world) != before


async def test_an_old_epoch_opens_closes_and_reopens_nothing(world: World) -> None:
    first = await epoch_of(world)
    second = await opened(world)
    assert await gates.reopen_circuits(world.conn, {first: 0}) == []
    assert await gates.close_circuits(world.conn, [first]) == []
    assert len(await gates.close_circuits(world.conn, [second])) == 1
    assert await gates.open_circuits(world.conn, [first, second]) == []
    assert await gates.close_circuits(world.conn, [await epoch_of(world)]) == []
    assert await rows(world.conn, "SELECT 1 FROM lanes WHERE gate_reason IS NOT NULL") == []


async def test_what_is_not_active_gets_no_gate(world: World) -> None:
    await rows(
        world.conn,
        "UPDATE endpoints SET status = 'disabled', disabled_at = now(), disabled_reason = 'gone' RETURNING 1",
    )
    assert await gates.open_circuits(world.conn, [await epoch_of(world)]) == []
    await gates.throttle(world.conn, {world.endpoint_id: 60})
    assert await rows(world.conn, "SELECT 1 FROM lanes WHERE gate_reason IS NOT NULL") == []


async def test_closing_clears_the_gate_and_rings_every_lane(world: World) -> None:
    await asleep(world)
    other = await world.endpoint("*")
    await rows(world.conn, "UPDATE lanes SET ready_at = NULL WHERE key = 'low' RETURNING 1")
    epoch = await opened(world, over=True)
    assert await gates.try_probe(world.conn, world.endpoint_id) == epoch[1]
    (one,) = await gates.close_circuits(world.conn, [epoch])
    assert (one.tenant_id, one.endpoint_id) == (world.tenant_id, world.endpoint_id)
    assert await rows(world.conn, "SELECT key FROM lanes WHERE ready_at <= now() ORDER BY key") == [(k,) for k in LANES]
    assert await rows(world.conn, "SELECT ready_at FROM lanes WHERE endpoint_id = %s", (other,)) == [(None,)]
    assert (
        await rows(
            world.conn,
            "SELECT 1 FROM lanes WHERE num_nonnulls(gate_reason, gate_until, probe_until, opened_at) > 0",
        )
        == []
    )
    assert await epoch_of(world) != epoch


async def test_a_failed_probe_holds_again_and_lanes_that_slept_for_it_wake_for_the_next(world: World) -> None:
    await rows(world.conn, "UPDATE endpoints SET circuit_reset_ms = 2000 RETURNING 1")
    epoch = await opened(world, over=True)
    await gates.try_probe(world.conn, world.endpoint_id)
    await asleep(world, "(SELECT probe_until FROM lanes WHERE key = '')")
    assert await gates.reopen_circuits(world.conn, {epoch: 0}) == [world.endpoint_id]
    assert await rows(
        world.conn, "SELECT gate_until - now() <= '2 s', probe_until, opened_at < now() FROM lanes WHERE key = ''"
    ) == [(True, None, True)]
    assert await rows(
        world.conn, "SELECT DISTINCT ready_at = (SELECT gate_until FROM lanes WHERE key = '') FROM lanes"
    ) == [(True,)]
    assert await epoch_of(world) != epoch


async def test_a_probe_that_is_asked_to_wait_longer_than_the_reset_waits_longer(world: World) -> None:
    epoch = await opened(world, over=True)
    await gates.reopen_circuits(world.conn, {epoch: 5000})
    assert await rows(world.conn, "SELECT gate_until > now() + interval '4990 s' FROM lanes WHERE key = ''") == [
        (True,)
    ]


async def test_of_many_that_would_probe_exactly_one_may(world: World, settings: Settings) -> None:
    db = Database(settings, connections=4)
    await db.open()

    async def probe() -> int | None:
        async with db.transaction() as own:
            return await gates.try_probe(own, world.endpoint_id)

    try:
        assert await probe() is None
        epoch = await opened(world)
        assert await probe() is None
        await rows(world.conn, "UPDATE lanes SET gate_until = now() RETURNING 1")
        answers = await asyncio.gather(*(probe() for _ in range(8)))
        assert [answer for answer in answers if answer is not None] == [epoch[1]]
        assert await rows(world.conn, "SELECT probe_until - now() BETWEEN '40 s' AND '45 s' FROM lanes") == [(True,)]
        await rows(world.conn, "UPDATE lanes SET probe_until = now() RETURNING 1")
        answers = await asyncio.gather(*(probe() for _ in range(8)))
        assert [answer for answer in answers if answer is not None] == [epoch[1]]
        await rows(world.conn, "UPDATE lanes SET probe_until = NULL, paused = true RETURNING 1")
        assert await probe() is None
    finally:
        await db.close()


async def test_retry_after_holds_never_shorter_than_before_and_never_instead_of_a_circuit(world: World) -> None:
    until = "SELECT gate_reason, round(extract(epoch FROM gate_until - now())) FROM lanes WHERE key = ''"
    await gates.throttle(world.conn, {world.endpoint_id: 60})
    await gates.throttle(world.conn, {world.endpoint_id: 10})
    assert await rows(world.conn, until) == [("throttled", 60)]
    epoch = await opened(world)
    await gates.throttle(world.conn, {world.endpoint_id: 9000})
    assert await rows(world.conn, until) == [("circuit_open", 300)]
    await gates.close_circuits(world.conn, [epoch])
    await gates.throttle(world.conn, {world.endpoint_id: 0.01})
    assert await rows(world.conn, "SELECT gate_until FROM lanes WHERE gate_until > now() + interval '1 s'") == []


async def test_a_circuit_that_opens_meanwhile_keeps_the_time_that_retry_after_asked_for(world: World) -> None:
    """Else a probe came too early, and lanes that sleep until that time slept with work in them."""
    await gates.throttle(world.conn, {world.endpoint_id: 3600})
    ((asked,),) = await rows(world.conn, "SELECT gate_until FROM lanes WHERE key = ''")
    (one,) = await gates.open_circuits(world.conn, [await epoch_of(world)])
    assert one.next_probe_at == asked
    assert await rows(world.conn, "SELECT gate_reason, gate_until FROM lanes WHERE key = ''") == [
        ("circuit_open", asked)
    ]


async def test_what_retry_after_asked_for_is_forgotten_when_it_is_over(world: World) -> None:
    assert not await gates.any_closed(world.conn)
    await gates.throttle(world.conn, {world.endpoint_id: 60})
    assert await gates.any_closed(world.conn)
    await rows(world.conn, "UPDATE lanes SET gate_until = now() RETURNING 1")
    assert not await gates.any_closed(world.conn)
    assert await rows(world.conn, "SELECT gate_reason, gate_until FROM lanes") == [(None, None)]
    await opened(world, over=True)
    assert await gates.any_closed(world.conn)


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("paused = true", "paused"),
        ("gate_reason = 'throttled', gate_until = now() + interval '1 h'", "throttled"),
        ("gate_reason = 'circuit_open', gate_until = now() - interval '1 s'", "circuit_open"),
    ],
)
async def test_what_was_handed_out_before_a_gate_closed_goes_back_with_its_attempts(
    world: World, gate: str, reason: str
) -> None:
    event = await world.event()
    held = await world.dispatched(event, attempts=3)
    owned = await world.dispatched(event, owner=1)
    tested = await world.dispatched(event)
    await rows(world.conn, "UPDATE live SET lane = 'test' WHERE id = %s RETURNING 1", (tested,))
    everything = [Dispatched(id, 7) for id in (held, owned, tested)]
    assert await gates.park(world.conn, everything) == []
    await rows(world.conn, f"UPDATE lanes SET {gate} RETURNING 1")
    assert await gates.park(world.conn, [Dispatched(held, 8)]) == []
    assert await gates.park(world.conn, everything) == [held]
    assert await rows(
        world.conn, "SELECT attempts, reason, fence, due_at <= now() FROM live WHERE id = %s", (held,)
    ) == [(3, reason, None, True)]
    assert await rows(world.conn, "SELECT key, ready_at <= now() FROM lanes") == [("", True)]


async def test_only_what_stands_behind_a_gate_is_put_back(world: World) -> None:
    event, free = await world.event(), await world.endpoint("*")
    ids = [await world.dispatched(event) for _ in range(4)]
    await rows(world.conn, "UPDATE live SET endpoint_id = %s WHERE id = ANY(%s) RETURNING 1", (free, ids[::2]))
    await opened(world)
    assert sorted(await gates.park(world.conn, [Dispatched(id, 7) for id in ids])) == sorted(ids[1::2])
    assert {one.id for one in await claim(world.conn, [Dispatched(id, 7) for id in ids], worker=1)} == set(ids[::2])


async def test_parked_deliveries_wait_in_a_lane_that_sleeps_until_the_gate_opens(world: World) -> None:
    held = await world.dispatched(await world.event())
    epoch = await opened(world)
    await gates.park(world.conn, [Dispatched(held, 7)])
    assert await handed_out(world.conn) == []
    assert await rows(world.conn, "SELECT ready_at = gate_until FROM lanes") == [(True,)]
    await gates.close_circuits(world.conn, [epoch])
    (lane,) = await handed_out(world.conn)
    assert await lanes.rearm_sleepers(world.conn) == 0
    assert lane.endpoint_id == world.endpoint_id


async def test_opening_writes_one_row_whatever_waits(world: World) -> None:
    await world.conn.execute(
        """INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, due_at)
           SELECT gen_random_uuid(), %s, %s, %s, 1, now() FROM generate_series(1, %s)""",
        (world.tenant_id, await world.event(), world.endpoint_id, WAITING),
    )
    before = await written(world)
    epoch = await opened(world)
    assert await written(world) - before == 1
    await gates.close_circuits(world.conn, [epoch])
    assert await written(world) - before == 2
    tell(f"{WAITING:,} deliveries wait; a circuit that opened, and closed, wrote a row each time")


async def test_a_standing_tells_gate_and_circuit_of_each_endpoint(world: World) -> None:
    async def standing() -> gates.Standing:
        return (await gates.standings(world.conn, [world.endpoint_id]))[world.endpoint_id]

    closed = await standing()
    assert (closed.gate, closed.circuit.status, closed.circuit.threshold) == (None, CircuitStatus.CLOSED, 5)
    assert (closed.circuit.opened_at, closed.circuit.next_probe_at) == (None, None)
    assert [closed.circuit.failures(n) for n in (0, 3)] == [0, 3]
    epoch = await opened(world)
    open_ = await standing()
    assert (open_.circuit.status, open_.circuit.epoch) == (CircuitStatus.OPEN, epoch[1])
    assert open_.gate == Gate(Reason.CIRCUIT_OPEN, open_.circuit.next_probe_at)
    assert [open_.circuit.failures(n) for n in (0, 7)] == [5, 7]
    await rows(world.conn, "UPDATE lanes SET gate_until = now(), paused = true RETURNING 1")
    half_open = await standing()
    assert (half_open.gate, half_open.circuit.status) == (Gate(Reason.PAUSED, None), CircuitStatus.HALF_OPEN)
    await rows(world.conn, "UPDATE lanes SET paused = false RETURNING 1")
    await gates.try_probe(world.conn, world.endpoint_id)
    assert await rows(world.conn, "SELECT probe_until FROM lanes") == [((await standing()).circuit.next_probe_at,)]
    assert await gates.standings(world.conn, [UUID(int=1)]) == {}
