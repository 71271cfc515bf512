"""What a process says of the stores."""

from __future__ import annotations

from relay import metrics
from relay.db import Conn
from relay.settings import Settings
from relay.vitals import Vitals
from tests.delivery.crew import open_crew


async def test_postgres_is_up_when_it_answers_whatever_its_schema(settings: Settings, conn: Conn) -> None:
    async with open_crew(settings) as crew, conn.transaction():
        await conn.execute("LOCK TABLE schema_migrations")  # as a restore does
        metrics.POSTGRES_UP.set(0)
        await Vitals(settings, crew.db, crew.queue)._look()
    assert b"\nrelay_postgres_up 1.0\n" in metrics.render()
