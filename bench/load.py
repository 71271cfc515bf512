"""One run of traffic against the system under test, measured from its first request until all has arrived."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench import cpu
from bench.accounting import EndpointsOf
from bench.generator import Plan
from bench.programs import Generated, Receiver, generated
from bench.system import System
from relay.delivery.retry import DEFAULT_SCHEDULE_MS

_LOOK_EVERY_S = 0.1
#: The longest silence before what is missing counts as lost: beyond the first retries and a dead worker's give-back.
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much traffic a run makes, and how many endpoints there are."""

    seconds: float = 5.0
    warm_up_s: float = 1.0
    #: Watched after the last expected arrival: what comes twice comes now, and outcomes are still being recorded.
    settle_s: float = 2.0
    clients: int = 32
    types: int = 100
    endpoints_per_type: int = 10
    payload_bytes: int = 256
    idle_events: int = 60
    idle_gap_s: tuple[float, float] = (2.0, 4.0)
    idle_s: float = 20.0
    #: Of the scenarios of the delivery core: how long healthy traffic lasts, and how much waits.
    beside_s: float = 15.0
    backlog: int = 50_000
    #: How long endpoints fail, how long traffic goes on after it, and how their circuits and retries are set.
    storm_endpoints: int = 200
    storm_s: float = 60.0
    storm_after_s: float = 15.0
    storm_reset_ms: int = 10_000
    storm_schedule_ms: Sequence[int] = DEFAULT_SCHEDULE_MS
    lane_events: int = 500
    rate_limited: int = 2_000
    #: How many deliveries are stored while a person looks.
    stored: int = 10_000_000
    growth_rounds: int = 3
    asked: int = 200
    #: Of the scenario that weighs the metrics.
    pairs: int = 11
    #: Of the scenario with one event for very many endpoints.
    many: int = 5_000
    many_rounds: int = 9
    #: Of the scenario with events for a thousand endpoints: how many of those, and how many events in a row.
    fan_out: int = 1_000
    sustained: int = 30
    per_round: int = 10_000

    @property
    def subscribed(self) -> int:
        """How many endpoints share the types of `fanout10`; the one of `single` has the next number."""
        return self.types * self.endpoints_per_type


