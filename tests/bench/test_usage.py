"""What a stretch of time used: differences of counters, the largest of what was seen, and nothing where nothing is known."""

from __future__ import annotations

from bench.load import Bench, Measured, Run, Traffic
from bench.programs import generated, receiving
from bench.report import results
from bench.self_test import direct_plan
from bench.sizes import QUICK
from bench.system import System
from bench.usage import Memory, Reading, Used, between, reading


def _reading(at_s: float, mib: float, *, redis_peak: float, counted: int) -> Reading:
    return Reading(Memory(at_s, {"web": mib}, mib), {"web": at_s}, counted, 2 * counted, redis_peak)


def test_the_peak_is_the_largest_of_what_was_seen_meanwhile() -> None:
    samples = [Memory(at_s, {"web": mib}, mib) for at_s, mib in ((0.5, 90.0), (2.0, 70.0), (9.0, 99.0))]
    used = between(_reading(1, 50, redis_peak=90, counted=10), _reading(5, 60, redis_peak=90, counted=50), samples)
    assert (used.memory_end, used.memory_peak, used.redis_peak) == ({"web": 60.0}, {"web": 70.0}, 70.0)
    assert (used.seconds, used.cpu_s, used.statements, used.commands) == (4.0, {"web": 4.0}, 40, 80)


def test_a_peak_of_redis_between_two_samples_is_seen() -> None:
    used = between(_reading(1, 5, redis_peak=6, counted=0), _reading(5, 5, redis_peak=80, counted=0))
    assert used.redis_peak == 80


def test_of_somebody_elses_system_nothing_is_known() -> None:
    nothing = reading(System("http://127.0.0.1:1", "key"))
    used = between(nothing, nothing)
    assert (used.memory_end, used.statements, used.commands, used.redis_peak) == ({}, None, None, None)


def test_statements_and_commands_are_shared_by_all_that_was_under_way_together() -> None:
    with receiving() as receiver:
        traffic = Traffic(["t"], 1, lambda _: (0,))
        plans = [direct_plan(receiver, count=50), direct_plan(receiver, count=150, first_n=50)]
        runs = [Run(traffic, generated(plan), {}, 0.0) for plan in plans]
        used = Used(statements=800, commands=100, memory_end={"web": 40.0}, memory_peak={"web": 50.0}, redis_peak=65.0)
        bench = Bench(System("http://127.0.0.1:1", "key"), receiver, QUICK, runs=runs, used=dict.fromkeys(runs, used))
        (found,), _ = results(bench, [Measured("direct", runs[0], used=used)])
    assert found.figures["postgres_statements_per_delivery"] == 4.0
    assert found.figures["redis_commands_per_delivery"] == 0.5
    assert (found.figures["memory_mib.web"], found.figures["memory_peak_mib.web"]) == (40.0, 50.0)
    assert [check.verdict for check in found.checks if check.figure == "redis_peak_mib"] == ["over"]
