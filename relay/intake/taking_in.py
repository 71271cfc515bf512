"""Takes in what `relay.send_event` was called for: by looking often, in the process whose clock leads.

Nobody notifies: a NOTIFY would make every commit of the calling application wait its turn behind all others (decision
0015), and would not pass a pooler. Where nobody ever called the function the look is one a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from psycopg.errors import LockNotAvailable

from relay import metrics
from relay.catalog.type_rules import REFRESH_S, TypeRules
from relay.db import LOST, REPEATABLE, SPLITTABLE, Database
from relay.errors import Invalid, RelayError
from relay.intake import producers
from relay.intake.accept import NewEvent
from relay.intake.outbox import Hints
from relay.intake.producers import Batch, Row, Settled
from relay.queue import UNREACHABLE

POLL_S = 0.025
_UNUSED_S = 1.0
_ELSEWHERE_S = 0.2
_AGAIN_S = 0.5
#: What looking may take of the time, at most: one part in so many. A look is long when old snapshots keep dead rows.
_REST = 10
#: The hints are forgotten that often, for rows that somebody put back by hand.
_FORGET_S = 5.0
_LOG = logging.getLogger(__name__)


class TakingIn:
    """One per worker process; `run` never ends by itself, whatever fails. Two at once are one after the other."""

    def __init__(
        self,
        db: Database,
        *,
        leads: Callable[[], bool],
        ring: Callable[[Sequence[int]], Awaitable[None]],
        max_payload_bytes: int,
    ) -> None:
        """`ring` asks for a fan-out of outbox shards after a commit; the clock would do it a little later."""
        self._db = db
        self._leads = leads
        self._ring = ring
        self._max_payload_bytes = max_payload_bytes
        self._types = TypeRules(db)
        self._types_until = 0.0
        self._hints = Hints()
        self._forget_at = 0.0
        self._limit = producers.MAX_ROWS
        self._used = False

    async def run(self) -> None:
        """Look for ever."""
        while True:
            pause_s = _AGAIN_S
            try:
                pause_s = await self._turn()
            except REPEATABLE as cause:
                _LOG.info("events from SQL are taken in again: %s", cause)
            except LOST as cause:
                _LOG.warning("events from SQL wait: %s", cause)
            except Exception:
                _LOG.exception("events from SQL wait")
            await asyncio.sleep(pause_s)

    async def _turn(self) -> float:
        """Do what there is to do; return how long to wait before the next turn."""
        if not self._leads():
            return _ELSEWHERE_S
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began >= self._forget_at:
            self._hints.forget([0])
            self._forget_at = began + _FORGET_S
        async with self._db.connection() as conn:
            self._used = self._used or await producers.ever_called(conn)
            if not self._used:
                return _UNUSED_S
            found = await producers.waits(conn, self._hints)
        took_s = loop.time() - began
        while found and self._leads():
            found = await self.take_in()
        return max(POLL_S, _REST * took_s)

    async def take_in(self) -> bool:
        """Take in one batch; False when there is nothing for now.

        A batch that cannot be stored is halved until the row at fault stands alone; that one is set aside, visibly.
        """
        limit = self._limit
        await self._refresh_types()
        async with self._db.connection() as conn:
            batch = await producers.read(
                conn, hints=self._hints, limit=limit, max_payload_bytes=self._max_payload_bytes
            )
        events = {row.n: await self._event(row) for row in batch.rows}
        try:
            settled = await self._settle(batch, events)
        except REPEATABLE:
            return True
        except SPLITTABLE as cause:
            return await self._split(batch, cause, limit=limit)
        self._limit = min(producers.MAX_ROWS, limit * 2)
        producers.learn(self._hints, batch, settled)
        await self._tell(batch, settled)
        return bool(settled.stored or settled.repeated or settled.refused)

    async def _settle(self, batch: Batch, events: Mapping[int, NewEvent | RelayError]) -> Settled:
        """Store what is still there, unless somebody else is at it."""
        async with self._db.transaction() as conn:
            ids = await producers.claim(conn, batch.rows)
            with metrics.DATABASE_SECONDS.labels("accept").time():
                return await producers.settle(conn, {n: events[n] for n in ids}, ids)

    async def _split(self, batch: Batch, cause: Exception, *, limit: int) -> bool:
        if limit > 1:
            self._limit = limit // 2
            return True
        if isinstance(cause, LockNotAvailable) or not batch.rows:
            return False  # the key is somebody's who will not have it for long
        row = batch.rows[0]
        refusal = Invalid(f"It holds something that cannot be stored: {str(cause).splitlines()[0]}")
        async with self._db.connection() as conn:
            await producers.set_aside(conn, {row.n: refusal})
        self._log_refused(row, refusal)
        return True

    async def _event(self, row: Row) -> NewEvent | RelayError:
        try:
            rule = self._types.check(row.tenant_id, row.type)
            event = row.to_event(max_payload_bytes=self._max_payload_bytes)
            if rule is not None:
                await self._types.fit(rule, row.type, event.payload, is_json=row.is_json)
            return event
        except Invalid as error:
            return error

    async def _refresh_types(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._types_until:
            await self._types.refresh()
            self._types_until = now + REFRESH_S

    async def _tell(self, batch: Batch, settled: Settled) -> None:
        if settled.shards:
            with suppress(*UNREACHABLE):
                await self._ring(sorted(settled.shards))
        if settled.stored:
            metrics.BATCHES.inc()
            metrics.BATCH_SIZE.labels("accept").observe(settled.stored)
            metrics.EVENTS.inc(settled.stored)
        metrics.REPEATED.inc(settled.repeated)
        for row in batch.rows:
            if error := settled.refused.get(row.n):
                self._log_refused(row, error)

    def _log_refused(self, row: Row, error: RelayError) -> None:
        metrics.REFUSED.labels(error.code.lower()).inc()
        extra = {"tenant_id": row.tenant_id, "event_id": row.id}
        _LOG.warning("event %s from SQL is refused and set aside: %s", row.id, error, extra=extra)
