from __future__ import annotations

from dataclasses import replace

from relay.delivery.destinations import Content
from relay.delivery.flow import Flow, Shipment
from relay.delivery.outcomes import Reason
from tests.delivery.test_request import DELIVERY, DESTINATION, EVENT

CONTENT = Content(EVENT, b"{}", "application/json", None, None)


def shipment(tier: int) -> Shipment:
    return Shipment(replace(DELIVERY, tier=tier), CONTENT, DESTINATION, generation=1)


def answered_well(flow: Flow, times: int = 10) -> None:
    for n in range(times):
        flow.pace.learn(Reason.OK, status=200, latency_ms=10, now_s=float(n))


def test_a_flow_begins_small_and_keeps_nothing_at_hand_while_nothing_is_known() -> None:
    flow = Flow(DESTINATION)
    assert [flow.room(tier) for tier in (0, 1, 2)] == [2, 2, 2]
    flow.in_flight = 2
    assert not flow.open
    assert flow.room(1) == 0


def test_each_tier_has_room_of_its_own_at_hand() -> None:
    flow = Flow(DESTINATION)
    answered_well(flow)
    flow.in_flight = flow.pace.width
    room = flow.room(1)
    assert room > 0
    for _ in range(room):
        flow.push(shipment(1))
    assert flow.room(1) == 0
    assert flow.room(0) == room


def test_tiers_have_their_turns_by_share_and_the_oldest_of_a_tier_comes_first() -> None:
    flow = Flow(DESTINATION)
    for tier in (2, 1, 0):
        for n in range(100):
            flow.push(replace(shipment(tier), generation=n))
    popped = [one for _ in range(100) if (one := flow.pop()) is not None]
    tiers = [one.delivery.tier for one in popped]
    assert (57 <= tiers.count(0) <= 63, 8 <= tiers.count(2) <= 12) == (True, True)
    for tier in (0, 1, 2):
        mine = [one.generation for one in popped if one.delivery.tier == tier]
        assert mine == sorted(mine)


def test_what_is_cleared_comes_back_once() -> None:
    flow = Flow(DESTINATION)
    made = [shipment(tier) for tier in (0, 1, 2)]
    for one in made:
        flow.push(one)
    assert flow.clear() == made
    assert (flow.clear(), flow.pop(), flow.idle) == ([], None, True)


def test_a_metered_endpoint_has_nothing_at_hand() -> None:
    flow = Flow(replace(DESTINATION, rate_limit_per_sec=50))
    answered_well(flow)
    flow.in_flight = flow.pace.width
    assert flow.room(1) == 0


def test_another_epoch_of_the_gate_begins_with_a_small_width() -> None:
    flow = Flow(DESTINATION)
    flow.enter(7)
    answered_well(flow)
    wide = flow.pace.width
    flow.enter(7)
    assert flow.pace.width == wide > 2
    flow.enter(8)
    assert flow.pace.width == 2
