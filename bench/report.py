"""The results of a run of the benchmark: figures by name, held against their budgets, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.accounting import Account, account, percentile
from bench.cpu import GROUPS
from bench.load import Run
from bench.records import Arrivals
from bench.scenarios import Measured

_US = 1e6
_PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
#: Latencies and CPU per delivery say nothing where the system was idle most of the time, or had a backlog.
_WIDTH = 14


@dataclass(frozen=True, slots=True)
class Check:
    """A figure held against its budget; `value` is None where it could not be measured."""

    figure: str
    value: float | None
    limit: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Result:
    """One block of the report."""

    name: str
    figures: Mapping[str, float]
    requests: Mapping[str, int]
    checks: Sequence[Check]


def result(measured: Measured, arrivals: Arrivals, *, idle_s: float) -> Result:
    """Work out the figures of what was measured and hold them against its budgets."""
    run = measured.run
    counted = account(run.made.sent, arrivals, run.traffic.endpoints_of)
    figures = _counts(counted) | _speeds(counted) | _latencies(counted)
    if measured.idle_cpu_s:
        figures |= _shares("idle_cpu_percent", measured.idle_cpu_s, per=idle_s / 100)
    elif not _is_paced(measured):
        figures |= _costs(run, counted)
    checks = [_check(figures, figure, limit, sign=1) for figure, limit in measured.at_most]
    checks += [_check(figures, figure, limit, sign=-1) for figure, limit in measured.at_least]
    return Result(measured.name, figures, run.made.statuses, checks)
