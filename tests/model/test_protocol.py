"""The delivery protocol under random schedules and faults: whole, nothing breaks; without any one rule, something does."""

from __future__ import annotations

import pytest

from tests.model.faults import FAULTS, Trouble
from tests.model.rules import NAMES, Rules
from tests.model.run import search

QUIET = Trouble(())
ALL_AT_ONCE = Trouble(tuple(FAULTS), most=6, events=8, clocks=2)
TROUBLES = {
    "nothing goes wrong": QUIET,
    "one worker": Trouble(("double", "flush"), workers=1, events=12),
    "messages": Trouble(("flush", "double"), clocks=2),
    "kill": Trouble(("kill", "flush", "double"), cancels=4),
    "stop": Trouble(("stop", "zombie"), events=12, cancels=4, clocks=2),
    "cut off": Trouble(("cut_off", "stop"), clocks=2),
    "crash": Trouble(("crash",), events=12, cancels=4),
    "lost replies": Trouble(("lose_reply", "double"), most=5),
    "everything": ALL_AT_ONCE,
}
#: What to leave out, and the trouble that shows it. Some rules stand in for each other: those go together.
NEEDED: dict[tuple[str, ...], Trouble] = {
    ("resend_deliveries",): Trouble(("flush",), most=5),
    ("resend_lanes",): Trouble(("flush",), most=5),
    ("reconcile",): Trouble(("lose_reply",)),
    ("give_back_orphans",): Trouble(("zombie",), events=20, cancels=0, clocks=2),
    ("lock_before_release",): QUIET,
    ("ring",): QUIET,
    ("remember_claims",): Trouble(("double",), most=6, events=12, cancels=0, workers=1),
    ("fence_on_record", "owner_on_return"): Trouble(("stop", "zombie"), most=5, events=12, clocks=2),
    ("owner_on_return",): Trouble(("crash", "lose_reply"), most=5, events=16, cancels=0, clocks=2),
    ("generation",): Trouble(("stop",), most=5, events=12, cancels=0, clocks=2),
    ("fresh_beat",): Trouble(("stop",), events=12, cancels=6, clocks=2),
    ("take_owns",): QUIET,
    ("put_back_unread",): Trouble(("crash",)),
    ("forget_failed_take",): Trouble(("lose_reply",), most=5),
    ("idle_timeout",): Trouble(("cut_off",), clocks=2),
    ("patient_hint",): Trouble((), workers=1),
}
RUNS = 35
RUNS_UNTIL_CAUGHT = 400


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
def test_nothing_is_lost_stuck_doubled_or_sent_after_its_cancellation(trouble: Trouble) -> None:
    broken = search(Rules(), trouble, seeds=range(RUNS))
    assert broken is None, str(broken)


@pytest.mark.parametrize("left_out", NEEDED, ids="+".join)
def test_every_rule_is_needed(left_out: tuple[str, ...]) -> None:
    assert search(Rules().without(*left_out), NEEDED[left_out], seeds=range(RUNS_UNTIL_CAUGHT)) is not None


def test_the_model_has_no_rule_that_is_not_shown_to_be_needed() -> None:
    assert {name for left_out in NEEDED for name in left_out} == set(NAMES)


def test_a_run_is_decided_by_its_seed() -> None:
    twice = [search(Rules().without("ring"), QUIET, seeds=range(20)) for _ in range(2)]
    assert twice[0] is not None
    assert twice[0] == twice[1]
