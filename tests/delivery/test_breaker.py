"""The breaker: what counts, what it does about it, and what it does without Redis or Postgres: nothing, and at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from relay.db import Conn, Database
from relay.delivery import gates
from relay.delivery.breaker import Breaker, Verdict, judge
from relay.delivery.counters import Counters
from relay.delivery.gates import Closed, Opened
from relay.delivery.live import TEST_LANE, Claimed, Dispatched
from relay.delivery.outcomes import Cancelled, Reason, Retry, reason_of
from relay.delivery.record import Attempt, Recorded
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.rows import World, make_world
from tests.running import until_true

THRESHOLD = 5
NO_ANSWERS = (Reason.CONNECT_TIMEOUT, Reason.DNS_FAILED, Reason.TLS_FAILED, Reason.RESPONSE_TIMEOUT)
NOWHERE = "redis://127.0.0.1:1/0"


# ---- decisions -------------------------------------------------------------------------------------------------------


def attempt(reason: Reason, status: int | None) -> Attempt:
    return Attempt(reason, "http://x/", 1.0, status=status)


@given(st.integers(100, 599), st.none() | st.floats(0.1, 1e9))
def test_whoever_answers_below_500_is_there(status: int, retry_after_s: float | None) -> None:
    verdict = judge(attempt(reason_of(status), status), retry_after_s=retry_after_s)
    if status == 429 or (status == 503 and retry_after_s is not None):
        assert verdict is Verdict.NEUTRAL
    else:
        assert verdict is (Verdict.FAILURE if status >= 500 else Verdict.SUCCESS)


@given(st.sampled_from(NO_ANSWERS), st.none() | st.integers(200, 599))
def test_no_good_answer_is_a_failure_however_it_began(reason: Reason, status: int | None) -> None:
    assert judge(attempt(reason, status), retry_after_s=None) is Verdict.FAILURE


@given(st.sampled_from([Reason.AUTH_FAILED, Reason.ADDRESS_FORBIDDEN, Reason.TRANSFORMATION_FAILED]))
def test_what_relay_did_not_send_says_nothing(reason: Reason) -> None:
    assert judge(attempt(reason, None), retry_after_s=None) is Verdict.NEUTRAL


def test_a_503_that_may_be_tried_at_once_is_a_failure() -> None:
    assert judge(attempt(Reason.HTTP_SERVER_ERROR, 503), retry_after_s=0.0) is Verdict.FAILURE


# ---- what it does ----------------------------------------------------------------------------------------------------


class Machine:
    """A breaker and the endpoint it hears of."""

    def __init__(self, world: World, breaker: Breaker) -> None:
        self.world, self.breaker = world, breaker
        self.opened: list[Opened] = []
        self.closed: list[Closed] = []
        breaker.on_opened.append(self.opened.extend)
        breaker.on_closed.append(self.closed.extend)

    async def hear(
        self,
        *statuses: int | None,
        epoch: int | None = None,
        lane: str = "",
        retry_after_s: float | None = None,
        endpoint_id: UUID | None = None,
    ) -> None:
        """Let the breaker hear of one outcome after the other (None: no answer), and of each on its own."""
        epoch = await self.epoch() if epoch is None else epoch
        for status in statuses:
            self.breaker.hear([self.outcome(status, epoch, lane, retry_after_s, endpoint_id)])
            await settled(self.breaker)

    def outcome(
        self, status: int | None, epoch: int, lane: str, retry_after_s: float | None, endpoint_id: UUID | None = None
    ) -> Recorded:
        reason = reason_of(status) if status else Reason.CONNECT_TIMEOUT
        delivery = Claimed(
            id=uuid4(),
            fence=1,
            owner=1,
            tenant_id=self.world.tenant_id,
            event_id=uuid4(),
            endpoint_id=endpoint_id or self.world.endpoint_id,
            tier=1,
            lane=lane,
            attempts=0,
            lost=0,
            created_at=datetime.now(UTC),
            endpoint_version=1,
            epoch=epoch,
        )
        return Recorded(
            delivery,
            Retry(reason, 1.0),
            attempt(reason, status),
            retry_after_s=retry_after_s,
            circuit_threshold=THRESHOLD,
        )

    async def epoch(self) -> int:
        return (await self.circuit()).epoch

    async def circuit(self) -> gates.Circuit:
        return (await gates.standings(self.world.conn, [self.world.endpoint_id]))[self.world.endpoint_id].circuit

    async def state(self) -> str:
        return (await self.circuit()).status

    async def half_open(self) -> None:
        """Let the time of the open circuit be over."""
        await rows(self.world.conn, "UPDATE lanes SET gate_until = now() WHERE gate_until IS NOT NULL RETURNING 1")

    async def probe(self) -> bool:
        return await self.breaker.may_probe(self.world.conn, self.world.endpoint_id)


async def settled(breaker: Breaker) -> None:
    """Wait until the breaker has acted on all it heard."""
    breaker._urgent.set()
    while (working := breaker._working) is not None:
        await working


@asynccontextmanager
async def open_breaker(settings: Settings, *, redis_url: str | None = None) -> AsyncIterator[Breaker]:
    db = Database(settings)
    await db.open()
    breaker = Breaker(db, Counters(redis_url or settings.state_url))
    try:
        yield breaker
    finally:
        await breaker.close()
        await db.close()


@pytest.fixture
async def machine(settings: Settings, conn: Conn) -> AsyncIterator[Machine]:
    async with open_breaker(settings) as breaker:
        yield Machine(await make_world(conn), breaker)


async def test_as_many_failures_in_a_row_as_the_endpoint_allows_open_its_circuit(machine: Machine) -> None:
    await machine.hear(*[500] * (THRESHOLD - 1))
    assert await machine.state() == "closed"
    await machine.hear(None)
    assert await machine.state() == "open"
    assert [one.endpoint_id for one in machine.opened] == [machine.world.endpoint_id]
    assert machine.opened[0].next_probe_at == (await machine.circuit()).next_probe_at


async def test_failures_of_one_batch_open_it_as_well(machine: Machine) -> None:
    epoch = await machine.epoch()
    machine.breaker.hear([machine.outcome(500, epoch, "", None) for _ in range(200)])
    await settled(machine.breaker)
    assert len(machine.opened) == 1


async def test_one_answer_in_between_keeps_it_closed(machine: Machine) -> None:
    for answer in (200, 302, 404):
        await machine.hear(*[500] * (THRESHOLD - 1), answer)
    await machine.hear(*[500] * (THRESHOLD - 1))
    assert await machine.state() == "closed"


async def test_failures_that_two_processes_see_count_together(machine: Machine, settings: Settings) -> None:
    async with open_breaker(settings) as other:
        second = Machine(machine.world, other)
        await machine.hear(*[500] * 3)
        await second.hear(*[500] * 2)
        assert (await machine.state(), len(machine.opened), len(second.opened)) == ("open", 0, 1)


async def test_outcomes_from_before_the_circuit_opened_change_nothing(machine: Machine) -> None:
    old = await machine.epoch()
    await machine.hear(*[500] * THRESHOLD)
    before = await machine.circuit()
    await machine.hear(*[500] * 20, 200, *[500] * 20, epoch=old)
    assert await machine.circuit() == before
    await machine.half_open()
    assert await machine.probe()
    before = await machine.circuit()
    await machine.hear(200, 500, *[None] * 20, epoch=old)
    assert await machine.circuit() == before
    await machine.hear(200)
    assert await machine.state() == "closed"
    await machine.hear(*[500] * 20, epoch=old)
    assert await machine.state() == "closed"
    assert (len(machine.opened), len(machine.closed)) == (1, 1)


async def test_a_probe_that_succeeds_closes_the_circuit_and_one_that_fails_opens_it_again(machine: Machine) -> None:
    await machine.hear(*[500] * THRESHOLD)
    assert not await machine.probe()
    for status, retry_after_s in ((500, None), (429, None), (503, 1000.0)):
        await machine.half_open()
        assert await machine.probe()
        assert not await machine.probe()
        await machine.hear(status, retry_after_s=retry_after_s)
        assert await machine.state() == "open"
    next_probe_at = (await machine.circuit()).next_probe_at
    assert next_probe_at is not None
    assert (next_probe_at - datetime.now(UTC)).total_seconds() > 900
    await machine.half_open()
    assert await machine.probe()
    await machine.hear(404)
    assert await machine.state() == "closed"
    assert [one.endpoint_id for one in machine.closed] == [machine.world.endpoint_id]
    assert len(machine.opened) == 1


async def test_a_lane_that_falls_asleep_while_the_circuit_closes_wakes_with_it(machine: Machine) -> None:
    """The lane is new: the statement that closes has looked for lanes before it was there."""
    conn = machine.world.conn
    await machine.hear(*[500] * THRESHOLD)
    await machine.half_open()
    assert await machine.probe()
    probe = machine.outcome(200, await machine.epoch(), "", None)
    async with machine.breaker._db.transaction() as taking:
        await taking.execute("SELECT 1 FROM lanes WHERE key = '' FOR SHARE")
        machine.breaker.hear([probe])
        await until_true(
            conn,
            """SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                              AND wait_event_type = 'Lock' AND query LIKE '%gate_epoch%')""",
            5,
        )
        await conn.execute(
            """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
               SELECT endpoint_id, 'low', tenant_id, 2, probe_until FROM lanes WHERE key = ''"""
        )
    await settled(machine.breaker)
    assert await machine.state() == "closed"
    assert await rows(conn, "SELECT ready_at <= now() FROM lanes WHERE key = 'low'") == [(True,)]


async def test_test_deliveries_and_what_was_not_sent_say_nothing(machine: Machine) -> None:
    await machine.hear(*[500] * 20, lane=TEST_LANE)
    epoch = await machine.epoch()
    nothing_sent = Recorded(machine.outcome(500, epoch, "", None).delivery, Cancelled(Reason.ENDPOINT_DELETED), None)
    machine.breaker.hear([nothing_sent] * 20)
    await settled(machine.breaker)
    assert await machine.state() == "closed"
    await machine.hear(*[500] * THRESHOLD)
    await machine.half_open()
    assert await machine.probe()
    await machine.hear(200, lane=TEST_LANE)
    assert await machine.state() == "half_open"


async def test_retry_after_holds_the_endpoint_and_counts_for_nothing(machine: Machine) -> None:
    await machine.hear(*[503] * 20, retry_after_s=60.0)
    standing = (await gates.standings(machine.world.conn, [machine.world.endpoint_id]))[machine.world.endpoint_id]
    assert standing.gate is not None
    assert standing.gate.reason is Reason.THROTTLED
    assert standing.circuit.status == "closed"
    assert machine.opened == []


async def test_a_redis_that_was_emptied_counts_anew_and_gates_stand(machine: Machine, settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        await machine.hear(*[500] * (THRESHOLD - 1))
        client.flushall()
        await machine.hear(*[500] * (THRESHOLD - 1))
        assert await machine.state() == "closed"
        await machine.hear(500)
        client.flushall()
        assert await machine.state() == "open"


async def test_without_redis_nothing_is_counted_gates_move_and_it_is_said_once(
    settings: Settings, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    world = await make_world(conn)
    async with open_breaker(settings, redis_url=NOWHERE) as breaker:
        machine = Machine(world, breaker)
        await machine.hear(*[500] * 20)
        assert await machine.state() == "closed"
        assert len([line for line in caplog.messages if "Redis is away" in line]) == 1
        await gates.open_circuits(conn, [(world.endpoint_id, await machine.epoch())])
        await machine.half_open()
        assert await machine.probe()
        await machine.hear(200)
        assert await machine.state() == "closed"


async def test_without_postgres_hearing_neither_waits_nor_raises(
    settings: Settings, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://relay@127.0.0.1:1/relay"})
    async with open_breaker(away) as breaker:
        breaker._db._pool.timeout = 0.2
        nobody = Machine(machine.world, breaker)
        await nobody.hear(*[500] * THRESHOLD)
        assert [line for line in caplog.messages if "Postgres is away" in line]
    assert await machine.state() == "closed"
    await machine.hear(500)
    assert await machine.state() == "open"


async def test_nothing_is_looked_for_while_no_gate_is_closed(machine: Machine) -> None:
    held = Dispatched(await machine.world.dispatched(await machine.world.event(), attempts=2), 7)
    assert machine.breaker.may_be_closed()
    assert await machine.breaker.park([held]) == frozenset()
    assert not machine.breaker.may_be_closed()
    await machine.hear(*[500] * THRESHOLD)
    machine.breaker._looked_at = float("-inf")
    assert machine.breaker.may_be_closed()
    assert await machine.breaker.park([held]) == {held.id}
    assert await rows(machine.world.conn, "SELECT attempts, reason FROM live") == [(2, "circuit_open")]


async def test_many_circuits_open_with_one_statement(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [await machine.world.endpoint("*") for _ in range(20)]
    epoch, calls, real = await machine.epoch(), 0, gates.open_circuits

    async def noted(*args: object) -> list[Opened]:
        nonlocal calls
        calls += 1
        return await real(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(gates, "open_circuits", noted)
    machine.breaker.hear([machine.outcome(500, epoch, "", None, id) for id in others for _ in range(THRESHOLD)])
    await settled(machine.breaker)
    assert {one.endpoint_id for one in machine.opened} == set(others)
    assert calls == 1
