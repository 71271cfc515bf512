"""Every place in the code that can open a connection, by name: only the guarded transport goes where customers say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("relay", "api", "actors", "deploy")

# Modules that can connect by themselves. `socket` and `ssl` are in every server, psycopg and redis wherever a store's
# errors are known: what of these connects is in CALLS.
MODULES = (
    "aiohttp", "dns", "ftplib", "grpc", "http.client", "httpx", "imaplib", "nntplib", "poplib", "pycurl", "requests",
    "smtplib", "telnetlib", "urllib.request", "urllib3", "websockets", "xmlrpc",
)  # fmt: skip
# What connects, or sends to an address; those of the first line whatever object they are called on.
METHODS = ("connect", "connect_ex", "from_url", "sendto")
CALLS = (
    "AsyncConnectionPool", "ConnectionPool", "NullConnectionPool", "AsyncNullConnectionPool", "Redis", "RedisCluster",
    "Sentinel", "create_connection", "create_datagram_endpoint", "create_unix_connection", "getaddrinfo",
    "gethostbyname", "open_connection", "open_unix_connection", "sock_connect", "sock_sendto", "urlopen",
)  # fmt: skip

GUARDED = "to addresses that customers choose: everything here asks the guard"
STORES = "to DATABASE_URL, DATABASE_REPLICA_URL, REDIS_URL and REDIS_STATE_URL, which the operator chose"
OTLP = (
    "to METRICS_ENDPOINT and TRACES_ENDPOINT, which the operator chose: the exception that docs/configuration.md names"
)
OWN = "to this installation's own pages, at the address its operator gave or it listens on"
NAMES = "to the system's resolver only; the guard is asked about what it says before anybody connects there"
CHILD = "to nobody: one end of a pair of sockets, whose other end its own child has"
COPY = "to the copy of the system that a drill has made on this machine"
NOTHING = "to nothing: options and error numbers"

#: File → what of it can connect, and to where. A new one belongs here only if no customer chooses where it goes.
PLACES: dict[str, tuple[str, set[str]]] = {
    "relay/delivery/transport.py": (GUARDED, {"pycurl"}),
    "relay/delivery/exchange.py": (GUARDED, {"pycurl"}),
    "relay/delivery/curl_errors.py": (NOTHING, {"pycurl"}),
    "relay/delivery/trust.py": (NOTHING, {"pycurl"}),
    "relay/delivery/lookups.py": (NAMES, {"getaddrinfo()"}),
    "relay/sandbox/process.py": (CHILD, {"create_unix_connection()"}),
    "relay/otlp_http.py": (OTLP, {"urllib3"}),
    "relay/postgres.py": (STORES, {"connect()"}),
    "relay/indexes.py": (STORES, {"connect()"}),
    "relay/redis_clients.py": (STORES, {"RedisCluster()"}),
    "relay/doctor/proxy.py": (STORES, {"connect()"}),
    "relay/cli/in_database.py": (STORES, {"connect()"}),
    "relay/cli/migrate.py": (STORES, {"connect()"}),
    "relay/up/embedded.py": (STORES, {"connect()"}),
    "relay/up/run.py": (OWN, {"connect()"}),
    "relay/up/development.py": (OWN, {"getaddrinfo()", "urllib.request", "urlopen()"}),
    "relay/cli/api_client.py": (OWN, {"urllib3"}),
    "relay/doctor/metrics.py": (OWN, {"urllib3"}),
    "relay/drill/copy.py": (COPY, {"connect()"}),
    "relay/drill/proxy.py": (COPY, {"open_connection()"}),
    "relay/drill/self_test.py": (COPY, {"connect()"}),
    "relay/drill/traffic.py": (COPY, {"urllib3"}),
    "deploy/health.py": (OWN, {"http.client"}),
}


def _dotted(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _uses(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _dotted(node):
                found |= {module for module in MODULES if name == module or name.startswith(f"{module}.")}
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) == "postgres.connect":  # our own, of relay/postgres.py
                continue
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = method or getattr(node.func, "id", "")
            if called in CALLS or method in METHODS:
                found.add(f"{called}()")
    return found


def _found() -> dict[str, set[str]]:
    files = [path for program in PROGRAMS for path in sorted((ROOT / program).rglob("*.py"))]
    uses = {str(path.relative_to(ROOT)): _uses(ast.parse(path.read_text(encoding="utf-8"))) for path in files}
    return {path: what for path, what in uses.items() if what}


def test_every_place_that_can_connect_is_known_and_goes_where_no_customer_chooses() -> None:
    assert _found() == {path: uses for path, (_, uses) in PLACES.items()}
