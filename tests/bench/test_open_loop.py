"""At a fixed rate requests leave when they are due, whatever was answered to those before."""

from __future__ import annotations

from dataclasses import replace

from bench.programs import generated, receiving
from bench.self_test import direct_plan


def test_slow_answers_do_not_hold_up_what_is_due_and_lateness_is_told() -> None:
    with receiving() as receiver:
        slow = replace(direct_plan(receiver, count=40), path="/e/0?after_ms=400", clients=1, rate=200)
        made, closed = generated(slow), generated(direct_plan(receiver, count=20))
    sent, answered = sorted(made.sent.sent_ns), sorted(made.sent.answered_ns)
    assert len(sent) == sum(made.sent.accepted) == 40
    # In a closed loop of one connection a request follows the answer to the last: never two at a time.
    assert sent[-1] < answered[10]
    assert sent[-1] - sent[0] > 150e6
    assert 0 <= made.late["late_ms.p99"] <= made.late["late_ms.max"]
    assert closed.late == {}
