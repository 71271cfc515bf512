"""Upkeep: chores of the leading clock that no delivery waits for. The ledger is kept, and what is too old goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from relay import metrics
from relay.chores import Aside, Chore
from relay.db import Database
from relay.delivery import retention
from relay.insight import rollups
from relay.intake import producers
from relay.tenancy import audit
from relay.verify.findings import Found
from relay.verify.ledger import sweep

SWEEP_EVERY_S = 60.0
SWEPT = timedelta(hours=3)
#: The clock waits for each statement.
_STATEMENT_S = 0.1
_LOG = logging.getLogger(__name__)


class Upkeep:
    """One per worker process; only the leader's is asked to do anything."""

    def __init__(self, db: Database, *, retention_days: int, audit_days: int = 365) -> None:
        self._db = db
        self._retention_days = retention_days
        self._audit_days = audit_days
        self._sweep: AsyncIterator[Found] | None = None
        self._found = 0
        self._sweep_at = 0.0

    def chores(self) -> list[Chore | Aside]:
        """What the clock is to do, and how often."""
        return [
            Chore(self.account, every_s=1.0),
            Chore(self.expire, every_s=10.0),
            Chore(self.forget, every_s=60.0),
            Chore(self.forget_audit, every_s=600.0),
            Aside(self.roll_up, every_s=10.0),
            Aside(self.close_rollups, every_s=600.0),
        ]

    async def forget_audit(self) -> None:
        """Remove the oldest entries of the audit log whose time is over."""
        async with self._db.transaction() as conn:
            await audit.forget(conn, keep_days=self._audit_days)

    async def roll_up(self) -> None:
        """Set the last minutes of analytics."""
        async with self._db.connection() as conn:
            await rollups.refresh(conn)

    async def close_rollups(self) -> None:
        """Set the hours and days of analytics that are over."""
        async with self._db.connection() as conn:
            await rollups.close(conn)

    async def account(self) -> None:
        """Take one step of the ledger's walk over the last hours; the last one sets `relay_unaccounted_events`.

        A walk begins every 60 s. A step is one statement, so that the clock is never away for long.
        """
        loop = asyncio.get_running_loop()
        if self._sweep is None:
            if loop.time() < self._sweep_at:
                return
            since = datetime.now(UTC) - SWEPT
            self._sweep = sweep(self._db, since=since, keep_days=self._retention_days, statement_s=_STATEMENT_S)
            self._found, self._sweep_at = 0, loop.time() + SWEEP_EVERY_S
        try:
            found = await anext(self._sweep, None)
        except BaseException:
            self._sweep = None
            raise
        if found is not None:
            self._found += found.count
            return
        self._sweep = None
        metrics.UNACCOUNTED.set(self._found)
        if self._found:
            _LOG.error("%d records do not fit together; `relay verify` names them", self._found)

    async def expire(self) -> None:
        """End what has waited for too long."""
        async with self._db.transaction() as conn:
            count = await retention.expire(conn, keep_days=self._retention_days)
        if count:
            metrics.DELIVERIES.labels("dead", "expired").inc(count)
            days = self._retention_days + retention.GRACE_DAYS
            _LOG.warning("%d deliveries have waited for %d days and are dead: expired", count, days)

    async def forget(self) -> None:
        """Remove lanes that nobody uses, dead letters of what is kept no longer, and old refusals."""
        async with self._db.transaction() as conn:
            await retention.forget_idle_lanes(conn, keep_days=self._retention_days)
        async with self._db.connection() as conn:
            await retention.forget_dead_letters(conn, keep_days=self._retention_days)
            await producers.forget_refused(conn, keep_days=self._retention_days)
