"""Redis as it runs at scale: a master with replicas and sentinels, a cluster of three nodes, a server behind TLS."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import trustme

from relay.processes import Command
from relay.up.development import free_port
from relay.up.embedded import Server, _valkey_executable, redis_refusal
from tests.folders import server_folder
from tests.servers import START_S, OwnServer

USER = "relay"
PASSWORD = "p@ss/w#rd %41"
IN_URL = "p%40ss%2Fw%23rd%20%2541"
SENTINEL_PASSWORD = "of the sentinels"
SERVICE = "relay-master"


def server(
    folder: Path, *lines: str, url: str, port: int, executable: str = "", options: tuple[str, ...] = ()
) -> OwnServer:
    """Start a server with these lines of configuration; it answers at the URL."""
    home = folder / str(port)
    home.mkdir()
    (home / "conf").write_text("\n".join(["bind 127.0.0.1", f'dir "{home}"', 'save ""', *lines, ""]))
    argv = (executable or str(_valkey_executable()), str(home / "conf"), *options)
    return OwnServer(Server(Command("redis", argv, home, {"PATH": "/usr/bin:/bin"}), url), lambda: redis_refusal(url))


def connected(url: str) -> Any:
    """A client for tests to look with; Any, because redis-py's types promise awaitables."""
    return redis.Redis.from_url(url, decode_responses=True)


