"""The benchmark's own account: nothing lost or doubled goes unnoticed, and CPU is counted whole."""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections.abc import Sequence
from dataclasses import replace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import cpu, report
from bench.__main__ import main
from bench.accounting import account, percentile, strangers
from bench.adapter import of_relay
from bench.load import Bench, Measured, Run, Traffic
from bench.plan import Load, Plan
from bench.programs import Generated, generated, receiving
from bench.records import Arrivals, Sent, pack, unpack_arrivals, unpack_sent
from bench.scenarios import chosen
from bench.self_test import direct_plan
from bench.sizes import QUICK
from bench.system import System

MS = 1_000_000
BURN = "import time\nwhile time.process_time() < {}: pass\n"


def _sent(rows: Sequence[tuple[int, int]]) -> Sent:
    """Events sent one per ms and answered half a ms later, by number and acceptance."""
    sent = Sent()
    for index, (n, accepted) in enumerate(rows):
        for column, value in zip(
            (sent.n, sent.sent_ns, sent.answered_ns, sent.accepted),
            (n, index * MS, index * MS + MS // 2, accepted),
            strict=True,
        ):
            column.append(value)
    return sent


def _arrived(pairs: Sequence[tuple[int, int]], *, at_ns: int = 10 * MS) -> Arrivals:
    return Arrivals(
        array("q", [n for n, _ in pairs]), array("q", [e for _, e in pairs]), array("q", [at_ns] * len(pairs))
    )


def _two_endpoints(_: int) -> Sequence[int]:
    return (0, 1)


@given(
    events=st.sets(st.integers(0, 50), min_size=1),
    lost=st.sets(st.tuples(st.integers(0, 50), st.integers(0, 1))),
    again=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1))),
)
def test_what_is_missing_is_lost_and_what_came_again_is_a_duplicate(
    events: set[int], lost: set[tuple[int, int]], again: list[tuple[int, int]]
) -> None:
    came = [(n, e) for n in events for e in (0, 1) if (n, e) not in lost]
    doubled = [pair for pair in again if pair in set(came)]
    found = account(_sent([(n, 1) for n in events]), _arrived(came + doubled), _two_endpoints)
    assert found.expected == 2 * len(events)
    assert found.delivered == len(came)
    assert found.lost == 2 * len(events) - len(came)
    assert (found.duplicates, found.misdelivered, found.unconfirmed) == (len(doubled), 0, 0)


def test_a_wrong_endpoint_is_no_delivery() -> None:
    found = account(_sent([(1, 1)]), _arrived([(1, 0), (1, 7)]), _two_endpoints)
    assert (found.delivered, found.lost, found.misdelivered) == (1, 1, 1)


def test_an_event_without_a_2xx_may_arrive_or_not() -> None:
    found = account(_sent([(1, 0), (2, 0), (3, 1)]), _arrived([(1, 0), (3, 0), (3, 1)]), _two_endpoints)
    assert (found.events, found.expected, found.lost, found.unconfirmed) == (1, 2, 0, 1)


def test_an_arrival_that_nobody_sent_is_told() -> None:
    sent = _sent([(1, 1)])
    assert strangers(_arrived([(1, 0), (1, 1), (-1, 0), (9, 0)]), [sent]) == 2


def test_latency_is_counted_from_the_request_and_from_its_answer() -> None:
    found = account(_sent([(1, 1)]), _arrived([(1, 0), (1, 1)], at_ns=3 * MS), _two_endpoints)
    assert (found.since_send_ms, found.since_accept_ms) == ([3.0, 3.0], [2.5, 2.5])


