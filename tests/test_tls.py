"""TLS to Postgres: every connection is verified where the URL asks for it, and a wrong certificate is named as such."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import trustme

from relay import postgres
from relay.cli.verify import verify
from relay.db import Database
from relay.migrate import migrate
from relay.runtime import Web, Worker
from relay.settings import Settings
from tests.debian import debian_postgres
from tests.delivery.crew import rows
from tests.shop import open_shop

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)
ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@dataclass(frozen=True)
class Secured:
    """A Postgres that takes TLS only, a URL that trusts its authority, and one that trusts another."""

    url: str
    mistaken_url: str


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    place = tmp_path_factory.mktemp("authorities")
    right, wrong = trustme.CA(), trustme.CA()
    for name, authority in (("right.pem", right), ("wrong.pem", wrong)):
        authority.cert_pem.write_to_path(place / name)

    def equip(data: Path) -> None:
        issued = right.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(data / "server.key")
        (data / "server.key").chmod(0o600)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(data / "server.crt", append=True)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")

    query = f"?sslmode=verify-full&sslrootcert={place}"
    with debian_postgres({"ssl": "on"}, equip=equip, query=f"{query}/right.pem") as url:
        migrate(url)
        yield Secured(url, url.replace("right.pem", "wrong.pem"))


@pytest.mark.system
async def test_every_connection_of_relay_is_encrypted_and_verified(settings: Settings, secured: Secured) -> None:
    settings = settings.model_copy(update={"database_url": secured.url})
    with postgres.connect(secured.url) as conn:
        assert conn.execute(ENCRYPTED).fetchone() == (True,)
    async with open_shop(settings) as shop:
        assert (await shop.web.health())["postgres"] == "up"
        assert len(await shop.send(3)) == 3
        async with shop.web.db.connection() as own:
            assert await rows(own, ENCRYPTED) == [(True,)]
    worker = Worker(settings)
    await worker.open()
    await worker.beats.beat()
    worker._maintain_partitions()
    for db in (worker.db, worker._beat_db):
        async with db.connection() as own:
            assert await rows(own, ENCRYPTED) == [(True,)]
    await worker.stop()
    assert not [found for found in (await verify(settings, since=LONG_AGO)).values() if found.count]


@pytest.mark.system
async def test_a_certificate_of_another_authority_is_named_in_the_log(
    settings: Settings, secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        migrate(secured.mistaken_url)
    web = Web(settings.model_copy(update={"database_url": secured.mistaken_url}))
    web.db._pool.timeout = 1.0
    await web.open()
    await web.health()
    await web.close()
    assert "certificate verify failed" in _said_by_relay(caplog)


async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(settings: Settings) -> None:
    required = f"{settings.database_url}?sslmode=require"
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL, but SSL was required"):
        migrate(required)
    db = Database(settings.model_copy(update={"database_url": required}))
    db._pool.timeout = 0.5
    await db.open()
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL, but SSL was required") as caught:
        await _use(db)
    assert "\n" not in str(caught.value)
    await db.close()


def _said_by_relay(caplog: pytest.LogCaptureFixture) -> str:
    """What the log of a process shows: the pool's own lines are kept out of it."""
    return "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("relay"))


async def _use(db: Database) -> None:
    async with db.connection():
        pass
