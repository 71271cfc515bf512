"""`relay doctor` asks a system that really runs: two web processes, two workers."""

from __future__ import annotations

import json

from tests.e2e.system import System, wait_until


def test_a_running_system_has_all_that_development_needs(system: System) -> None:
    page = system.relay("doctor")
    assert " 0 fail." in page


def test_the_processes_that_run_are_counted_and_their_metrics_found(system: System) -> None:
    def found() -> dict[str, dict[str, str]]:
        options = ("--only", "fleet", "--only", "metrics", "--accept", "worker-processes")
        printed = json.loads(system.relay("doctor", "--production", "--json", *options))
        return {one["check"]: one for one in printed["checks"]}

    wait_until(lambda: found()["web-processes"]["result"] == "pass", what="two web processes that beat")
    seen = found()
    assert seen["web-processes"]["reason"].startswith("2 web processes")
    assert seen["worker-processes"]["reason"] == "2 worker processes beat; 3 are needed. (accepted)"
    assert seen["metrics-page"]["result"] == "pass"
