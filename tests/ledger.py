"""The ledger for tests of everything else: whatever was done to the system, all must fit together at the end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from relay.db import Database
from relay.verify.findings import Check, Found
from relay.verify.ledger import sweep


async def offenders(db: Database, *, since: timedelta = timedelta(hours=1)) -> dict[Check, Found]:
    """What `relay verify` finds, by check; empty when all fits."""
    total: dict[Check, Found] = {}
    async for one in sweep(db, since=datetime.now(UTC) - since, keep_days=30):
        total[one.check] = total[one.check] + one if one.check in total else one
    return {check: one for check, one in total.items() if one.count}
