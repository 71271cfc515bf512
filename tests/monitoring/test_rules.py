"""Each alert has its runbook, fires when it should and only then, and asks for metrics that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from relay import metrics
from tests.documents import ROOT, blocks_of, shell_commands, text_of
from tests.monitoring.rules import RULES, alerts, hurried, rules

OPERATIONS = ROOT / "docs" / "operations.md"
CASES = sorted(Path(__file__).parent.glob("*.yaml"))
ALERTS = alerts()


def sections() -> dict[str, str]:
    """The page's sections by anchor."""
    parts = re.split(r"^## (.+)$", text_of(OPERATIONS), flags=re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in parts[1::2]]
    return dict(zip(anchors, parts[2::2], strict=True))


def names_of(section: str) -> list[str]:
    """The alerts that the section's first paragraph names, when it begins with them."""
    first = section.strip().partition("\n\n")[0]
    return re.findall(r"`(Relay\w+)`", first) if re.match("Alerts?: ", first) else []


def promtool(*arguments: str | Path, cwd: Path = ROOT) -> str:
    """What it says; it must be content."""
    done = subprocess.run(["promtool", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- runbooks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_its_runbook_stands(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/operations.md"
    assert name in names_of(sections()[anchor])


def test_every_section_that_names_an_alert_is_its_runbook_and_shows_something_to_do() -> None:
    named = [(name, f"docs/operations.md#{anchor}") for anchor, text in sections().items() for name in names_of(text)]
    assert sorted(named) == sorted((name, rule["annotations"]["runbook"]) for name, rule in ALERTS.items())
    for _, place in named:
        assert re.search(r"^```|`relay |\(#", sections()[place.partition("#")[2]], re.MULTILINE), place


# ---- what is asked ---------------------------------------------------------------------------------------------------


def exported() -> set[str]:
    """The names of all series of Relay."""
    names = {f"{one.name}_total" if one.kind == "counter" else one.name for one in metrics.cluster.ALL}
    for one in vars(metrics).values():
        if isinstance(one, Counter):
            names.add(f"{one._name}_total")
        elif isinstance(one, Histogram):
            names |= {f"{one._name}_{part}" for part in ("bucket", "sum", "count")}
        elif isinstance(one, Gauge):
            names.add(one._name)
    return names


def test_rules_ask_for_metrics_that_there_are() -> None:
    asked = {name for rule in rules() for name in re.findall(r"\brelay_\w+", rule["expr"])}
    assert asked <= exported()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert {name for rule in rules() for name in re.findall(r"\brelay:[\w:]+", rule["expr"])} == recorded


def test_what_only_the_leader_says_is_never_added_up_over_processes() -> None:
    of_the_leader = {one.name for one in metrics.cluster.ALL}
    for rule in rules():
        for aggregate, inner in re.findall(r"(sum|min|max|count) by \([\w, ]+\) \((?:\w+\()?(\w+)", rule["expr"]):
            if inner.removesuffix("_total") in of_the_leader:
                assert aggregate == "max" or "min_over_time" in rule["expr"], rule


# ---- promtool --------------------------------------------------------------------------------------------------------


def cases() -> dict[str, list[dict[str, Any]]]:
    """What is expected of each alert, at which times."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in CASES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for one in test["alert_rule_test"]:
                found[one["alertname"]].append(one)
    return found


def test_of_every_alert_there_is_a_case_in_which_it_fires_and_one_in_which_not() -> None:
    found = cases()
    assert found.keys() == ALERTS.keys()
    assert [name for name, given in found.items() if {bool(one["exp_alerts"]) for one in given} != {True, False}] == []


@pytest.mark.system
def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert promtool("test", "rules", *CASES).count("SUCCESS") == len(CASES) > 5


@pytest.mark.system
def test_the_commands_of_the_page_accept_the_rules_and_the_configuration(tmp_path: Path) -> None:
    for _, words in shell_commands():
        if words[0] == "promtool":
            assert f"{len(rules())} rules found" in promtool(*words[1:])
    (block,) = [block for block in blocks_of(OPERATIONS) if block.language == "yaml"]
    (tmp_path / "relay").mkdir()
    shutil.copy(RULES, tmp_path / "relay" / "alerts.yaml")
    (tmp_path / "relay" / "operator-key").write_text("a key")
    (tmp_path / "prometheus.yaml").write_text(block.text)
    said = promtool("check", "config", "prometheus.yaml", cwd=tmp_path)
    assert f"{len(rules())} rules found" in said
    (tmp_path / "hurried.yaml").write_text(hurried(RULES.read_text(), times=100))
    promtool("check", "rules", tmp_path / "hurried.yaml")


@pytest.mark.system
@pytest.mark.parametrize(
    "expression", [block.text.strip() for block in blocks_of(OPERATIONS) if block.language == "promql"]
)
def test_expressions_of_the_page_are_promql(expression: str, tmp_path: Path) -> None:
    rule = tmp_path / "rule.yaml"
    rule.write_text(yaml.safe_dump({"groups": [{"name": "page", "rules": [{"record": "a", "expr": expression}]}]}))
    promtool("check", "rules", rule)
    assert set(re.findall(r"\brelay_\w+", expression)) <= exported()


def test_hurrying_touches_durations_and_nothing_else() -> None:
    text = RULES.read_text()
    small = hurried(text, times=100)
    assert re.sub(r"\d+(ms|[smhd])\b", "", small) == re.sub(r"\d+(ms|[smhd])\b", "", text)
    assert set(re.findall(r"\[(\w+)\]", small)) == {"3000ms", "6000ms", "9000ms", "18000ms", "36000ms", "216000ms"}
    assert set(re.findall(r"for: (\w+)", small)) == {
        "300ms",
        "600ms",
        "1200ms",
        "3000ms",
        "6000ms",
        "9000ms",
        "864000ms",
    }
