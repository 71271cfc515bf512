"""Whatever is done to deliveries, one after the other or two at once, ends as a model of their states says.

Everything that is done is Relay's own code on Postgres. After each step model and database agree on every delivery, lane,
endpoint, event and job, the queue's figures are the model's, and no lane sleeps with something to send in it. Two doings at
once must come to what one after the other comes to, in either order. In the end everything is let go, arrives, and the
ledger finds nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from relay.delivery.deliveries import DeliveryStatus
from relay.delivery.live import FIFO
from relay.ids import fence
from relay.runtime import Web
from relay.settings import Settings
from tests.delivery.states.doing import Doing
from tests.delivery.states.player import KEYS, Player, chosen
from tests.delivery.states.work import OUTCOMES
from tests.scale import sized, tell

PAYLOADS = (b'{"k": "a"}', b'{"k": "b"}', b"{}")

which = st.integers(0, 40)
worker = st.integers(0, 1)
kinds = st.lists(st.sampled_from([*sorted(OUTCOMES), "dead"]), max_size=5)


class Deliveries(Player):
    """One client with an ordinary and a FIFO endpoint, two workers, and the model of it all."""

    @initialize(
        blocks=st.booleans(),
        payloads=st.lists(st.sampled_from(PAYLOADS), min_size=3, max_size=6),
        window=st.sampled_from([0, 2, 4000]),
        ends=kinds,
    )
    def begin(self, blocks: bool, payloads: list[bytes], window: int, ends: list[str]) -> None:
        self.start(blocks=blocks)
        self.play(self.doings.accept(payloads, priority=5, scheduled=False))
        self.play(self._fan_out(window))
        self.work(0, ends)

    @invariant()
    def queue_stats_are_the_models(self) -> None:
        if self.sound:
            self._watch(self._check_counts())

    # ---- intake -------------------------------------------------------------------------------------------------------

    @rule(payloads=st.lists(st.sampled_from(PAYLOADS), min_size=1, max_size=3), priority=st.sampled_from([1, 5, 9]))
    def accept(self, payloads: list[bytes], priority: int) -> None:
        self.play(self.doings.accept(payloads, priority=priority, scheduled=False))

    @rule(payload=st.sampled_from(PAYLOADS))
    def accept_scheduled(self, payload: bytes) -> None:
        self.play(self.doings.accept([payload], priority=5, scheduled=True))

    @rule(window=st.sampled_from([0, 1, 4000]))
    def fan_out(self, window: int) -> None:
        self.play(self._fan_out(window))

    @rule()
    def an_hour_passes(self) -> None:
        self.play(self.doings.hour())

    @rule()
    def come_due(self) -> None:
        self.play(self.doings.come_due())

    @rule(n=which)
    def cancel_scheduled(self, n: int) -> None:
        if not self.model.letters:
            return
        self.play(self.doings.cancel_scheduled(self._event(n)))

    # ---- workers ------------------------------------------------------------------------------------------------------

    @rule(w=worker, n=which, count=st.integers(1, 4))
    def claim(self, w: int, n: int, count: int) -> None:
        """Any messages, old and doubled ones included."""
        if not self.messages:
            return
        self.play(self._claim(w, n, count))

    @rule()
    def park(self) -> None:
        if not self.messages:
            return
        self.play(self.doings.park(self.messages[-4:]))

    @rule()
    def hand_out(self) -> None:
        self.play(self.doings.hand_out(self.offered.extend))

    @rule(w=worker, n=which)
    def hold(self, w: int, n: int) -> None:
        if not self.offered:
            return
        lane = chosen(self.offered, n)
        self.play(self._hold(lane, self.workers[w]))

    @rule(w=worker, ends=kinds)
    def work(self, w: int, ends: list[str]) -> None:
        """What usually happens: all that may be sent is taken, and of what is being sent some ends."""
        if self.messages:
            self.play(self.doings.claim(self.messages[-4:], self.workers[w], self.claimed.extend))
        self.play(self.doings.hand_out(self.offered.extend))
        for lane in self.offered[-4:]:
            self.play(self._hold(lane, self.workers[w]))
        for lane, no in self.held[-4:]:
            self.play(self._take(lane, no, 2))
        for one, kind in zip(self._being_sent(), ends, strict=False):
            self.play(self.doings.record(one, kind))

    @rule(w=worker, ends=kinds)
    def work_more(self, w: int, ends: list[str]) -> None:
        self.work(w, ends)

    @rule(n=which, limit=st.integers(1, 3))
    def take(self, n: int, limit: int) -> None:
        if not self.held:
            return
        self.play(self._take(*chosen(self.held, n), limit))

    @rule(n=which)
    def release_lane(self, n: int) -> None:
        if not self.held:
            return
        self.play(self.doings.release_lane(*self.held.pop(n % len(self.held))))

    @rule(n=which, kind=st.sampled_from(sorted(OUTCOMES)))
    def record(self, n: int, kind: str) -> None:
        """Any that was ever claimed: the same outcome twice, and late ones, change nothing."""
        if not self.claimed:
            return
        self.play(self.doings.record(self._claimed(n), kind))

    @rule(n=which)
    def put_back(self, n: int) -> None:
        if not self.claimed:
            return
        self.play(self.doings.put_back(self._claimed(n)))

    @rule(w=worker)
    def give_back(self, w: int) -> None:
        self.play(self.doings.give_back(self.workers[w]))
        self.workers[w] = fence()

    @rule()
    def resend(self) -> None:
        self.play(self.doings.resend(self.messages.extend))
        self.play(self.doings.resend_lanes(self.offered.extend))

    # ---- endpoints ----------------------------------------------------------------------------------------------------

    @rule(n=which, how=st.sampled_from(["pause", "resume", "resume at a rate", "resume", "disable"]))
    def move_endpoint(self, n: int, how: str) -> None:
        id = chosen(self.endpoints, n)
        self.play(
            {
                "pause": lambda: self.doings.pause(id),
                "resume": lambda: self.doings.resume(id, rate=None),
                "resume at a rate": lambda: self.doings.resume(id, rate=10_000),
                "disable": lambda: self.doings.disable(id),
            }[how]()
        )

    @rule(n=which)
    def delete(self, n: int) -> None:
        """Another one of its kind comes in its place."""
        if not (len(self.endpoints) < 3):
            return
        id = chosen(self.endpoints, n)
        self.play(self.doings.delete(id))
        self._replace(id)

    @rule(n=which, how=st.sampled_from(["open", "open", "close", "reopen", "throttle"]))
    def move_gate(self, n: int, how: str) -> None:
        self.play(self._move_gate(chosen(self.endpoints, n), how))

    @rule(n=which, how=st.sampled_from(["open", "close", "reopen"]))
    def move_gate_late(self, n: int, how: str) -> None:
        if not self.claimed:
            return
        one = self._claimed(n)
        self.play(self.doings.move_gate(how, one.endpoint_id, one.epoch))

    # ---- recovery -----------------------------------------------------------------------------------------------------

    @rule(n=which)
    def cancel(self, n: int) -> None:
        if not self.model.parcels:
            return
        self.play(self.doings.cancel(self._parcel(n)))

    @rule(n=which)
    def retry(self, n: int) -> None:
        if not self.model.parcels:
            return
        self.play(self.doings.retry(self._parcel(n)))

    @rule(n=which)
    def replay_event(self, n: int) -> None:
        if not self.model.letters:
            return
        self.play(self.doings.replay_event(self._event(n)))

    @rule(n=which, e=which)
    def replay_to(self, n: int, e: int) -> None:
        if not self.model.letters:
            return
        self.play(self.doings.replay_to(self._event(n), chosen(self.endpoints, e)))

    @rule(n=which, key=st.sampled_from(KEYS), how=st.sampled_from(["move", "cancel"]))
    def drain_fifo(self, n: int, key: str, how: str) -> None:
        self.play(self.doings.drain_fifo(self._ordered(n), key, how))

    @rule(n=which, key=st.sampled_from(KEYS))
    def release_fifo(self, n: int, key: str) -> None:
        self.play(self.doings.release_fifo(self._ordered(n), key))

    # ---- jobs ---------------------------------------------------------------------------------------------------------

    @rule(
        e=st.none() | which,
        more=st.sets(st.sampled_from(["CANCELLED", "DELIVERED"])),
        rate=st.sampled_from([None, 4, 8]),
    )
    def start_job(self, e: int | None, more: set[str], rate: int | None) -> None:
        if not (len(self.model.tasks) < 4):
            return
        statuses = [DeliveryStatus.DEAD, *(DeliveryStatus[one] for one in sorted(more))]
        endpoint = None if e is None else chosen(self.endpoints, e)
        self.play(self.doings.start_job(endpoint, statuses, rate=rate))

    @rule(n=which)
    def run_chunk(self, n: int) -> None:
        if not self.model.tasks:
            return
        id = self._task(n)
        self.play(self.doings.count_job(id))
        self.play(self.doings.run_chunk(id))

    @rule(n=which, how=st.sampled_from(["pause", "resume", "cancel"]))
    def move_job(self, n: int, how: str) -> None:
        if not self.model.tasks:
            return
        self.play(self.doings.move_job(self._task(n), how))

    # ---- two at once --------------------------------------------------------------------------------------------------

    @rule(w=worker, n=which, other=st.sampled_from(["cancel", "pause", "disable", "delete", "claim", "open"]))
    def claim_against(self, w: int, n: int, other: str) -> None:
        if not self.messages:
            return
        message = chosen(self.messages, n)
        endpoint = self.model.parcels[message.id].endpoint
        second: Doing[Any] = {
            "cancel": lambda: self.doings.cancel(message.id),
            "pause": lambda: self.doings.pause(endpoint),
            "disable": lambda: self.doings.disable(endpoint),
            "delete": lambda: self.doings.delete(endpoint),
            "claim": lambda: self.doings.claim([message], self.workers[1 - w], self.claimed.extend),
            "open": lambda: self._move_gate(endpoint, "open"),
        }[other]()
        self.race(self.doings.claim([message], self.workers[w], self.claimed.extend), second)
        if other == "delete":
            self._replace(endpoint)

    @rule(n=which, p=which, other=st.sampled_from(["cancel", "pause", "drain", "release FIFO", "retry", "give back"]))
    def take_against(self, n: int, p: int, other: str) -> None:
        if not (self.held and self.model.parcels):
            return
        lane, no = chosen(self.held, n)
        waiting = [one.id for one in self.model.live(lane.endpoint_id, lane.key)] or list(self.model.parcels)
        key = lane.key.removeprefix(FIFO) if lane.ordered else "a"
        second: Doing[Any] = {
            "cancel": lambda: self.doings.cancel(chosen(waiting, p)),
            "pause": lambda: self.doings.pause(lane.endpoint_id),
            "drain": lambda: self.doings.drain_fifo(lane.endpoint_id, key, "move"),
            "release FIFO": lambda: self.doings.release_fifo(lane.endpoint_id, key),
            "retry": lambda: self.doings.retry(chosen(waiting, p)),
            "give back": lambda: self.doings.give_back(no),
        }[other]()
        self.race(self._take(lane, no, 2, least=0), second)

    @rule(n=which, p=which, other=st.sampled_from(["cancel", "fan out", "retry", "record", "resume", "give back"]))
    def release_lane_against(self, n: int, p: int, other: str) -> None:
        """No lane falls asleep over what comes meanwhile."""
        if not (self.held and self.model.parcels):
            return
        lane, no = self.held.pop(n % len(self.held))
        inside = [one.id for one in self.model.live(lane.endpoint_id, lane.key)] or list(self.model.parcels)
        mine = [one for one in self.claimed if one.endpoint_id == lane.endpoint_id] or [None]
        second: Doing[Any] = {
            "cancel": lambda: self.doings.cancel(chosen(inside, p)),
            "fan out": lambda: self._fan_out(0),
            "retry": lambda: self.doings.retry(chosen(inside, p)),
            "record": lambda: (
                self.doings.record(one, "again") if (one := mine[-1]) else self.doings.resend(lambda _: None)
            ),
            "resume": lambda: self.doings.resume(lane.endpoint_id, rate=None),
            "give back": lambda: self.doings.give_back(no),
        }[other]()
        self.race(self.doings.release_lane(lane, no), second)

    @rule(n=which, how=st.sampled_from(["resume", "pause", "close", "open", "reopen", "fan out"]))
    def hand_out_against(self, n: int, how: str) -> None:
        id = chosen(self.endpoints, n)
        second: Doing[Any] = {
            "resume": lambda: self.doings.resume(id, rate=None),
            "pause": lambda: self.doings.pause(id),
            "fan out": lambda: self._fan_out(0),
        }.get(how, lambda: self._move_gate(id, how))()
        self.race(self.doings.hand_out(self.offered.extend), second)

    @rule(
        n=which,
        kind=st.sampled_from(sorted(OUTCOMES)),
        other=st.sampled_from(["record", "give back", "release FIFO", "cancel"]),
    )
    def record_against(self, n: int, kind: str, other: str) -> None:
        if not self.claimed:
            return
        one = self._claimed(n)
        key = one.lane.removeprefix(FIFO) if one.lane.startswith(FIFO) else "a"
        second: Doing[Any] = {
            "record": lambda: self.doings.record(one, "delivered"),
            "give back": lambda: self.doings.give_back(one.owner),
            "release FIFO": lambda: self.doings.release_fifo(one.endpoint_id, key),
            "cancel": lambda: self.doings.cancel(one.id),
        }[other]()
        self.race(self.doings.record(one, kind), second)

    @rule(n=which, how=st.tuples(*2 * [st.sampled_from(["retry", "cancel", "replay event", "drain", "release FIFO"])]))
    def recover_at_once(self, n: int, how: tuple[str, str]) -> None:
        """Of two who take the same dead delivery on, one does."""
        if not (any(one.state == "dead" for one in self.model.parcels.values())):
            return
        dead = chosen([one for one in reversed(self.model.parcels.values()) if one.state == "dead"], n)
        key = dead.lane.removeprefix(FIFO) if dead.ordered else "a"
        ended = [one.id for one in self.model.finals(dead.event)]
        both: list[Doing[Any]] = [
            {
                "retry": lambda: self.doings.retry(dead.id),
                "cancel": lambda: self.doings.cancel(dead.id),
                "replay event": lambda: self.doings.replay_event(dead.event, known=ended),
                "drain": lambda: self.doings.drain_fifo(dead.endpoint, key, "cancel"),
                "release FIFO": lambda: self.doings.release_fifo(dead.endpoint, key),
            }[one]()
            for one in how
        ]
        self.race(*both)

    @rule(n=which, other=st.sampled_from(["fan out", "come due", "cancel"]))
    def cancel_scheduled_against(self, n: int, other: str) -> None:
        if not (any(one.scheduled for one in self.model.letters.values())):
            return
        scheduled = [one.id for one in self.model.letters.values() if one.scheduled]
        id = chosen(scheduled[::-1], n)
        second: Doing[Any] = {
            "fan out": self._fan_out,
            "come due": self.doings.come_due,
            "cancel": lambda: self.doings.cancel_scheduled(id),
        }[other]()
        self.race(self.doings.cancel_scheduled(id), second)

    @rule(
        n=which, p=which, other=st.sampled_from(["cancel job", "pause job", "chunk", "cancel", "retry", "replay event"])
    )
    def chunk_against(self, n: int, p: int, other: str) -> None:
        if not (any(one.status == "running" for one in self.model.tasks.values()) and self.model.parcels):
            return
        job = chosen([id for id, one in self.model.tasks.items() if one.status == "running"], n)
        items = self.model.items(self.model.orders[job]) or list(self.model.parcels.values())
        item = chosen(items, p)
        second: Doing[Any] = {
            "cancel job": lambda: self.doings.move_job(job, "cancel"),
            "pause job": lambda: self.doings.move_job(job, "pause"),
            "chunk": lambda: self.doings.run_chunk(job, alone=False),
            "cancel": lambda: self.doings.cancel(item.id),
            "retry": lambda: self.doings.retry(item.id),
            "replay event": lambda: self.doings.replay_event(item.event),
        }[other]()
        self.race(self.doings.run_chunk(job, alone=False), second)


def test_whatever_is_done_in_whatever_order_ends_as_the_model_says(settings: Settings) -> None:
    examples = sized(full=800, part=40)
    began = time.monotonic()
    with asyncio.Runner() as runner:
        web = Web(settings)
        Deliveries.runner, Deliveries.web, Deliveries.steps = runner, web, 0
        runner.run(web.open())
        try:
            run_state_machine_as_test(Deliveries, settings=of_length(examples))
        finally:
            runner.run(web.close())
    tell(f"{examples} examples, {Deliveries.steps} doings, {time.monotonic() - began:.0f} s")


def of_length(examples: int) -> hypothesis.settings:
    """How long to play. What fails is not made smaller: how a race ends cannot be repeated, and its way is printed."""
    return hypothesis.settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=[Phase.generate],
        print_blob=False,
        database=None,
    )
