"""The delivery protocol under random schedules and faults: whole, nothing breaks; without any one rule, something does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.faults import FAULTS, ORDERED, Trouble
from tests.model.rows import BLOCKING
from tests.model.rules import NAMES, Rules
from tests.model.run import search

QUIET = Trouble(())
HEADS = Trouble((), lanes=(("f", "fifo:1"), ("f", "fifo:2")), events=16, cancels=0)
BLOCKED = Trouble((), lanes=((BLOCKING, "fifo:1"), (BLOCKING, "fifo:2")), events=20, cancels=0, outages=5)
NEW_LANES = Trouble(
    (), lanes=tuple(("f", f"fifo:{key}") for key in range(12)), events=20, cancels=0, pauses=8, clocks=2
)
PAUSES = Trouble((), events=20, cancels=0, pauses=8)
OUTAGES = Trouble((), events=20, cancels=0, outages=6)
ORDER = Trouble((), lanes=ORDERED, events=12, pauses=2, releases=4, outages=2)
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
    "order": ORDER,
    "order, messages and workers": replace(ORDER, faults=("kill", "stop", "zombie", "flush", "double"), clocks=2),
    "order, crash": replace(ORDER, faults=("crash", "lose_reply"), most=5),
    "order, everything": replace(ORDER, faults=tuple(FAULTS), most=6, clocks=2),
    "dead heads": BLOCKED,
    "new lanes": replace(NEW_LANES, outages=4),
    "gates": Trouble((), events=16, pauses=4, outages=3, clocks=2),
    "gates, crash": Trouble(("crash", "lose_reply"), most=5, events=16, pauses=3, outages=3),
    "gates, everything": Trouble(tuple(FAULTS), most=6, events=16, pauses=3, outages=3, clocks=2),
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
    ("lane_counts_places",): HEADS,
    ("head_in_any_state",): HEADS,
    ("seat_before_take",): replace(HEADS, releases=8),
    ("heads_are_durable",): replace(HEADS, faults=("crash",), most=9),
    ("holder_waits_for_record", "record_rings_lane"): HEADS,
    ("release_looks_at_head",): HEADS,
    ("record_blocks_lane",): BLOCKED,
    ("take_refuses_blocked",): BLOCKED,
    ("claim_looks_at_gates",): OUTAGES,
    ("pause_takes_back",): PAUSES,
    ("pause_waits_for_claims",): PAUSES,
    ("gates_after_lock",): PAUSES,
    ("gates_put_to_sleep",): PAUSES,
    ("resume_rings",): PAUSES,
    ("rings_after_resume",): NEW_LANES,
    ("half_open_is_a_gate",): OUTAGES,
    ("one_probe",): OUTAGES,
    ("probe_expires",): replace(OUTAGES, faults=("kill",), most=5),
    ("close_rings",): OUTAGES,
    ("rings_after_close",): replace(NEW_LANES, pauses=0, outages=8, events=24),
    ("epochs",): OUTAGES,
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
