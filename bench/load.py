"""One run of traffic against the system under test, measured from its first request until all has arrived."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench import cpu
from bench.accounting import EndpointsOf
from bench.generator import Plan
from bench.programs import Generated, Receiver, generated
from bench.system import System

_LOOK_EVERY_S = 0.1
#: The longest silence before what is missing counts as lost: beyond the first retries and a dead worker's give-back.
_PATIENCE_S = 60.0
#: Watched after the last expected arrival: what comes twice comes now, and outcomes are still being recorded.
_SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much traffic a run makes, and how many endpoints there are."""

    seconds: float = 5.0
    warm_up_s: float = 1.0
    clients: int = 32
    types: int = 100
    endpoints_per_type: int = 10
    payload_bytes: int = 256
    idle_events: int = 60
    idle_gap_s: tuple[float, float] = (2.0, 4.0)
    idle_s: float = 20.0

    @property
    def subscribed(self) -> int:
        """How many endpoints share the types of `fanout10`; the one of `single` has the next number."""
        return self.types * self.endpoints_per_type


QUICK = Sizes(seconds=2.0, warm_up_s=0.5, types=10, idle_events=10, idle_gap_s=(0.5, 1.0))


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a run sends: events of these types, in turn by their number, to the endpoints that `endpoints_of` names."""

    types: Sequence[str]
    fan_out: int
    endpoints_of: EndpointsOf
    batch: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a run of traffic used; what became of it is in the receiver's records."""

    traffic: Traffic
    made: Generated
    #: Seconds of CPU by process group.
    cpu_s: dict[str, float]
    receiver_cpu_s: float


@dataclass(slots=True)
class Bench:
    """The system, the receiver, and the numbers that runs have in common."""

    system: System
    receiver: Receiver
    sizes: Sizes
    #: Every run so far, those that only warm up included: nothing that was sent is left out of the account.
    runs: list[Run] = field(default_factory=list[Run])
    _next_n: int = 0
    _expected: int = 0

    def warmed_run(self, traffic: Traffic) -> Run:
        """Warm up, then send in a closed loop for the time of the sizes."""
        self.run(traffic, seconds=self.sizes.warm_up_s)
        return self.run(traffic, seconds=self.sizes.seconds)

    def run(
        self,
        traffic: Traffic,
        *,
        seconds: float | None = None,
        count: int | None = None,
        gap_s: tuple[float, float] | None = None,
    ) -> Run:
        """Send, and wait until all that was accepted has arrived or nothing has come for a minute.

        With a gap one connection sends, otherwise as many as the sizes say.
        """
        plan = replace(self._plan(traffic), seconds=seconds, count=count, gap_s=gap_s)
        receiver_cpu_s, cpu_s = self.receiver.cpu_s(), self.system.cpu_used()
        made = generated(plan if gap_s is None else replace(plan, clients=1))
        self._next_n = max(made.sent.n, default=self._next_n) + 1
        self._expected += sum(made.sent.accepted) * traffic.fan_out
        self._wait_for_arrivals()
        run = Run(
            traffic=traffic,
            made=made,
            cpu_s=cpu.spent(cpu_s, self.system.cpu_used()),
            receiver_cpu_s=self.receiver.cpu_s() - receiver_cpu_s,
        )
        self.runs.append(run)
        return run

    def idle_cpu_s(self) -> dict[str, float]:
        """Seconds of CPU by group that the system uses in the sizes' idle time, with no traffic at all."""
        before = self.system.cpu_used()
        time.sleep(self.sizes.idle_s)
        return cpu.spent(before, self.system.cpu_used())

    def _plan(self, traffic: Traffic) -> Plan:
        address = self.system.address
        padding = "x" * max(0, self.sizes.payload_bytes - len('{"n":1234567,"pad":""}'))
        lists = traffic.batch > 1
        return Plan(
            host=address.hostname or "127.0.0.1",
            port=address.port or 80,
            path=f"{address.path.rstrip('/')}/api/v1/events{'/batch' if lists else ''}",
            headers={"X-API-Key": self.system.key},
            opening='{"events":[' if lists else "",
            heads=[f'{{"eventType":"{name}","payload":{{"n":' for name in traffic.types],
            tail=f',"pad":"{padding}"}}}}',
            closing="]}" if lists else "",
            batch=traffic.batch,
            clients=self.sizes.clients,
            first_n=self._next_n,
        )

    def _wait_for_arrivals(self) -> None:
        came, silent_since = -1, time.monotonic()
        while came < self._expected and time.monotonic() - silent_since < _PATIENCE_S:
            now = self.receiver.count()
            if now != came:
                came, silent_since = now, time.monotonic()
            time.sleep(_LOOK_EVERY_S)
        time.sleep(_SETTLE_S)
