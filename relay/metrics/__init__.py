"""What this process counts and measures of its own work, and the page of its service: `render`.

Where PROMETHEUS_MULTIPROC_DIR is set the page shows all processes of the service, as one. Numbers of the whole system are
`relay.metrics.cluster`'s.
"""

from __future__ import annotations

import platform

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from relay import __version__
from relay.metrics import cluster, files
from relay.metrics.cluster import UNACCOUNTED
from relay.metrics.page import CONTENT_TYPE, render

__all__ = ["CONTENT_TYPE", "UNACCOUNTED", "cluster", "render"]

disable_created_metrics()
files.prepare()
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

EVENTS = Counter("relay_events_accepted", "Events accepted, repeats of a known key left out.")
REPEATED = Counter("relay_events_repeated", "Events that were accepted before, under the same idempotency key.")
REFUSED = Counter("relay_events_refused", "Events that were not accepted, by the code of the answer.", ["reason"])
BATCHES = Counter("relay_accept_batches", "Group commits that accepted events.")
FANNED_OUT = Counter("relay_events_fanned_out", "Events fanned out.")
FILTERED_OUT = Counter(
    "relay_filtered_out",
    "Deliveries not made because of the endpoint's filter: refused, or unfinished (it could not be evaluated).",
    ["result"],
)
ATTEMPTS = Counter("relay_attempts", "Requests sent to endpoints, by what came of them.", ["reason"])
ATTEMPT_SECONDS = Histogram(
    "relay_attempt_duration_seconds",
    "Time from connect to the last byte of an attempt.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
DELIVERIES = Counter(
    "relay_outcomes", "Outcomes recorded, by the state they lead to (waiting is a retry) and why.", ["state", "reason"]
)
SLEEPING_LANES = Counter("relay_sleeping_lanes", "Lanes found asleep with work in them; must stay 0.")
RESENT = Counter("relay_hints_resent", "Deliveries and lanes handed out again because nobody took them up.")
CIRCUITS_OPENED = Counter("relay_circuits_opened", "Circuits opened after failures in a row; failed probes left out.")
CIRCUITS_CLOSED = Counter("relay_circuits_closed", "Circuits closed by a probe that succeeded.")
PARKED = Counter("relay_deliveries_parked", "Deliveries handed out and put back because a gate had closed.")
GIVEN_BACK = Counter("relay_deliveries_given_back", "Deliveries of silent workers that went back to their lanes.")
NOTICES = Counter("relay_notices", "Notices sent to clients, by kind.", ["kind"])
LEASES_LOST = Counter("relay_leases_lost", "Leads of this process's clock that went to another process.")
BATCH_SIZE = Histogram(
    "relay_batch_size",
    "Rows of one group commit: events accepted or fanned out, deliveries claimed, outcomes recorded.",
    ["statement"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
DATABASE_SECONDS = Histogram(
    "relay_database_seconds",
    "Time that a batch's statement took, with its commit; connect: to be lent a connection.",
    ["statement"],
    buckets=_SECONDS,
)
REDIS_SECONDS = Histogram(
    "relay_redis_seconds", "Time from a command to Redis to its answer.", ["command"], buckets=_SECONDS
)
# Gauges of dead processes go, however those died: each mode begins with "live".
SLOTS = Gauge("relay_worker_slots", "Requests that may be in flight at once.", multiprocess_mode="livesum")
SLOTS_TAKEN = Gauge("relay_worker_slots_taken", "Requests in flight, and seats held.", multiprocess_mode="livesum")
POSTGRES_UP = Gauge(
    "relay_postgres_up", "Whether Postgres answers every process here: 1 or 0.", multiprocess_mode="livemin"
)
REDIS_UP = Gauge("relay_redis_up", "Whether Redis answers every process here: 1 or 0.", multiprocess_mode="livemin")
POSTGRES_UP.set(1)  # until it is known better, which takes a moment: a start must not look like an outage
REDIS_UP.set(1)
BUILD = Gauge("relay_build_info", "Always 1; what runs.", ["version", "python"], multiprocess_mode="livemax")
BUILD.labels(__version__, platform.python_version()).set(1)
