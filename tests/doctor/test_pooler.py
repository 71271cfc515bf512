"""PgBouncer in between, in each of its modes, and TLS: what only Debian's programs can show."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import trustme

from relay.processes import Command, spawn_options
from relay.settings import Settings
from relay.up.development import free_port
from relay.up.embedded import postgres_refusal
from tests.doctor.asking import ask, fails, passes, warns
from tests.doctor.waiting import until

pytestmark = pytest.mark.system

PGBOUNCER = "/usr/sbin/pgbouncer"
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def somebody() -> tuple[int, int] | None:
    """Whom root runs a server as that refuses to run as root."""
    nobody = pwd.getpwnam("nobody")
    return (nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that belongs to whom the servers run as."""
    path = Path(tempfile.mkdtemp(prefix="relay-doctor-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def running(argv: tuple[str, ...], url: str, folder: Path) -> Iterator[None]:
    """Run a server until the end of the block; it answers at this URL."""
    run_as = somebody()
    for path in (folder, *folder.rglob("*")):
        if run_as:
            os.chown(path, *run_as)
    options = spawn_options(Command("server", argv, folder, ENVIRONMENT, run_as=run_as))
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        until(lambda: postgres_refusal(url) is None or process.poll() is not None)
        assert process.poll() is None
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def pgbouncer(database_url: str, folder: Path, mode: str) -> Iterator[str]:
    """Run a PgBouncer in this mode before a database."""
    target, port = urlsplit(database_url), free_port()
    login = f"user={target.username} password={target.password or ''}"
    lines = [
        "[databases]",
        f"relay = host={target.hostname} port={target.port} dbname={target.path[1:]} {login}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = any",
        f"pool_mode = {mode}",
        "default_pool_size = 8",
    ]
    (folder / "pgbouncer.ini").write_text("\n".join(lines))
    url = f"postgresql://relay@127.0.0.1:{port}/relay"
    with running((PGBOUNCER, str(folder / "pgbouncer.ini")), url, folder):
        yield url


async def test_a_pooler_in_transaction_mode_has_to_be_named(
    settings: Settings, database_url: str, folder: Path
) -> None:
    with pgbouncer(database_url, folder, "transaction") as url:
        behind = settings.model_copy(update={"database_url": url})
        found = await ask(behind, "postgres")
        fails(found, "pgbouncer", saying="in transaction mode stands between and DATABASE_PGBOUNCER is false")
        fails(found, "database-tls", saying="The way to the proxy is in the clear")
        warns(found, "max-connections", saying="not seen")
        found = await ask(behind.model_copy(update={"database_pgbouncer": True}), "postgres")
        passes(found, "pgbouncer", saying="in transaction mode")
        passes(found, "schema")


async def test_other_modes_of_a_pooler_do_not_pass(settings: Settings, database_url: str, folder: Path) -> None:
    with pgbouncer(database_url, folder, "session") as url:
        behind = settings.model_copy(update={"database_url": url, "database_pgbouncer": True})
        warns(await ask(behind, "postgres"), "pgbouncer", saying="session mode")
    with pgbouncer(database_url, folder, "statement") as url:
        behind = settings.model_copy(update={"database_url": url, "database_pgbouncer": True})
        fails(await ask(behind, "postgres"), "pgbouncer", saying="statement mode")


@pytest.fixture
def with_tls(folder: Path) -> Iterator[str]:
    """A Postgres 15 with a certificate; the URL verifies it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    run_as, port = somebody(), free_port()
    if run_as:
        os.chown(folder, *run_as)
    initdb = (str(POSTGRES_15 / "initdb"), "-D", str(folder / "data"), "-U", "relay", "--auth=trust", "--no-sync")
    options = spawn_options(Command("initdb", initdb, folder, ENVIRONMENT, run_as=run_as))
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **options)
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (folder / "server.pem").chmod(0o600)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    lines = {"port": port, "listen_addresses": "'127.0.0.1'", "unix_socket_directories": f"'{folder}'", "ssl": "on",
             "ssl_cert_file": f"'{folder}/server.pem'", "ssl_key_file": f"'{folder}/server.pem'", "fsync": "off"}  # fmt: skip
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = {value}\n" for name, value in lines.items())
    url = f"postgresql://relay@127.0.0.1:{port}/postgres"
    argv = (str(POSTGRES_15 / "postgres"), "-D", str(folder / "data"))
    with running(argv, url, folder):
        yield f"{url}?sslmode=verify-full&sslrootcert={folder}/authority.pem"


async def test_a_connection_that_must_be_encrypted_passes(settings: Settings, with_tls: str, folder: Path) -> None:
    found = await ask(settings.model_copy(update={"database_url": with_tls}), "postgres")
    passes(found, "database-tls", saying="This connection is encrypted; sslmode is verify-full")
    passes(found, "postgres-version", saying="version 15")
    may_be_clear = with_tls.partition("?")[0]
    found = await ask(settings.model_copy(update={"database_url": may_be_clear}), "postgres")
    fails(found, "database-tls", saying="This connection is encrypted; sslmode is prefer")
    by_socket = f"postgresql://relay@/postgres?host={folder}&port={urlsplit(with_tls).port}"
    with psycopg.connect(by_socket):
        found = await ask(settings.model_copy(update={"database_url": by_socket}), "postgres")
    passes(found, "database-tls", saying="Unix socket")
