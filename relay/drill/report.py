"""A drill's report: a table for people, JSON for programs, JUnit for CI."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree as ET

from relay.drill.run import Outcome, Report

_COLUMNS = ("fault", "lasted s", "recovery s", "p99 ms", "repeats", "unexcused", "order breaks")


def head() -> str:
    """The first line of the table."""
    return _line(*_COLUMNS)


def line(outcome: Outcome) -> str:
    """One fault's line; a dash for the p99 of nothing."""
    p99_ms = "-" if math.isnan(outcome.p99_ms) else f"{outcome.p99_ms:.0f}"
    numbers = (f"{outcome.lasted_s:.1f}", f"{outcome.recovery_s:.1f}", p99_ms)
    return _line(outcome.fault.name, *numbers, *map(str, (outcome.repeats, outcome.unexcused, outcome.breaks)))


def _line(name: str, *rest: str) -> str:
    return f"{name:<24}" + "".join(f"{text:>13}" for text in rest)


def summary(report: Report) -> str:
    """The lines below the table."""
    counts = f"{report.lost} lost, {report.breaks} out of order, {report.repeats} repeated"
    lines = [f"{report.accepted:,} events accepted, {report.arrived:,} deliveries arrived: {counts}."]
    lines += [f"Left out, what it needs is not installed: {name}." for name in report.left_out]
    wrong = report.wrong()
    lines += [f"WRONG: {sentence}." for sentence in wrong]
    if not wrong:
        lines.append("Nothing was lost, everything kept its order, and relay verify finds that all fits.")
    return "\n".join(lines)


def as_json(report: Report) -> dict[str, Any]:
    """The report as an object; what has no number is null."""
    return {
        "faults": [
            {
                "name": one.fault.name,
                "lasted_s": _number(one.lasted_s),
                "recovery_s": _number(one.recovery_s),
                "recovery_limit_s": one.fault.recovery_s,
                "p99_ms": _number(one.p99_ms),
                "repeats": one.repeats,
                "unexcused_repeats": one.unexcused,
                "order_breaks": one.breaks,
                "wrong": one.wrong(),
            }
            for one in report.outcomes
        ],
        "left_out": report.left_out,
        "accepted": report.accepted,
        "arrived": report.arrived,
        "lost": report.lost,
        "order_breaks": report.breaks,
        "repeats": report.repeats,
        "unexcused_repeats": report.unexcused,
        "verify": report.verify,
        "wrong": report.wrong(),
    }


def as_junit(report: Report) -> str:
    """The report as JUnit XML: a test case for each fault, and one for the whole."""
    cases = [(one.fault.name, one.lasted_s + one.recovery_s, one.wrong()) for one in report.outcomes]
    of_faults = {f"{name}: {sentence}" for name, _, wrong in cases for sentence in wrong}
    cases.append(("the whole", 0.0, [sentence for sentence in report.wrong() if sentence not in of_faults]))
    failures = sum(1 for *_, wrong in cases if wrong)
    suite = ET.Element("testsuite", name="relay drill", tests=str(len(cases)), failures=str(failures))
    for name, took_s, wrong in cases:
        case = ET.SubElement(suite, "testcase", classname="drill", name=name, time=f"{_number(took_s) or 0:.3f}")
        if wrong:
            ET.SubElement(case, "failure", message="; ".join(wrong))
    for name in report.left_out:
        case = ET.SubElement(suite, "testcase", classname="drill", name=name, time="0")
        ET.SubElement(case, "skipped", message="what it needs is not installed")
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _number(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