def test_percentiles_are_values_that_occurred() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert [percentile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0


def test_records_survive_being_handed_over() -> None:
    sent, arrivals = _sent([(1, 1), (2, 0)]), _arrived([(1, 0)])
    assert unpack_sent(pack(sent.n, sent.sent_ns, sent.answered_ns, sent.accepted)) == sent
    assert unpack_arrivals(pack(arrivals.n, arrivals.endpoint, arrivals.at_ns)) == arrivals


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_records_of_a_long_run_come_over_whole(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with receiving() as receiver:
        plan = replace(direct_plan(receiver, count=50_000), batch=100, opening="[", closing="]")
        sent = generated(plan).sent
    assert sorted(sent.n) == list(range(50_000))
    assert sum(sent.accepted) == 50_000


def test_the_events_of_a_list_are_accepted_one_by_one() -> None:
    load = Load(Plan(host="h", port=1, path="/", events=[('{"n":', "}")], batch=3, count=5, results=["results"]))
    numbers = load.take()
    assert load.request(numbers).endswith(b'{"n":0},{"n":1},{"n":2}')
    body = b'{"results":[{"id":"a"},{"error":{"code":"INVALID"}},{"id":"b"}]}'
    assert not load.answered(numbers, sent_ns=0, status=200, body=body)
    assert list(load.sent.accepted) == [1, 0, 1]
    assert (list(load.take()), load.over) == ([3, 4], True)


def test_cpu_of_a_child_that_is_gone_is_still_counted() -> None:
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN.format(0.2)!r}])\nprint(flush=True)\ninput()"
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = cpu.used_by_tree(psutil.Process(process.pid))
        process.communicate(b"\n")
    assert 0.18 <= seconds < 2  # the kernel counts in hundredths


def test_a_budget_is_passed_exceeded_or_not_measured() -> None:
    with receiving() as receiver:
        plan = direct_plan(receiver, count=50)
        run = Run(Traffic(["t"], 1, lambda _: (0,)), generated(plan), {"web": 0.01, "worker": 0.02}, 0.001)
        bench = Bench(System("http://127.0.0.1:1", "key"), receiver, QUICK, runs=[run])
        limits = (
            ("cpu_us_per_delivery.web", 250.0),
            ("cpu_us_per_delivery.worker", 250.0),
            ("cpu_us_per_delivery.total", 800.0),
        )
        (found,), totals = report.results(bench, [Measured("direct", run, at_most=limits)])
    assert [check.verdict for check in found.checks] == ["pass", "over", "not measured"]
    assert (totals.expected, totals.faults) == (50, 0)
    page = report.page([found], totals, {"commit": "abc", "settings": {"auth_enabled": True}})
    assert "auth_enabled on" in page
    assert "50 deliveries were due: 0 lost" in page


def test_a_loss_counts_in_the_totals_even_when_only_the_warm_up_had_it() -> None:
    with receiving() as receiver:
        warm_up = Generated(_sent([(10_000, 1)]), 0.0, {})
        run = generated(direct_plan(receiver, count=5))
        traffic = Traffic(["t"], 1, lambda _: (0,))
        runs = [Run(traffic, warm_up, {}, 0.0), Run(traffic, run, {}, 0.0)]
        bench = Bench(System("http://127.0.0.1:1", "key"), receiver, QUICK, runs=runs)
        _, totals = report.results(bench, [Measured("direct", runs[1])])
    assert (totals.lost, totals.faults) == (1, 1)


def test_figures_that_a_scenario_worked_out_itself_are_told_with_or_without_a_budget() -> None:
    with receiving() as receiver:
        bench = Bench(System("http://127.0.0.1:1", "key"), receiver, QUICK)
        figures = {"round_ms.p50": 3.0, "round_ms.max": 9.0}
        (found,), totals = report.results(bench, [Measured("rounds", None, (("round_ms.p50", 8.0),), figures=figures)])
    assert [check.verdict for check in found.checks] == ["pass"]
    page = report.page([found], totals, {})
    assert "round_ms.max 9.00" in page
    assert page.count("round_ms.p50") == 1


def test_types_and_priorities_have_their_turns_by_the_events_number() -> None:
    traffic = Traffic(["a", "b"], 1, lambda n: (n % 2,), priorities=(1, 5, 10))
    plan = of_relay("relay", url="http://h:1", key="k").plan(traffic.kinds(), padding="xx", batch=1)
    events = [json.loads(f"{before}0{after}") for before, after in plan.events]
    assert events == [
        {"eventType": "ab"[n % 2], "priority": (1, 5, 10)[n % 3], "payload": {"n": 0, "pad": "xx"}} for n in range(6)
    ]


def test_without_names_the_three_short_scenarios_run_and_a_group_stands_for_its_own() -> None:
    assert chosen([]) == ["single", "fanout10", "latency-idle"]
    assert chosen(["single", "core"]) == ["single", "blackhole", "fifo", "ratelimit", "priority", "backlog", "tenants"]


def test_an_unknown_scenario_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["nothing-such"]) == 2
    assert "single, fanout10, latency-idle" in capsys.readouterr().err
