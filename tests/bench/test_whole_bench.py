"""Every scenario once, as small as can be, and the benchmark's trial of itself, with one whole Relay under them all."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.compare import compare
from bench.load import Bench
from bench.programs import receiving
from bench.report import Result, page, results
from bench.scenarios import SCENARIOS, endpoints
from bench.self_test import self_test
from bench.sizes import QUICK
from bench.system import System, started

CHECKOUT = Path(__file__).resolve().parent.parent.parent
TINY = replace(
    QUICK,
    seconds=0.3,
    warm_up_s=0.1,
    clients=8,
    types=3,
    endpoints_per_type=10,
    idle_events=3,
    idle_gap_s=(0.05, 0.1),
    idle_s=0.2,
    beside_s=0.3,
    trouble=50,
    rounds=1,
    tenants=1_000,
    backlog=300,
    lane_events=5,
    rate_limited=60,
    storm_endpoints=6,
    storm_s=0.3,
    storm_after_s=0.3,
    storm_reset_ms=200,
    stored=1_000,
    asked=2,
    many=20,
    many_rounds=1,
    fan_out=10,
    sustained=2,
    per_round=100,
    lists=(10, 50),
    reads=50,
    rows=1_000,
    settle_s=0.0,
)
#: A figure that each block of each scenario tells.
QUICK_RUNS: dict[str, Sequence[str]] = {
    "single": ("cpu_us_per_delivery.total", "late_ms.p99", "cpu_us_per_delivery.total"),
    "fanout10": ("cpu_us_per_delivery.total",),
    "latency-idle": ("idle_cpu_percent.total",),
    "batch-intake": ("cpu_us_per_event.web+postgres",) * 4,
    "graphql-single": ("cpu_us_per_event.web+postgres", "cpu_us_per_delivery.total"),
    "hints": ("redis_commands_per_request", "redis_commands_per_request"),
    "blackhole": ("p99_ratio.median",),
    "fifo": ("order_breaks",),
    "ratelimit": ("in_1_s.max",),
    "priority": ("backlog_left", "share_percent.low"),
    "backlog": ("drained_per_s",),
    "tenants": ("round_ms.p50",),
    "guide": ("dead_ms.p50",),
    "metrics": ("on_to_off.median",),
    "transform": ("more_cpu_us_per_delivery.median",),
    "wall": ("plain_us",),
    "fanout1000": ("accept_many_to_one.p50", "cpu_us_per_delivery.total"),
    "fanout5000": ("accept_many_to_one.p50",),
    "retry-storm": ("attempts_per_delivery",),
    "growth": ("deliveries_ms_ratio",),
    "own-cost": ("sending_us_per_event",) * 2,
}
#: What every block tells, and those with traffic.
ALWAYS = ("memory_mib.total", "memory_peak_mib.worker", "redis_peak_mib")
OF_TRAFFIC = ("postgres_statements_per_delivery", "redis_commands_per_delivery", "accept_to_receive_ms.p99")


def test_no_scenario_is_without_a_quick_run() -> None:
    assert QUICK_RUNS.keys() == SCENARIOS.keys()


@pytest.mark.system
def test_every_scenario_finds_all_delivered_once_and_what_is_lost_on_purpose_is_noticed(tmp_path: Path) -> None:
    with started() as system:
        assert system.settings["auth_enabled"] is True
        every_scenario_tells_its_figures(system)
        assert self_test(system) == []
        the_command_line_tells_and_writes(system, tmp_path / "figures.json")


def every_scenario_tells_its_figures(system: System) -> None:
    with receiving() as receiver, endpoints(system, receiver, TINY, names=QUICK_RUNS):
        bench = Bench(system, receiver, TINY)
        blocks = {name: bench.measure(SCENARIOS[name]) for name in QUICK_RUNS}
        assert {name: len(found) for name, found in blocks.items()} == {
            name: len(figures) for name, figures in QUICK_RUNS.items()
        }
        found, totals = results(bench, [block for one in blocks.values() for block in one])
    told = page(found, totals, {})
    assert (totals.faults, totals.unconfirmed) == (0, 0), told
    wanted = [figure for figures in QUICK_RUNS.values() for figure in figures]
    assert [
        (one.name, missing) for one, figure in zip(found, wanted, strict=True) if (missing := lacks(one, figure))
    ] == []


def lacks(block: Result, figure: str) -> list[str]:
    """What this block should tell and does not."""
    wanted = (figure, *ALWAYS, *(OF_TRAFFIC if block.figures.get("deliveries") else ()))
    return [one for one in wanted if math.isnan(block.figures.get(one, math.nan))]


def the_command_line_tells_and_writes(system: System, figures: Path) -> None:
    argv = [sys.executable, "-m", "bench", "fanout10", "--quick", "--seconds", "0.3", "--json", str(figures)]
    argv += ["--url", system.url, "--key", system.key]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost, 0 duplicates" in done.stdout
    assert json.loads(figures.read_text(encoding="utf-8"))["totals"]["expected"] > 0
    assert "better" not in compare(figures, figures)
