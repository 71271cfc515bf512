"""Numbers of the whole system, which must not be summed over processes: only the process whose clock leads has them.

It puts them down in the metrics folder, with the moment until which it may lead, and the page of its service shows them
until then. All others say 0, or nothing where a 0 would be a lie: of a total, or of an endpoint.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from relay.metrics import files
from relay.processes import exists

Labels = tuple[str, ...]
_TIERS: tuple[Labels, ...] = (("high",), ("normal",), ("low",))
_NONE: tuple[Labels, ...] = ((),)


@dataclass(frozen=True, slots=True)
class ClusterMetric:
    """One number of the whole system, or one for each label; `at_rest`: the labels that say 0 while nobody here leads."""

    name: str
    help: str
    labels: Labels = ()
    at_rest: tuple[Labels, ...] = _NONE
    kind: Literal["gauge", "counter"] = "gauge"
    values: dict[Labels, float] = field(default_factory=dict[Labels, float])

    def set(self, value: float, *labels: str) -> None:
        """Say this from the next `publish` or `keep` on."""
        self.values[labels] = value

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Say these, and of no other label anything."""
        self.values.clear()
        self.values.update(values)

    def family(self, values: Mapping[Labels, float]) -> Metric:
        """In Prometheus's form."""
        make = GaugeMetricFamily if self.kind == "gauge" else CounterMetricFamily
        family = make(self.name, self.help, labels=self.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family


QUEUE_DEPTH = ClusterMetric(
    "relay_queue_depth", "What more workers would send sooner: deliveries that are ready, by tier.", ("tier",), _TIERS
)
OLDEST = ClusterMetric(
    "relay_queue_oldest_age_seconds", "How long the oldest ready delivery has been ready, by tier.", ("tier",), _TIERS
)
HELD = ClusterMetric("relay_queue_held", "Deliveries that are due and stand behind a closed gate.")
DELAYED = ClusterMetric("relay_queue_delayed", "Deliveries and scheduled events that wait for their time.")
IN_FLIGHT = ClusterMetric("relay_queue_in_flight", "Deliveries that a worker owns.")
DRAIN = ClusterMetric(
    "relay_queue_drain_seconds",
    "How long what is ready would take at the rate of the last minutes; 0: nothing is ready.",
)
DEAD_LETTERS = ClusterMetric("relay_dead_letters", "Deliveries that are dead and settled by nobody.")
CIRCUITS = ClusterMetric(
    "relay_circuits",
    "Circuits that are not closed; half_open: a probe may go.",
    ("state",),
    (("open",), ("half_open",)),
)
LANES = ClusterMetric(
    "relay_lanes",
    "Lanes that are due and wait for a worker, that a worker holds, and FIFO lanes that a dead head blocks.",
    ("state",),
    (("waiting",), ("held",), ("blocked",)),
)
UNACCOUNTED = ClusterMetric("relay_unaccounted_events", "Records of the last hours that do not fit together.")
PINNED = ClusterMetric("relay_partitions_pinned", "Partitions older than RETENTION_DAYS that are still there.")
AHEAD = ClusterMetric("relay_partitions_ahead", "Days from today on for which every partition is there.", at_rest=())
LEADER = ClusterMetric("relay_clock_leader", "1 where the leading clock runs.")
WORST = ClusterMetric(
    "relay_worst_endpoint_failures",
    "Failed attempts of the last 5 minutes at the 10 endpoints that have most; where fewer fail, at the busiest, too.",
    ("endpoint",),
    at_rest=(),
)
WORST_ATTEMPTS = ClusterMetric(
    "relay_worst_endpoint_attempts", "All attempts of the last 5 minutes at these endpoints.", ("endpoint",), at_rest=()
)
WORST_SECONDS = ClusterMetric(
    "relay_worst_endpoint_answer_seconds",
    "How long those attempts took that were answered, on average.",
    ("endpoint",),
    at_rest=(),
)
RECORDED_DELIVERIES = ClusterMetric(
    "relay_recorded_deliveries", "Deliveries that ended, from the records.", ("state",), (), "counter"
)
RECORDED_ATTEMPTS = ClusterMetric(
    "relay_recorded_attempts", "Attempts by outcome (ok: a 2xx; failed), from the records.", ("outcome",), (), "counter"
)
ALL = [one for one in globals().copy().values() if isinstance(one, ClusterMetric)]

_until = float("inf")


def keep(until: float) -> None:
    """This process leads, and another may from then on (`time.monotonic`, which all processes of a machine share)."""
    global _until
    _until = until
    LEADER.set(1)
    publish()


def drop() -> None:
    """Another process leads, or may: say nothing more."""
    global _until
    _until = float("inf")
    for one in ALL:
        one.values.clear()
    if files.FOLDER is not None:
        with suppress(OSError):
            _own(files.FOLDER).unlink()


def publish() -> None:
    """Show what is set now to the other processes of this service."""
    if files.FOLDER is None:
        return
    values = [[one.name, labels, value] for one in ALL for labels, value in one.values.items()]
    mine = _own(files.FOLDER)
    with suppress(OSError):  # full, or removed: there is no page without it either
        new = mine.with_suffix(".new")
        new.write_text(json.dumps({"until": _until, "values": values}), encoding="utf-8")
        new.replace(mine)


def families() -> Iterator[Metric]:
    """What the leader says, if it is of this service and may still lead."""
    said = _said()
    for one in ALL:
        values = said.get(one.name) or dict.fromkeys(one.at_rest, 0.0)
        if values:
            yield one.family(values)


def _said() -> dict[str, dict[Labels, float]]:
    if files.FOLDER is None:
        return {one.name: one.values for one in ALL} if time.monotonic() < _until else {}
    found: dict[str, dict[Labels, float]] = {}
    for file in files.FOLDER.glob("cluster_*.json"):
        with suppress(OSError, ValueError):
            text = json.loads(file.read_text(encoding="utf-8"))
            if text["until"] > time.monotonic() and exists(file.stem.rpartition("_")[2]):
                for name, labels, value in text["values"]:
                    found.setdefault(name, {})[tuple(labels)] = value
    return found


def _own(folder: Path) -> Path:
    return folder / f"cluster_{os.getpid()}.json"
