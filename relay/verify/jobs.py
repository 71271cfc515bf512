"""Jobs against the deliveries that carry their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from relay.db import Conn
from relay.verify.findings import LISTED, Check, Chunk, Found, Offender, found


async def added_up(conn: Conn, since: datetime) -> Found:
    """Every item of a job that is done was done, skipped or failed."""
    rows = await conn.execute(
        """SELECT id, done, skipped, failed, total, count(*) OVER () FROM jobs
           WHERE status = 'done' AND NOT dry_run AND finished_at >= %s AND done + skipped + failed IS DISTINCT FROM total
           ORDER BY id LIMIT %s""",
        (since, LISTED),
        prepare=False,
    )
    return found(Check.JOB, await rows.fetchall(), _wrong_total)


def _wrong_total(id: UUID, done: int, skipped: int, failed: int, total: int | None) -> Offender:
    parts = f"{done} done, {skipped} skipped, {failed} failed"
    return Offender((str(id),), f"Job {id} is done, but {parts} are not its total of {total}.")


async def done(conn: Conn, *, since: datetime, oldest: datetime) -> dict[UUID, int]:
    """How many deliveries each job made that ended after `since` or not at all; all of them still kept, from `oldest` on."""
    rows = await conn.execute(
        """SELECT id, done FROM jobs WHERE kind IN ('replay', 'backfill') AND NOT dry_run
             AND created_at >= %s AND (finished_at IS NULL OR finished_at >= %s)""",
        (oldest, since),
        prepare=False,
    )
    return {row[0]: row[1] async for row in rows}


class Tally:
    """Counts, chunk by chunk, the deliveries that carry a job's number. `said`: how many each job had made before."""

    def __init__(self, said: Mapping[UUID, int]) -> None:
        self._said = said
        self._counted = Counter[UUID]()

    async def count(self, conn: Conn, chunk: Chunk) -> Found:
        """Count those of a chunk, wherever they are now; this alone finds nothing."""
        rows = await conn.execute(
            """SELECT job_id, count(*) FROM (
                   SELECT job_id FROM live WHERE id > %(after)s AND id <= %(upto)s AND job_id = ANY(%(jobs)s::uuid[])
                   UNION ALL
                   SELECT job_id FROM history WHERE id > %(after)s AND id <= %(upto)s AND job_id = ANY(%(jobs)s::uuid[])) d
               GROUP BY 1""",
            {**chunk.parameters(), "jobs": list(self._said)},
            prepare=False,
        )
        self._counted.update({row[0]: row[1] async for row in rows})
        return found(Check.JOB, [], _miscounted)

    def compare(self, say: Mapping[UUID, int]) -> Found:
        """A job made as many deliveries as it says, or, for it goes on meanwhile, as it said before up to what it says now."""
        wrong = [
            (id, said, self._counted[id])
            for id, said in self._said.items()
            if not said <= self._counted[id] <= max(said, say.get(id, said))
        ]
        return found(Check.JOB, [(*row, len(wrong)) for row in wrong[:LISTED]], _miscounted)


def _miscounted(id: UUID, said: int, counted: int) -> Offender:
    return Offender((str(id),), f"Job {id} says that it made {said} deliveries, but {counted} carry its number.")
