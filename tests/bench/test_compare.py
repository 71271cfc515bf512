"""Two runs side by side: what differs by more than noise is said to be better or worse, and nothing else is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.compare import verdict


@pytest.mark.parametrize(
    ("figure", "before", "after", "said"),
    [
        ("cpu_us_per_delivery.total", 500.0, 520.0, ""),
        ("cpu_us_per_delivery.total", 500.0, 600.0, "worse"),
        ("cpu_us_per_delivery.total", 600.0, 500.0, "better"),
        ("accept_to_receive_ms.p99", 100.0, 120.0, ""),
        ("accept_to_receive_ms.p99", 100.0, 200.0, "worse"),
        ("deliveries_per_s", 1000.0, 1200.0, "better"),
        ("events_accepted_per_s", 1200.0, 1000.0, "worse"),
        ("of_one_per_rtt.min", 0.9, 0.5, "worse"),
        ("events", 1000.0, 2000.0, ""),
        ("lost", 0.0, 1.0, "worse"),
        ("order_breaks", 2.0, 0.0, "better"),
        ("cpu_us_per_delivery.relay up", 0.0, 0.1, ""),
        ("p99_ms", math.nan, 5.0, ""),
    ],
)
def test_a_figure_is_better_or_worse_beyond_noise(figure: str, before: float, after: float, said: str) -> None:
    assert verdict(figure, before, after) == said


def test_two_files_become_a_table_and_what_only_one_has_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, name, cpu in zip(files, ("old", "new"), (500.0, 250.0), strict=True):
        results = [{"name": "single", "figures": {"cpu_us_per_delivery.total": cpu}}, {"name": name, "figures": {}}]
        file.write_text(json.dumps({"commit": name, "results": results, "totals": {"lost": 0}}), encoding="utf-8")
    assert main(["--compare", *map(str, files)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["cpu_us_per_delivery.total", "500", "250", "0.50", "better"] in [line.split() for line in lines]
    assert {"Only in A: old", "Only in B: new"} <= set(lines)


@pytest.mark.parametrize("text", ["{}", "[1]", "no JSON"])
def test_a_file_without_figures_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.json"
    file.write_text(text, encoding="utf-8")
    assert main(["--compare", str(file), str(file)]) == 2
    assert "a.json" in capsys.readouterr().err
