from __future__ import annotations

import asyncio
from uuid import UUID

from relay.delivery.slots import Slots

ONE, OTHER = UUID(int=1), UUID(int=2)
HIGH, NORMAL, LOW = 0, 1, 2


def test_a_tenant_has_half_of_the_slots_at_most_and_all_have_no_more_than_there_are() -> None:
    slots = Slots(5)
    for _ in range(slots.left(ONE)):
        slots.take(ONE)
    assert (slots.in_flight, slots.left(ONE), slots.left(OTHER)) == (3, 0, 2)
    slots.take(OTHER)
    slots.take(OTHER)
    assert slots.left(OTHER) == 0
    slots.give(ONE)
    assert (slots.left(ONE), slots.left(OTHER), slots.free) == (1, 1, 1)


async def full(total: int = 2) -> Slots:
    slots = Slots(total)
    for tenant in (ONE, OTHER) * (total // 2):
        slots.take(tenant)
    return slots


async def wait(slots: Slots, tier: int, order: list[int]) -> None:
    async with slots.turn(tier):
        order.append(tier)
        slots.take(ONE)


async def test_turns_go_by_share_while_all_tiers_wait_and_each_free_slot_lets_one_in() -> None:
    slots, order = await full(), list[int]()
    waiting = [asyncio.ensure_future(wait(slots, tier, order)) for tier in (LOW, NORMAL, HIGH) for _ in range(100)]
    await asyncio.sleep(0)
    assert order == []
    for served in range(1, 101):
        slots.give(ONE)
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(order) == served
    assert 57 <= order.count(HIGH) <= 63
    assert 8 <= order.count(LOW) <= 12
    slots.close()
    await asyncio.gather(*waiting)


async def test_who_takes_no_slot_passes_its_turn_on() -> None:
    slots, order = await full(), list[int]()

    async def idle() -> None:
        async with slots.turn(HIGH):
            pass

    waiting = [asyncio.ensure_future(idle()), asyncio.ensure_future(wait(slots, HIGH, order))]
    await asyncio.sleep(0)
    slots.give(ONE)
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert order == [HIGH]


async def test_who_gives_up_while_it_waits_takes_nobody_elses_turn() -> None:
    slots, order = await full(), list[int]()
    first, second = (asyncio.ensure_future(wait(slots, NORMAL, order)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    slots.give(ONE)
    await asyncio.wait_for(second, 1)
    assert order == [NORMAL]


async def test_a_turn_that_is_given_up_at_the_moment_it_comes_goes_to_the_next() -> None:
    slots, order = await full(), list[int]()
    first, second = (asyncio.ensure_future(wait(slots, NORMAL, order)) for _ in range(2))
    await asyncio.sleep(0)
    slots.give(ONE)
    first.cancel()
    await asyncio.wait_for(second, 1)
    assert order == [NORMAL]


async def test_nobody_waits_once_there_are_no_slots_any_more() -> None:
    slots, order = await full(), list[int]()
    waiting = asyncio.ensure_future(wait(slots, LOW, order))
    await asyncio.sleep(0)
    slots.close()
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(wait(slots, LOW, order), 1)
    assert slots.left(OTHER) <= 0


async def test_empty_is_when_the_last_slot_is_given_back() -> None:
    slots = await full()
    waiting = asyncio.ensure_future(slots.wait_until_empty())
    slots.give(ONE)
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.give(OTHER)
    await asyncio.wait_for(waiting, 1)
