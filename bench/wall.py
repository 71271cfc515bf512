"""What row-level security would cost: a page of one client's rows, read as Relay reads it and behind a policy."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import psycopg

from bench.load import Bench, Measured

_ROUNDS = 5
_CLIENTS = 100
_CLIENT = uuid.uuid5(uuid.NAMESPACE_OID, "7")
_PAGE = b"SELECT id, body FROM bench_wall WHERE tenant_id = %s ORDER BY id DESC LIMIT 20"
_MAKE = b"""CREATE ROLE relay_bench_wall; GRANT relay_bench_wall TO CURRENT_USER;
    CREATE TABLE bench_wall (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, body text NOT NULL);
    GRANT SELECT ON bench_wall TO relay_bench_wall;
    ALTER TABLE bench_wall ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON bench_wall TO relay_bench_wall USING (tenant_id = current_setting('relay.tenant')::uuid)"""
_FILL = b"""INSERT INTO bench_wall
    SELECT gen_random_uuid(), (%s::uuid[])[1 + i %% %s], repeat('x', 200) FROM generate_series(1, %s) AS i"""
_INDEX = b"CREATE INDEX ON bench_wall (tenant_id, id); ANALYZE bench_wall"
_DROP = b"DROP TABLE bench_wall; DROP ROLE relay_bench_wall"


@dataclass(frozen=True, slots=True)
class _Reader:
    conn: psycopg.Connection

    def plain(self) -> None:
        """Read a page with the client in the statement's own condition."""
        self.conn.execute(_PAGE, (_CLIENT,)).fetchall()

    def walled(self) -> None:
        """Read the same in a transaction that takes the client's role first, all of it in one round trip."""
        with self.conn.pipeline():
            self.conn.execute(b"BEGIN")
            self.conn.execute(
                b"SELECT set_config('role', 'relay_bench_wall', true), set_config('relay.tenant', %s, true)",
                (str(_CLIENT),),
            )
            page = self.conn.execute(_PAGE, (_CLIENT,))
            self.conn.execute(b"COMMIT")
            page.fetchall()

    def cpu_us(self, read: Callable[[], None], *, times: int) -> float:
        """CPU of both sides for one read, in µs, over so many of them."""
        sides = psutil.Process(), psutil.Process(self.conn.info.backend_pid)
        before = sum(sum(side.cpu_times()[:2]) for side in sides)
        for _ in range(times):
            read()
        return 1e6 * (sum(sum(side.cpu_times()[:2]) for side in sides) - before) / times


def wall(bench: Bench) -> list[Measured]:
    """Medians of rounds in turns."""
    figures: dict[str, float] = {}
    if bench.system.database_url:
        times = bench.sizes.reads
        with _table(bench.system.database_url, rows=bench.sizes.rows) as reader:
            rounds = [
                (reader.cpu_us(reader.plain, times=times), reader.cpu_us(reader.walled, times=times))
                for _ in range(_ROUNDS)
            ]
        plain, walled = (statistics.median(one[which] for one in rounds) for which in (0, 1))
        figures = {"plain_us": plain, "walled_us": walled, "walled_to_plain": walled / plain if plain else 0.0}
    return [Measured("wall: a page of a client's rows, without and with row-level security", None, figures=figures)]


@contextmanager
def _table(database_url: str, *, rows: int) -> Iterator[_Reader]:
    clients = [_CLIENT, *(uuid.uuid4() for _ in range(_CLIENTS - 1))]
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(_MAKE)
        try:
            conn.execute(_FILL, (clients, _CLIENTS, rows))
            conn.execute(_INDEX)
            yield _Reader(conn)
        finally:
            conn.execute(_DROP)
