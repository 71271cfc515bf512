"""docs/benchmark.md shows commands that the benchmark takes, and names every scenario and figure it has."""

from __future__ import annotations

import re
import shlex

import pytest

from bench.__main__ import _parser
from bench.scenarios import GROUPS, SCENARIOS, chosen
from tests.documents import ROOT, first_column, shell_commands, spans_of

PAGE = ROOT / "docs" / "benchmark.md"
ARGUMENTS = [
    shlex.split(word.removeprefix("ARGS="))
    for place, words in shell_commands()
    if place.startswith("docs/benchmark.md") and words[:2] == ["make", "bench"]
    for word in (*words[2:], "ARGS=")[:1]
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=" ".join)
def test_every_command_of_the_page_is_one_that_the_benchmark_takes(arguments: list[str]) -> None:
    assert chosen(_parser().parse_args(arguments).scenarios)


def test_every_scenario_and_group_is_on_the_page() -> None:
    assert [cell.strip("`") for cell in first_column(PAGE, "| scenario | what it does |")] == list(SCENARIOS)
    assert GROUPS.keys() <= set(spans_of(PAGE))


def test_every_figure_of_the_page_is_told() -> None:
    cells = first_column(PAGE, "| figure | meaning |")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "bench").glob("*.py")]
    for figure in [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]:
        assert any(f'"{figure}' in source for source in sources), figure
