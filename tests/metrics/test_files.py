"""The files of the processes of one service: nothing is lost, counted twice, or left behind, however a process ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.metrics import files
from relay.processes import metrics_folder

CHECKOUT = Path(__file__).parents[2]
COUNTS = """
import os, sys
from relay import metrics
metrics.FANNED_OUT.inc(2)
metrics.ATTEMPTS.labels("ok").inc()
metrics.BATCH_SIZE.labels("record").observe(3)
metrics.BATCH_SIZE.labels("record").observe(1000)
metrics.SLOTS.set(10)
os.kill(os.getpid(), 9)
"""
READS = "from relay import metrics; print(metrics.render().decode())"
KEEPS = "import sys\nfrom relay.processes import metrics_folder\nprint(metrics_folder(), flush=True)\nsys.stdin.read()"


def run(code: str, folder: Path) -> str:
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.stdout


def test_what_killed_processes_counted_stays_in_one_file_and_their_gauges_go(tmp_path: Path) -> None:
    for _ in range(3):
        run(COUNTS, tmp_path)
    for page in (run(READS, tmp_path), run(READS, tmp_path)):
        assert "relay_events_fanned_out_total 6.0" in page
        assert 'relay_attempts_total{reason="ok"} 3.0' in page
        buckets = re.findall(r'relay_batch_size_bucket{le="(\S+)",statement="record"} (\S+)', page)
        assert dict(buckets) == {
            **dict.fromkeys(["1.0", "2.0"], "0.0"),
            **dict.fromkeys(["5.0", "10.0", "20.0", "50.0", "100.0", "200.0", "500.0"], "3.0"),
            "+Inf": "6.0",
        }
        assert 'relay_batch_size_sum{statement="record"} 3009.0' in page
        assert "relay_worker_slots 0.0" in page
    assert {file.name for file in tmp_path.glob("*_0.db")} == {"counter_0.db", "histogram_0.db"}
    left = {file.stem.rpartition("_")[2] for file in tmp_path.glob("*.db")}
    assert len(left) == 2  # those that are gone, and the last one that read


def test_a_reader_that_is_killed_while_it_puts_files_together_loses_and_doubles_nothing(tmp_path: Path) -> None:
    begin = f"from pathlib import Path; from relay.metrics import files; folder = Path({str(tmp_path)!r});"
    dead = "dead = next(file for file in folder.glob('counter_*.db') if file.stem != 'counter_0');"
    add = f"{begin} {dead} files._add(dead, to=folder / 'counter_0.db')"
    unlink = "import relay.metrics.files as f; f.Path.unlink = lambda *_, **__: exit(0);"
    rename = "import relay.metrics.files as f; f.Path.rename = lambda *_: exit(0);"
    for killed_at in (add, f"{rename} {add}", f"{add}; {unlink} files._finish(folder)"):
        run(COUNTS, tmp_path)
        environment = {"PYTHONPATH": str(CHECKOUT)}
        subprocess.run([sys.executable, "-c", killed_at], env=environment, check=True)
        run(READS, tmp_path)
    assert "relay_events_fanned_out_total 6.0" in run(READS, tmp_path)
    assert [file.name for file in tmp_path.glob("*") if file.suffix in (".new", ".added")] == []


def test_files_are_read_while_nobody_puts_them_together(tmp_path: Path) -> None:
    with files.reading(tmp_path):
        waits = subprocess.Popen(
            [sys.executable, "-c", READS],
            env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(CHECKOUT)},
            stdout=subprocess.PIPE,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waits.wait(1.5)
    assert b"relay_build_info" in waits.communicate(timeout=20)[0]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def service(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A service that runs, and its folder."""
    environment = {"TMPDIR": str(temporary), "PYTHONPATH": str(CHECKOUT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", KEEPS], env=environment, stdin=pipe, stdout=pipe, text=True
    ) as running:
        assert running.stdout is not None
        yield running, Path(running.stdout.readline().strip())


def test_the_folder_of_a_killed_service_goes_when_the_next_one_starts_and_no_other_does(temporary: Path) -> None:
    with service(temporary) as (killed, its), service(temporary) as (_, other):
        killed.kill()
        killed.wait(5)
        # Its number is another's now, as 1 is in every container.
        reused = its.rename(its.with_name(f"relay-metrics-{os.getpid()}-reused"))
        mine = Path(metrics_folder())
        assert not reused.exists()
        assert sorted(temporary.glob("relay-metrics-*")) == sorted([other, mine])
        assert metrics_folder(str(mine)) == str(mine)
