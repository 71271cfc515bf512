"""The dashboards are files that any Grafana takes: nothing in them is one installation's, and each panel explains itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.monitoring.rules import DASHBOARDS, MONITORING, dashboard, expressions, panels
from tests.monitoring.test_rules import exported

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
each = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def test_there_are_three() -> None:
    assert [path.name for path in DASHBOARDS] == ["endpoint.json", "internals.json", "overview.json"]
    assert len({dashboard(path)["uid"] for path in DASHBOARDS}) == 3


def values_of(what: Any, key: str) -> list[Any]:
    """Every value under this key, wherever it stands."""
    if isinstance(what, dict):
        return [value for name, value in what.items() if name == key] + [
            found for value in what.values() for found in values_of(value, key)
        ]
    return [found for value in what for found in values_of(value, key)] if isinstance(what, list) else []


@each
def test_nothing_in_it_is_of_one_installation(path: Path) -> None:
    board = dashboard(path)
    assert "id" not in board
    assert board["schemaVersion"] >= 39
    assert [source for source in values_of(board, "datasource") if source != SOURCE] == []
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names[:2] == ["datasource", "namespace"]
    for _, expression in expressions(path):
        assert 'namespace=~"$namespace"' in expression
        assert set(re.findall(r"\$\w+", expression)) <= {"$__rate_interval", *(f"${name}" for name in names)}


@each
def test_each_panel_has_its_place_a_title_a_unit_and_a_sentence(path: Path) -> None:
    board = dashboard(path)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    shown = [panel for panel in panels(path) if panel["type"] != "text"]
    for panel in shown:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert [target["refId"] for target in panel["targets"]] == [*"ABCD"][: len(panel["targets"])]
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert len(shown) > 3 * len(rows) - 1 > 4


@each
def test_it_asks_for_metrics_that_there_are(path: Path) -> None:
    asked = {name for _, expression in expressions(path) for name in re.findall(r"\brelay_\w+", expression)}
    assert asked <= exported()


def test_the_folder_holds_nothing_else() -> None:
    assert {one.name for one in MONITORING.iterdir()} == {"alerts.yaml", "dashboards"}
