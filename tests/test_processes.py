"""Folders of metrics are removed when the processes that made them are gone, also where numbers come again."""

from __future__ import annotations

import os
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
