"""How much traffic each scenario makes: at full size, and for a first impression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.delivery.retry import DEFAULT_SCHEDULE_MS


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much traffic a run makes, and how many endpoints there are."""

    seconds: float = 5.0
    warm_up_s: float = 1.0
    clients: int = 32
    types: int = 100
    endpoints_per_type: int = 10
    payload_bytes: int = 256
    #: Watched after the last expected arrival: what comes twice comes now, and outcomes are still being recorded.
    settle_s: float = 2.0
    idle_events: int = 60
    idle_gap_s: tuple[float, float] = (2.0, 4.0)
    idle_s: float = 20.0
    #: Of the scenarios of the delivery core: how long healthy traffic lasts, and how much waits.
    beside_s: float = 15.0
    trouble: int = 1_000
    rounds: int = 3
    tenants: int = 10_000
    backlog: int = 50_000
    #: How long endpoints fail, how long traffic goes on after it, and how their circuits and retries are set.
    storm_endpoints: int = 200
    storm_s: float = 60.0
    storm_after_s: float = 15.0
    storm_reset_ms: int = 10_000
    storm_schedule_ms: Sequence[int] = DEFAULT_SCHEDULE_MS
    lane_events: int = 500
    rate_limited: int = 2_000
    #: How many deliveries are stored while a person looks, and how often each list is asked for.
    stored: int = 10_000_000
    asked: int = 200
    growth_rounds: int = 3
    #: Of the scenario that weighs the metrics.
    pairs: int = 11
    #: Of the scenario with one event for very many endpoints.
    many: int = 5_000
    many_rounds: int = 9
    #: Of the scenario with events for a thousand endpoints: how many of those, and how many events in a row.
    fan_out: int = 1_000
    sustained: int = 30
    per_round: int = 10_000
    #: Events in the lists that are accepted and lead nowhere.
    lists: tuple[int, ...] = (100, 1_000)
    #: Requests a second of the open loops.
    rates: tuple[int, ...] = (200, 500, 1_000)
    #: Of the scenario that weighs row-level security.
    reads: int = 3_000
    rows: int = 200_000

    @property
    def subscribed(self) -> int:
        """How many endpoints share the types of `fanout10`; the one of `single` has the next number."""
        return self.types * self.endpoints_per_type

    @property
    def padding(self) -> str:
        """What fills an event up to `payload_bytes`, beside its number."""
        return "x" * max(0, self.payload_bytes - len('{"n":1234567,"pad":""}'))


QUICK = Sizes(
    seconds=2.0,
    warm_up_s=0.5,
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
    rates=(100,),
    reads=500,
    rows=20_000,
    settle_s=0.5,
)
