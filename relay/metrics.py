"""Metrics of a process in Prometheus's format; where PROMETHEUS_MULTIPROC_DIR is set, of all its siblings too."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from relay.processes import exists

disable_created_metrics()
CONTENT_TYPE = CONTENT_TYPE_LATEST

EVENTS = Counter("relay_events_accepted", "Events accepted, repeats of a known key left out.")
BATCHES = Counter("relay_accept_batches", "Group commits that accepted events.")
FANNED_OUT = Counter("relay_events_fanned_out", "Events fanned out.")
ATTEMPTS = Counter("relay_attempts", "Requests sent to endpoints, by what came of them.", ["reason"])
ATTEMPT_SECONDS = Histogram(
    "relay_attempt_duration_seconds",
    "Time from connect to the last byte of an attempt.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
DELIVERIES = Counter("relay_outcomes", "Outcomes recorded, by the state they lead to; waiting is a retry.", ["state"])
SLEEPING_LANES = Counter("relay_sleeping_lanes", "Lanes found asleep with work in them; must stay 0.")
RESENT = Counter("relay_hints_resent", "Deliveries and lanes handed out again because nobody took them up.")
CIRCUITS_OPENED = Counter("relay_circuits_opened", "Circuits opened after failures in a row; failed probes left out.")
CIRCUITS_CLOSED = Counter("relay_circuits_closed", "Circuits closed by a probe that succeeded.")
PARKED = Counter("relay_deliveries_parked", "Deliveries handed out and put back because a gate had closed.")
GIVEN_BACK = Counter("relay_deliveries_given_back", "Deliveries of silent workers that went back to their lanes.")
NOTICES = Counter("relay_notices", "Notices sent to clients, by kind.", ["kind"])
# Of all processes the one whose clock leads has these two; the others say 0 (relay/insight/leader.py), the dead nothing.
UNACCOUNTED = Gauge(
    "relay_unaccounted_events", "Records of the last hours that do not fit together.", multiprocess_mode="livemax"
)
QUEUE_DEPTH = Gauge(
    "relay_queue_depth",
    "What more workers would send sooner: deliveries that are ready, by tier.",
    ["tier"],
    multiprocess_mode="livemax",
)


class _Living(MultiProcessCollector):
    """Sums up the processes of this service, and forgets the gauges of those that died, however they did."""

    def collect(self) -> Iterable[Metric]:
        for file in Path(self._path).glob("gauge_live*_*.db"):
            pid = file.stem.rpartition("_")[2]
            if not exists(pid):
                with suppress(FileNotFoundError):  # a sibling was quicker
                    mark_process_dead(pid, self._path)
        return super().collect()


def render() -> bytes:
    """The page for a scrape."""
    registry = CollectorRegistry()
    try:
        _Living(registry)
    except ValueError:  # PROMETHEUS_MULTIPROC_DIR is not set
        return generate_latest(REGISTRY)
    return generate_latest(registry)