def wait_for(condition: Callable[[], object], *, what: str) -> None:
    """Wait until it holds; a server that does not answer counts as no."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@dataclass
class Sentinels:
    """A master, its two replicas, and three sentinels that watch them."""

    url: str
    servers: dict[int, OwnServer]
    sentinels: list[OwnServer]

    def master(self) -> OwnServer:
        """Who the sentinels say is the master."""
        return self.servers[int(connected(self.sentinels[0].server.url).sentinel_get_master_addr_by_name(SERVICE)[1])]


@contextmanager
def sentinels() -> Iterator[Sentinels]:
    """Run a master with two replicas and three sentinels; data and sentinels have passwords of their own."""
    with server_folder() as folder, ExitStack() as stack:
        ports = [free_port() for _ in range(6)]
        user = f'user {USER} on ">{PASSWORD}" ~* &* +@all'
        login = [
            f'masterauth "{PASSWORD}"',
            f"masteruser {USER}",
            "user default off",
            user,
            "repl-diskless-sync-delay 0",
        ]

        def data(port: int, *more: str) -> OwnServer:
            made = server(folder, f"port {port}", *login, *more, url=_url(port), port=port)
            stack.callback(made.kill)
            return made

        def sentinel(port: int) -> OwnServer:
            url = f"redis://:{SENTINEL_PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}"
            lines = [
                f"port {port}",
                f'requirepass "{SENTINEL_PASSWORD}"',
                f'sentinel sentinel-pass "{SENTINEL_PASSWORD}"',
                f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 2",
                f"sentinel auth-user {SERVICE} {USER}",
                f'sentinel auth-pass {SERVICE} "{PASSWORD}"',
                f"sentinel down-after-milliseconds {SERVICE} 700",
                f"sentinel failover-timeout {SERVICE} 2000",
            ]
            made = server(folder, *lines, url=url, port=port, options=("--sentinel",))
            stack.callback(made.kill)
            return made

        servers = {ports[0]: data(ports[0])}
        servers |= {port: data(port, f"replicaof 127.0.0.1 {ports[0]}") for port in ports[1:3]}
        watchers = [sentinel(port) for port in ports[3:]]
        for one in watchers:
            looking = connected(one.server.url)
            wait_for(
                lambda client=looking: _knows_all(client.sentinel_master(SERVICE)),
                what="sentinels that know each other",
            )
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[3:])
        own = f"sentinel_password={SENTINEL_PASSWORD.replace(' ', '%20')}"
        url = f"redis+sentinel://{USER}:{IN_URL}@{hosts}/0?service={SERVICE}&{own}"
        yield Sentinels(url, servers, watchers)


@contextmanager
def cluster() -> Iterator[list[OwnServer]]:
    """Run a cluster of three nodes without replicas, which answers for the slots of the others when one is away."""
    with server_folder() as folder, ExitStack() as stack:
        nodes: list[OwnServer] = []
        buses = {free_port(): free_port() for _ in range(3)}
        for port, bus in buses.items():
            lines = [f"port {port}", "cluster-enabled yes", f"cluster-port {bus}", "cluster-node-timeout 1000"]
            lines += ["cluster-require-full-coverage no", f'requirepass "{PASSWORD}"', f'masterauth "{PASSWORD}"']
            nodes.append(server(folder, *lines, url=f"redis://:{IN_URL}@127.0.0.1:{port}", port=port))
            stack.callback(nodes[-1].kill)
        clients = [connected(node.server.url) for node in nodes]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER ADDSLOTSRANGE", number * 5462, min(number * 5462 + 5461, 16383))
            for port, bus in buses.items():
                client.execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        for client in clients:
            wait_for(lambda client=client: _is_whole(client), what="a cluster of three")
        yield nodes


def cluster_url(nodes: list[OwnServer]) -> str:
    """The URL of a cluster that names all its nodes."""
    return f"redis+cluster://:{IN_URL}@{','.join(node.server.url.rpartition('@')[2] for node in nodes)}"


def _url(port: int) -> str:
    return f"redis://{USER}:{IN_URL}@127.0.0.1:{port}/0"


def _knows_all(state: Mapping[str, Any]) -> bool:
    return (state["num-other-sentinels"], state["num-slaves"]) == (2, 2)


def _is_whole(client: Any) -> bool:
    told = client.execute_command("CLUSTER INFO")
    return told["cluster_state"] == "ok" and told["cluster_known_nodes"] == "3"


@dataclass
class Tls:
    """A server and its sentinel that speak nothing but TLS, and want a certificate of whoever connects."""

    url: str
    sentinel_url: str
    wrong_url: str


@contextmanager
def behind_tls() -> Iterator[Tls]:
    """Run Debian's redis-server behind TLS, with a user and a password, and a sentinel that watches it."""
    with server_folder() as folder, ExitStack() as stack:
        authority, port, watcher = trustme.CA(), free_port(), free_port()
        _write_certificates(folder, authority)
        trustme.CA().cert_pem.write_to_path(folder / "other.pem")
        tls = ["port 0", "tls-auth-clients yes", "tls-replication yes", f'tls-ca-cert-file "{folder}/ca.pem"']
        tls += [f'tls-cert-file "{folder}/cert.pem"', f'tls-key-file "{folder}/key.pem"']
        options = f"ssl_certfile={folder}/cert.pem&ssl_keyfile={folder}/key.pem"
        place = f"rediss://{USER}:{IN_URL}@127.0.0.1:{port}/0?{options}"
        url = f"{place}&ssl_ca_certs={folder}/ca.pem"
        users = ["user default off", f'user {USER} on ">{PASSWORD}" ~* &* +@all']
        watching = [f"sentinel monitor {SERVICE} 127.0.0.1 {port} 1", f"sentinel auth-user {SERVICE} {USER}"]
        watching.append(f'sentinel auth-pass {SERVICE} "{PASSWORD}"')
        executable = shutil.which("redis-server") or "redis-server"
        main = server(folder, f"tls-port {port}", *tls, *users, url=url, port=port, executable=executable)
        stack.callback(main.kill)
        own = f"rediss://127.0.0.1:{watcher}/0?{options}&ssl_ca_certs={folder}/ca.pem"
        lines = (f"tls-port {watcher}", *tls, *watching)
        beside = server(folder, *lines, url=own, port=watcher, executable=executable, options=("--sentinel",))
        stack.callback(beside.kill)
        sentinel_url = url.replace("rediss", "rediss+sentinel", 1).replace(f":{port}/", f":{watcher}/")
        yield Tls(url, f"{sentinel_url}&service={SERVICE}", f"{place}&ssl_ca_certs={folder}/other.pem")


def _write_certificates(folder: Path, authority: trustme.CA) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
