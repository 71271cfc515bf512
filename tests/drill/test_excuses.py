"""Which repeats a drill forgives: those of what a process that died was sending, once, whenever they come."""

from __future__ import annotations

from relay.drill.ledger import Repeat
from relay.drill.run import Excuses

PATH = "/first"


def test_what_was_sent_while_a_process_died_may_come_again_once_and_late() -> None:
    excuses = Excuses()
    excuses.add(since=9.0, until=10.0)
    excuses.add(since=50.0, until=55.0)
    assert excuses.refused([Repeat(PATH, 1, first_at=9.5, at=21.0), Repeat(PATH, 2, first_at=54.0, at=80.0)]) == 0
    assert excuses.refused([Repeat(PATH, 1, first_at=9.5, at=30.0)]) == 1


def test_what_was_sent_at_any_other_time_may_not() -> None:
    excuses = Excuses()
    excuses.add(since=9.0, until=10.0)
    assert excuses.refused([Repeat(PATH, n, first_at=at, at=60.0) for n, at in enumerate((8.0, 10.5, 40.0))]) == 3
