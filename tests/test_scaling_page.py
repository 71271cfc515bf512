"""docs/scaling.md: its figures are those that were measured, its settings are read, its code does what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.redis_clients import Limits, client
from relay.settings import read_settings
from relay.up.development import free_port
from tests.documents import ROOT, blocks_of, table
from tests.redis_servers import connected, server

PAGE = ROOT / "docs" / "scaling.md"
LEAST = {"DATABASE_URL": "postgresql://h/relay", "REDIS_URL": "redis://h/0", "SIGNING_KEY": "k" * 32}
PLAIN = [block.text for block in blocks_of(PAGE) if not block.language]
#: The blocks of the proof behind the rows of the table: how their names begin and end.
MEASURED = (("single", "one by one"), ("single", "lists of 100"), ("fanout10", "per event"))
CELLS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True)


def test_the_costs_are_those_of_the_proof() -> None:
    measured = json.loads((ROOT / "docs" / "proof" / "bench-0.1.0.json").read_text())["results"]
    rows = table(PAGE, "| microseconds of a core, per delivery | web | worker | Postgres | Redis | together |")
    parts = ("web", "worker", "postgres", "valkey", "total")
    for row, (name, end) in zip(rows[:3], MEASURED, strict=True):
        (figures,) = [one["figures"] for one in measured if one["name"].startswith(name) and one["name"].endswith(end)]
        assert [int(cell) for cell in row[1:]] == [round(figures[f"cpu_us_per_delivery.{part}"]) for part in parts]


@pytest.mark.parametrize("text", [text for text in PLAIN if text.startswith("REDIS_")])
def test_settings_that_are_shown_are_read(text: str) -> None:
    given = dict(line.split("=", 1) for line in text.splitlines())
    settings = read_settings({**LEAST, **given})
    with client(settings.redis_url, Limits(1, timeout_s=1.0)):  # made, not connected
        pass


def test_the_sentinels_that_are_shown_start(tmp_path: Path) -> None:
    (text,) = [text for text in PLAIN if text.startswith("port 26379")]
    port = free_port()
    lines = [line for line in text.splitlines() if not line.startswith("port")]
    with TemporaryDirectory() as folder:
        url = f"redis://127.0.0.1:{port}"
        sentinel = server(Path(folder), f"port {port}", *lines, url=url, port=port, options=("--sentinel",))
        try:
            master = connected(url).sentinel_master("relay")
        finally:
            sentinel.kill()
    assert (master["ip"], master["port"], master["quorum"]) == ("10.0.0.11", 6379, 2)
    assert (master["down-after-milliseconds"], master["failover-timeout"]) == (2000, 10000)


def cell_of() -> Callable[..., str]:
    """The function of the page."""
    (block,) = [block for block in blocks_of(PAGE) if block.language == "python"]
    names: dict[str, Any] = {}
    exec(compile(block.text, block.place, "exec"), names)
    return names["cell_of"]


@given(st.text(max_size=20), CELLS, st.text(min_size=9, max_size=9))
def test_a_new_cell_takes_only_its_own_share(tenant: str, cells: list[str], new: str) -> None:
    find = cell_of()
    before, after = find(tenant, moved={}, cells=cells), find(tenant, moved={}, cells=[*cells, new])
    assert before in cells
    assert after in (before, new)
    assert find(tenant, moved={tenant: before}, cells=[*cells, new]) == before
