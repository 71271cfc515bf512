"""The benchmark from its command line, with all of Relay under it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.system
def test_the_quick_bench_finds_everything_delivered_once(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    scenarios = ["single", "fanout10", "hints", "latency-idle", "guide"]
    argv = [sys.executable, "-m", "bench", *scenarios, "--quick", "--seconds", "1", "--json", str(figures)]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(figures.read_text(encoding="utf-8"))
    assert told["settings"]["auth_enabled"] is True
    assert told["totals"]["expected"] > 100
    *sent, guide = (result["figures"] for result in told["results"])
    assert all(figures["lost"] == figures["duplicates"] == 0 for figures in sent)
    one, lists = (one["figures"] for one in told["results"] if one["name"].startswith("hints"))
    assert 0 < lists["redis_commands_per_delivery"] < one["redis_commands_per_delivery"] < 50
    assert 0 < one["redis_cpu_us_per_delivery"] < 1_000
    assert sent[-1]["accept_to_receive_ms.max"] < 1_000
    assert sent[-1]["idle_cpu_percent.total"] < 50
    assert max(guide["dead_ms.p50"], guide["queued_pending_ms.p50"], guide["endpoint_ms.p50"]) < 25
