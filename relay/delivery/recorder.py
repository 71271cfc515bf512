"""The recorder of a worker process: gathers outcomes for at most 3 ms and writes them in batches, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Protocol
from uuid import UUID

from relay import metrics
from relay.db import LOST, Conn, Database, transaction, write_all
from relay.delivery import attempt_log
from relay.delivery.holdings import Holdings
from relay.delivery.live import Claimed, put_back
from relay.delivery.outcomes import Dead, Reason
from relay.delivery.record import Attempt, Recorded, move_heads, record

MAX_ROWS = 200
MAX_KEPT = 10_000
# Answers in memory, about: beyond half of it backlogs wait, beyond all of it everything does.
MAX_KEPT_BYTES = 8 << 20
MAX_BATCH_BYTES = 1 << 20
_GATHER_S = 0.003
_LOG = logging.getLogger(__name__)


class NextStep(Protocol):
    """What follows recorded heads of FIFO lanes (`relay.delivery.following`)."""

    async def lock(self, conn: Conn) -> None:
        """Lock their lanes, before anything else is locked."""
        ...

    async def take(self, conn: Conn) -> set[tuple[UUID, int]]:
        """Take the next heads; return the recorded ones that these follow."""
        ...

    def give_up(self) -> None:
        """Leave it to the holders to take what follows."""
        ...

    def undo(self) -> None:
        """Forget what was taken."""
        ...

    def send(self) -> set[tuple[UUID, int]]:
        """Send what was taken; return the recorded heads whose holders need not hear of their record."""
        ...


class Recorder:
    """Outcomes go in by plain calls; what Postgres cannot take now is kept and repeated: the fence makes that safe."""

    def __init__(
        self,
        db: Database,
        holdings: Holdings,
        *,
        on_dead: Callable[[list[UUID]], None],
        on_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """After the commit `on_dead` hears of deliveries that died, and `on_waiting` that some were put back.

        Those of `on_recorded` hear of each batch of outcomes. None of them may wait. `on_end`, which may be set later,
        is waited for once the last is recorded.
        """
        self.on_recorded: list[Callable[[Sequence[Recorded]], None]] = [attempt_log.tell]
        self.on_end: Callable[[], Awaitable[None]] | None = None
        #: What is to follow recorded heads of FIFO lanes; None: nobody wants anything.
        self.next_step: Callable[[Sequence[Recorded]], NextStep | None] | None = None
        self._on_waiting = on_waiting
        self._db = db
        self._holdings = holdings
        self._on_dead = on_dead
        #: What is kept, each with its size: answers are sized once.
        self._outcomes: dict[tuple[UUID, int], tuple[Recorded, int]] = {}
        self._bytes = 0
        self._returns: dict[tuple[UUID, int], Claimed] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._urgent = asyncio.Event()
        self._followed: set[tuple[UUID, int]] = set()

    @property
    def full(self) -> bool:
        """True while so many outcomes are kept that nothing more may be sent."""
        return len(self._outcomes) >= MAX_KEPT or self._bytes >= MAX_KEPT_BYTES

    @property
    def behind(self) -> bool:
        """True while half of that is kept, so that backlogs should wait and what is new need not."""
        return len(self._outcomes) >= MAX_KEPT // 2 or self._bytes >= MAX_KEPT_BYTES // 2

    def add(self, outcome: Recorded) -> None:
        """Record this outcome soon, and at once what holds up its lane; of two for the same fence the first counts."""
        key = (outcome.delivery.id, outcome.delivery.fence)
        if key not in self._outcomes:
            size = _size(outcome)
            self._outcomes[key] = outcome, size
            self._bytes += size
        if outcome.delivery.seq is not None:
            self._urgent.set()
        self._flush_soon()

    def put_back(self, claimed: Sequence[Claimed]) -> None:
        """Return these deliveries, none of which was sent, to their lanes soon."""
        self._returns.update({(one.id, one.fence): one for one in claimed})
        self._flush_soon()

    async def flush(self) -> None:
        """Wait until all that is kept is written."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def end(self) -> None:
        """Wait until all that is kept is written, and who hears of it is done with it."""
        await self.flush()
        if self.on_end is not None:
            await self.on_end()

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    await self._urgent.wait()
            while self._outcomes or self._returns:
                await self._write_returns()
                await self._write_outcomes()
        finally:
            self._flushing = None

    async def _write_returns(self) -> None:
        returns, self._returns = sorted(self._returns.values(), key=lambda one: one.id), {}
        if returns:
            await write_all(self._db, returns, put_back, hopeless=self._cannot_return)
            self._holdings.forget((one.id, one.fence) for one in returns)
            self._on_waiting()

    async def _write_outcomes(self) -> None:
        self._urgent.clear()
        keys = self._next_batch()
        batch = sorted((self._outcomes[key][0] for key in keys), key=lambda one: one.delivery.id)
        if batch:
            await write_all(self._db, batch, self._record, hopeless=self._record_without_answer)
            written = {key: self._outcomes.pop(key) for key in keys}
            self._bytes -= sum(size for _, size in written.values())
            self._holdings.forget(keys)
            for key, (one, _) in written.items():
                if key not in self._followed:
                    one.done()
            self._followed.clear()

    def _next_batch(self) -> list[tuple[UUID, int]]:
        """The oldest, as many as one statement should carry: at least one, if there is any."""
        keys: list[tuple[UUID, int]] = []
        left = MAX_BATCH_BYTES
        for key, (_, size) in islice(self._outcomes.items(), MAX_ROWS):
            if left <= 0:
                break
            left -= size
            keys.append(key)
        return keys

    async def _record(self, conn: Conn, batch: Sequence[Recorded]) -> None:
        ordered = [one for one in batch if one.delivery.seq is not None]
        with metrics.DATABASE_SECONDS.labels("record").time():
            dead = await self._record_ordered(conn, batch, ordered) if ordered else await record(conn, batch)
        metrics.BATCH_SIZE.labels("record").observe(len(batch))
        if dead:
            self._on_dead(dead)
        for hear in self.on_recorded:
            hear(batch)

    async def _record_ordered(self, conn: Conn, batch: Sequence[Recorded], ordered: Sequence[Recorded]) -> list[UUID]:
        """Record heads of FIFO lanes, and take the next ones in the same transaction, where somebody wants them.

        What keeps the next ones from being taken must not keep the last ones from being recorded.
        """
        step = self.next_step(ordered) if self.next_step else None
        try:
            return await self._record_and_follow(conn, batch, ordered, step)
        except LOST:
            raise
        except Exception as cause:
            if step is None:
                raise
            _LOG.warning("heads of lanes are recorded, and what follows them is not taken with them: %s", cause)
            step.give_up()
            await conn.rollback()
            return await self._record_and_follow(conn, batch, ordered, None)

    async def _record_and_follow(
        self, conn: Conn, batch: Sequence[Recorded], ordered: Sequence[Recorded], step: NextStep | None
    ) -> list[UUID]:
        try:
            async with transaction(conn):
                if step is not None:
                    await step.lock(conn)
                dead = await record(conn, batch)
                await _go_on(conn, ordered, dead, step)
        except BaseException:
            if step is not None:
                step.undo()
            raise
        if step is not None:
            self._followed |= step.send()
        return dead

    async def _record_without_answer(self, one: Recorded, cause: Exception) -> None:
        _LOG.error(
            "the answer to delivery %s cannot be stored, its outcome is: %s",
            one.delivery.id,
            cause,
            extra=one.delivery.ids,
        )
        url, total_ms = (one.attempt.url, one.attempt.total_ms) if one.attempt else ("", 0.0)
        bare = replace(
            one, attempt=Attempt(Reason.UNRECORDABLE, url, total_ms, one.attempt.status if one.attempt else None)
        )
        await write_all(self._db, [bare], self._record, hopeless=self._give_up)

    async def _give_up(self, one: Recorded, cause: Exception) -> None:
        dead = Recorded(one.delivery, Dead(Reason.UNRECORDABLE), None, event_type=one.event_type)
        await write_all(self._db, [dead], self._record, hopeless=self._cannot_record)

    async def _cannot_record(self, one: Recorded, cause: Exception) -> None:
        _LOG.error(
            "the outcome of delivery %s cannot be stored; it will be sent again: %s",
            one.delivery.id,
            cause,
            extra=one.delivery.ids,
        )

    async def _cannot_return(self, one: Claimed, cause: Exception) -> None:
        _LOG.error("delivery %s cannot be put back; the beat will try: %s", one.id, cause, extra=one.ids)


def _size(outcome: Recorded) -> int:
    """About how many bytes of an answer it keeps."""
    attempt = outcome.attempt
    if attempt is None:
        return 0
    headers = attempt.response_headers
    return len(attempt.body or b"") + (sum(map(len, headers.values())) if headers else 0)


async def _go_on(conn: Conn, ordered: Sequence[Recorded], dead: Sequence[UUID], step: NextStep | None) -> None:
    """Go on in the lanes of recorded heads: with the next head, or by a ring. A dead head may block its lane before."""
    last = [one for one in ordered if one.delivery.id in dead]
    if last:
        await move_heads(conn, last, dead)
    followed = await step.take(conn) if step is not None else set[tuple[UUID, int]]()
    rest = [
        one for one in ordered if one.delivery.id not in dead and (one.delivery.id, one.delivery.fence) not in followed
    ]
    if rest:
        await move_heads(conn, rest, dead)
