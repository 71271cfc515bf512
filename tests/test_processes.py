"""How the processes of a service begin and end: their folders of metrics, and what is garbage to them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from relay.processes import IN_USE, metrics_folder

GONE = 2**22 + 1  # beyond the largest number that Linux gives


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_of_a_process_that_is_gone_is_removed(temporary: Path) -> None:
    old, foreign, living = (temporary / f"relay-metrics-{name}" for name in (f"{GONE}-a", "x", f"{os.getppid()}-a"))
    for folder in (old, foreign, living):
        folder.mkdir()
    made = Path(metrics_folder())
    assert set(temporary.iterdir()) == {made, living}


def test_in_a_container_process_1_removes_what_an_earlier_process_1_left(temporary: Path) -> None:
    left = temporary / f"relay-metrics-{os.getpid()}-a"
    left.mkdir()
    (left / IN_USE).touch()
    made = Path(metrics_folder())
    assert not left.exists()
    assert made.is_dir()


def test_a_process_that_reads_its_settings_again_keeps_the_folder_it_writes_in(temporary: Path) -> None:
    first, second = Path(metrics_folder()), Path(metrics_folder())
    assert first.is_dir()
    assert second.is_dir()


def test_what_was_imported_before_serving_is_looked_at_for_garbage_no_more() -> None:
    program = """
import gc, api.app
from relay.processes import begin_to_serve
before, often = len(gc.get_objects()), gc.get_threshold()[0]
begin_to_serve()
print(gc.get_freeze_count() > before / 2, len(gc.get_objects()) < before / 100, gc.get_threshold()[0] > 10 * often)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["True", "True", "True"]
