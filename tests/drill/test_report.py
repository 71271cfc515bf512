"""A drill's report: what makes it a bad one, and that programs can read it."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree as ET

from relay.drill import report as written
from relay.drill.faults import FAULTS, Fault
from relay.drill.run import Outcome, Report

GOOD = Outcome(FAULTS[0], lasted_s=0.1, recovery_s=3.0, p99_ms=80.0, repeats=2, unexcused=0, breaks=0)


def outcome(fault: Fault = FAULTS[0], *, recovery_s: float = 3.0, unexcused: int = 0, breaks: int = 0) -> Outcome:
    return Outcome(
        fault, lasted_s=1.0, recovery_s=recovery_s, p99_ms=math.nan, repeats=2, unexcused=unexcused, breaks=breaks
    )


def test_a_good_report_says_so_and_has_nothing_wrong() -> None:
    report = Report(outcomes=[GOOD], accepted=1_000, arrived=3_000, repeats=2)
    assert report.wrong() == []
    assert "Nothing was lost" in written.summary(report)
    assert "WRONG" not in written.summary(report)
    assert written.line(GOOD).split()[-6:] == ["0.1", "3.0", "80", "2", "0", "0"]
    assert written.line(outcome()).split()[-4:] == ["-", "2", "0", "0"]


def test_each_thing_that_must_not_be_is_named() -> None:
    slow = outcome(next(fault for fault in FAULTS if fault.name == "empty Redis"), recovery_s=6.0)
    outcomes = [slow, outcome(recovery_s=math.inf), outcome(unexcused=1, breaks=2)]
    report = Report(
        outcomes=outcomes,
        lost=4,
        unexcused=3,
        breaks=3,
        verify={"deliveries.lost": 1},
        left_out=["skew a worker's clock"],
    )
    assert report.wrong() == [
        "empty Redis: recovery took 6.0 s, more than 5 s",
        "kill a worker: recovery took inf s, more than 30 s",
        "kill a worker: 1 deliveries were repeated without need",
        "kill a worker: 2 came out of order",
        "4 deliveries of accepted events were lost",
        "3 deliveries were repeated without need",
        "3 came out of order",
        "relay verify: deliveries.lost: 1",
    ]
    said = written.summary(report)
    assert said.count("WRONG: ") == 8
    assert "Left out, what it needs is not installed: skew a worker's clock." in said


def test_programs_can_read_it() -> None:
    report = Report(outcomes=[GOOD, outcome(recovery_s=math.inf)], lost=4, left_out=["skew a worker's clock"])
    read = json.loads(json.dumps(written.as_json(report), allow_nan=False))
    assert [one["recovery_s"] for one in read["faults"]] == [3.0, None]
    assert read["wrong"] == report.wrong()
    suite = ET.fromstring(written.as_junit(report))
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    assert [case.get("name") for case in suite] == [
        "kill a worker",
        "kill a worker",
        "the whole",
        "skew a worker's clock",
    ]
    assert [len(case) for case in suite] == [0, 1, 1, 1]


def test_no_two_faults_have_one_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
