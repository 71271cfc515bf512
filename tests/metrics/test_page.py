"""What a scrape shows of the processes of one service: all that live, and nothing that only a dead one knew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prometheus_client import Gauge

from relay import metrics

LEADER = """
import sys, time
from prometheus_client import Gauge

from relay import metrics
metrics.cluster.QUEUE_DEPTH.set(7, "high")
metrics.UNACCOUNTED.set(3)
metrics.cluster.keep(time.monotonic() + 60)
metrics.FANNED_OUT.inc(5)
print("set", flush=True)
sys.stdin.read()
"""
SIBLING = """
import sys
from prometheus_client import Gauge

from relay import metrics
metrics.cluster.drop()
metrics.FANNED_OUT.inc(1)
for _ in sys.stdin:
    print(metrics.render().decode().replace("\\n", "|"), flush=True)
"""


def started(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def page(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().split("|")


def test_a_killed_process_leaves_its_counters_and_none_of_its_gauges(tmp_path: Path) -> None:
    with started(LEADER, tmp_path) as leader, started(SIBLING, tmp_path) as sibling:
        assert leader.stdout is not None
        leader.stdout.readline()
        shown = page(sibling)
        assert 'relay_queue_depth{tier="high"} 7.0' in shown
        assert "relay_unaccounted_events 3.0" in shown
        assert "relay_events_fanned_out_total 6.0" in shown
        leader.kill()
        leader.wait(5)
        shown = page(sibling)
        assert 'relay_queue_depth{tier="high"} 0.0' in shown
        assert "relay_unaccounted_events 0.0" in shown
        assert "relay_events_fanned_out_total 6.0" in shown
        sibling.kill()


def test_every_gauge_dies_with_its_process() -> None:
    gauges = [one for one in vars(metrics).values() if isinstance(one, Gauge)]
    assert gauges
    assert all(gauge._multiprocess_mode.startswith("live") for gauge in gauges)