QUICK = Sizes(
    seconds=2.0,
    warm_up_s=0.5,
    settle_s=0.5,
    types=10,
    idle_events=10,
    idle_gap_s=(0.5, 1.0),
    beside_s=4.0,
    backlog=5_000,
    lane_events=100,
    rate_limited=1_000,
    storm_endpoints=20,
    storm_s=1.5,
    storm_after_s=1.0,
    storm_reset_ms=500,
    storm_schedule_ms=(300,) * 10,
    stored=100_000,
    growth_rounds=1,
    asked=50,
    pairs=1,
    many=200,
    many_rounds=2,
    fan_out=100,
    sustained=5,
    per_round=1_000,
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a run sends: events of these types and priorities, in turn by their number, to the endpoints of `endpoints_of`."""

    types: Sequence[str]
    fan_out: int
    endpoints_of: EndpointsOf
    batch: int = 1
    priorities: Sequence[int] = (5,)

    def heads(self) -> list[str]:
        """How the events begin: the number follows."""
        turns = range(math.lcm(len(self.types), len(self.priorities)))
        kinds = [(self.types[n % len(self.types)], self.priorities[n % len(self.priorities)]) for n in turns]
        return [f'{{"eventType":"{name}","priority":{priority},"payload":{{"n":' for name, priority in kinds]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a run of traffic used; what became of it is in the receiver's records."""

    traffic: Traffic
    made: Generated
    #: Seconds of CPU by process group.
    cpu_s: dict[str, float]
    receiver_cpu_s: float


@dataclass(frozen=True, slots=True)
class Drained:
    """How long it took until what was on its way had arrived, and the seconds of CPU by process group meanwhile."""

    seconds: float
    cpu_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """One block of the report: a run (None: there was no traffic), figures of its own, and the limits of all figures."""

    name: str
    run: Run | None
    at_most: Sequence[tuple[str, float]] = ()
    at_least: Sequence[tuple[str, float]] = ()
    #: What the scenario worked out by itself.
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    idle_s: float = 0.0
    idle_cpu_s: dict[str, float] = field(default_factory=dict[str, float])


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
    _endpoints: int = 0

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
        clients: int | None = None,
        gap_s: tuple[float, float] | None = None,
    ) -> Run:
        """Send, and wait until all that was accepted has arrived or nothing has come for a minute.

        Without `clients` as many connections send as the sizes say, or one with a gap.
        """
        receiver_cpu_s, cpu_s = self.receiver.cpu_s(), self.system.cpu_used()
        made = self._send(traffic, seconds=seconds, count=count, clients=clients, gap_s=gap_s)
        self._wait_for_arrivals(_PATIENCE_S)
        time.sleep(self.sizes.settle_s)
        cpu_s = cpu.spent(cpu_s, self.system.cpu_used())
        self.runs.append(run := Run(traffic, made, cpu_s, self.receiver.cpu_s() - receiver_cpu_s))
        return run

    def send(
        self,
        traffic: Traffic,
        *,
        seconds: float | None = None,
        count: int | None = None,
        clients: int | None = None,
        gap_s: tuple[float, float] | None = None,
    ) -> Run:
        """Send as `run` does, and neither wait for what was accepted nor measure what it cost."""
        made = self._send(traffic, seconds=seconds, count=count, clients=clients, gap_s=gap_s)
        self.runs.append(run := Run(traffic, made, {}, 0.0))
        return run

    def wait_for_fan_out(self, *, patience_s: float = _PATIENCE_S) -> None:
        """Wait until every event has its deliveries, so that what is sent next has only those before it."""
        deadline = time.monotonic() + patience_s
        while not self.system.is_fanned_out() and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)

    def drain(self, *, patience_s: float = _PATIENCE_S) -> Drained:
        """Wait as `run` does for all that is on its way, or until nothing has come for so long."""
        cpu_s, began = self.system.cpu_used(), time.monotonic()
        self._wait_for_arrivals(patience_s)
        drained = Drained(time.monotonic() - began, cpu.spent(cpu_s, self.system.cpu_used()))
        time.sleep(self.sizes.settle_s)
        return drained

    def new_endpoints(self, count: int) -> range:
        """Numbers for endpoints that one scenario makes for itself."""
        first = self.sizes.subscribed + 1 + self._endpoints
        self._endpoints += count
        return range(first, first + count)

    def idle_cpu_s(self) -> dict[str, float]:
        """Seconds of CPU by group that the system uses in the sizes' idle time, with no traffic at all."""
        before = self.system.cpu_used()
        time.sleep(self.sizes.idle_s)
        return cpu.spent(before, self.system.cpu_used())

    def _send(
        self,
        traffic: Traffic,
        *,
        seconds: float | None,
        count: int | None,
        clients: int | None,
        gap_s: tuple[float, float] | None,
    ) -> Generated:
        clients = clients or (self.sizes.clients if gap_s is None else 1)
        made = generated(replace(self._plan(traffic), seconds=seconds, count=count, clients=clients, gap_s=gap_s))
        self._next_n = max(made.sent.n, default=self._next_n) + 1
        self._expected += sum(made.sent.accepted) * traffic.fan_out
        return made

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
            heads=traffic.heads(),
            tail=f',"pad":"{padding}"}}}}',
            closing="]}" if lists else "",
            batch=traffic.batch,
            clients=self.sizes.clients,
            first_n=self._next_n,
        )

    def _wait_for_arrivals(self, patience_s: float) -> None:
        came, silent_since = -1, time.monotonic()
        while came < self._expected and time.monotonic() - silent_since < patience_s:
            now = self.receiver.count()
            if now != came:
                came, silent_since = now, time.monotonic()
            time.sleep(_LOOK_EVERY_S)
