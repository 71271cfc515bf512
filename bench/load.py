"""One run of traffic against the system under test, measured from its first request until all has arrived."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from bench import cpu
from bench.accounting import EndpointsOf
from bench.plan import Plan
from bench.programs import Generated, Receiver, generated
from bench.sizes import Sizes
from bench.system import System
from bench.usage import Memory, Reading, Used, between, reading, sampled

_LOOK_EVERY_S = 0.1
#: The longest silence before what is missing counts as lost: beyond the first retries and a dead worker's give-back.
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a run sends: events of these types and priorities, in turn by their number, to the endpoints of `endpoints_of`."""

    types: Sequence[str]
    fan_out: int
    endpoints_of: EndpointsOf
    batch: int = 1
    priorities: Sequence[int] = (5,)
    #: Which of Relay's ways in they take: the name of a file of bench/adapters.
    way: str = "relay"
    #: Each endpoint must get its deliveries in the order of acceptance.
    ordered: bool = False

    def kinds(self) -> list[tuple[str, int]]:
        """Type and priority of the events, in turn by their number."""
        turns = range(math.lcm(len(self.types), len(self.priorities)))
        return [(self.types[n % len(self.types)], self.priorities[n % len(self.priorities)]) for n in turns]


class Size(TypedDict, total=False):
    """How much a run sends and how: for a time or a count, with a pause after each answer or at a fixed rate (requests/s).

    Without `clients` as many connections send as the sizes say, or one with a gap.
    """

    seconds: float
    count: int
    clients: int
    gap_s: tuple[float, float]
    rate: float


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
    #: Of the run, otherwise of the whole scenario; `Bench.measure` fills it in.
    used: Used | None = None


@dataclass(slots=True)
class Bench:
    """The system, the receiver, and the numbers that runs have in common."""

    system: System
    receiver: Receiver
    sizes: Sizes
    #: Every run so far, those that only warm up included: nothing that was sent is left out of the account.
    runs: list[Run] = field(default_factory=list[Run])
    #: What each run used, together with those that were under way with it.
    used: dict[Run, Used] = field(default_factory=dict[Run, Used])
    _samples: list[Memory] = field(default_factory=list[Memory])
    _began: Reading | None = None
    _under_way: list[Run] = field(default_factory=list[Run])
    _next_n: int = 0
    _expected: int = 0
    _endpoints: int = 0

    def measure(self, scenario: Callable[[Bench], list[Measured]]) -> list[Measured]:
        """Run a scenario and return its blocks, each with what it used."""
        with sampled(self.system) as self._samples:
            before = reading(self.system)
            blocks = scenario(self)
            whole = between(before, reading(self.system), self._samples)
        return [replace(one, used=self.used.get(one.run, whole) if one.run else whole) for one in blocks]

    def warmed_run(self, traffic: Traffic) -> Run:
        """Warm up, then send in a closed loop for the time of the sizes."""
        self.run(traffic, seconds=self.sizes.warm_up_s)
        return self.run(traffic, seconds=self.sizes.seconds)

    def run(self, traffic: Traffic, **size: Unpack[Size]) -> Run:
        """Send, and wait until all that was accepted has arrived or nothing has come for a minute."""
        receiver_cpu_s, before = self.receiver.cpu_s(), reading(self.system)
        made = self._send(traffic, size)
        self._wait_for_arrivals(_PATIENCE_S)
        time.sleep(self.sizes.settle_s)
        used = between(before, reading(self.system), self._samples)
        self.runs.append(run := Run(traffic, made, used.cpu_s, self.receiver.cpu_s() - receiver_cpu_s))
        self.used[run] = used
        self._under_way.clear()
        return run

    def send(self, traffic: Traffic, **size: Unpack[Size]) -> Run:
        """Send as `run` does, and neither wait for what was accepted nor measure what it cost: `drain` does both."""
        if not self._under_way:
            self._began = reading(self.system)
        made = self._send(traffic, size)
        self.runs.append(run := Run(traffic, made, {}, 0.0))
        self._under_way.append(run)
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
        if self._began and self._under_way:
            used = between(self._began, reading(self.system), self._samples)
            self.used |= dict.fromkeys(self._under_way, used)
            self._under_way.clear()
        return drained

    def new_endpoints(self, count: int) -> range:
        """Numbers for endpoints that one scenario makes for itself."""
        first = self.sizes.subscribed + 1 + self._endpoints
        self._endpoints += count
        return range(first, first + count)

    def idle_cpu_s(self) -> dict[str, float]:
        """Seconds of CPU by group that the system uses in the sizes' idle time, with no traffic at all."""
        if not (before := self.system.cpu_used()):
            return {}
        time.sleep(self.sizes.idle_s)
        return cpu.spent(before, self.system.cpu_used())

    def _send(self, traffic: Traffic, size: Size) -> Generated:
        clients = 1 if "gap_s" in size else self.sizes.clients
        made = generated(replace(self._plan(traffic), **{"clients": clients, **size}))
        self._next_n = max(made.sent.n, default=self._next_n) + 1
        self._expected += sum(made.sent.accepted) * traffic.fan_out
        return made

    def _plan(self, traffic: Traffic) -> Plan:
        adapter = self.system.adapter(traffic.way)
        plan = adapter.plan(traffic.kinds(), padding=self.sizes.padding, batch=traffic.batch)
        return replace(plan, first_n=self._next_n)

    def _wait_for_arrivals(self, patience_s: float) -> None:
        came, silent_since = -1, time.monotonic()
        while came < self._expected and time.monotonic() - silent_since < patience_s:
            now = self.receiver.count()
            if now != came:
                came, silent_since = now, time.monotonic()
            time.sleep(_LOOK_EVERY_S)
