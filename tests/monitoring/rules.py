"""The rules and dashboards of deploy/monitoring as tests read them; `hurried`: the same rules, many times as fast."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.documents import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
RULES = MONITORING / "alerts.yaml"
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
_DURATION = re.compile(r"(?<=\[)\d+[smhd](?=\])|(?<=for: )\d+[smhd](?=\n)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def rules(*, group: str | None = None) -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for one in groups if group in (None, one["name"]) for rule in one["rules"]]


def alerts(*, group: str | None = None) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules(group=group) if "alert" in rule}


def hurried(text: str, *, times: int) -> str:
    """The rules with each window and each `for` that many times as short, and nothing else changed."""
    return _DURATION.sub(lambda found: f"{_SECONDS[found[0][-1]] * int(found[0][:-1]) * 1000 // times}ms", text)


def dashboard(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def panels(path: Path) -> list[dict[str, Any]]:
    """Those that show something; not the headings."""
    return [panel for panel in dashboard(path)["panels"] if panel["type"] != "row"]


def expressions(path: Path) -> Iterator[tuple[str, str]]:
    """Title and expression, panel by panel."""
    for panel in panels(path):
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def filled(expression: str) -> str:
    """With the variables as Grafana fills them in when all is chosen."""
    given = {"namespace": ".*", "endpoint": ".+", "__rate_interval": "15s"}
    return re.sub(r"\$(\w+)", lambda found: given[found[1]], expression)
