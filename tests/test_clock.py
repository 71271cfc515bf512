"""What the clock sees at a tick."""

from __future__ import annotations

from relay.clock import _look
from relay.db import Conn
from relay.ids import Uuid7
from relay.intake.accept import Candidate, NewEvent, store


async def test_the_very_first_event_of_a_system_is_seen_to_move(conn: Conn) -> None:
    before = (await _look(conn)).newest_n
    ids = Uuid7()
    await store(conn, [Candidate(ids(), NewEvent(ids(), b"{}", "order.paid"))], lock_timeout_ms=250)
    await conn.execute("DELETE FROM outbox")
    assert (await _look(conn)).newest_n != before
