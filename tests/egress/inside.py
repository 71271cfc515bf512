"""Runs the corpus in a network of its own, where every address there is lies on `lo`, and tells what was reached.

Started by test_corpus.py as root of a network and mount namespace. The resolver is the test's own; with `--open` the
guard is taken out, to show that what it forbids would be reached without it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

import trustme

from relay.delivery.addresses import Guard, check_url
from relay.delivery.transport import Request, Transport
from relay.errors import Invalid
from tests.connect_proxy import proxying
from tests.egress.corpus import CASES, NAMES, SENT, Case

PLAIN_PORTS = (21, 22, 25, 80, 110, 111, 445, 514, 1023, 6379, 8080)


def make_network(folder: Path) -> None:
    """Put every address of IPv4 and IPv6 on `lo`, and the test's resolver before the system's."""
    if [name for _, name in socket.if_nameindex() if name != "lo"]:
        sys.exit("This is not a network of the test's own.")
    for command in ("link set lo up", "route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo"):
        subprocess.run(["ip", *command.split()], check=True)
    for name, text in (
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ):
        (folder / name).write_text(text)
        subprocess.run(["mount", "--bind", str(folder / name), f"/etc/{name}"], check=True)


class Resolver(asyncio.DatagramProtocol):
    """A DNS server of the names in the corpus, that lets nobody keep an answer."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, int]] = Counter()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = list[str](), 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("latin-1"))
            at += data[at] + 1
        name, (kind,) = ".".join(labels).lower(), struct.unpack(">H", data[at + 1 : at + 3])
        says = NAMES.get(name)
        found: list[bytes] = []
        if says is not None:
            turn = min(self.asked[name, kind], len(says) - 1)
            self.asked[name, kind] += 1
            version = {1: 4, 28: 6}.get(kind)
            found = [ip.packed for ip in map(ip_address, says[turn]) if ip.version == version]
        flags = 0x8180 if says is not None else 0x8183
        answers = [struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed for packed in found]
        head = data[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0)
        self.transport.sendto(head + data[12 : at + 5] + b"".join(answers), addr)


class Listeners:
    """Counts the connections that arrive at any address, by that address."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def open(self, tls: ssl.SSLContext) -> None:
        for port in (*PLAIN_PORTS, 443):
            heard = socket.socket(socket.AF_INET6)
            heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            heard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            heard.bind(("::", port))
            await asyncio.start_server(self._serve, sock=heard, ssl=tls if port == 443 else None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached.append(_plain(writer.get_extra_info("sockname")[0]))
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode("latin-1")
            _, kind, *rest = path.split("/")
            status, where = (rest[0], unquote(rest[1])) if kind == "to" else ("200", "http://127.0.0.1/")
            moved = f"Location: {where}\r\nRefresh: 0;url={where}\r\n"
            writer.write(f"HTTP/1.1 {status} X\r\n{moved}Connection: close\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, IndexError):
            pass
        finally:
            writer.close()


def _plain(ip: str) -> str:
    address = ip_address(ip.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


class Open(Guard):
    """A guard that forbids nothing: what happens without one."""

    def __init__(self) -> None:
        super().__init__(())
        self.forbids: Callable[[str], bool] = lambda _: False

    def forbids_port(self, port: int) -> bool:
        return False


async def send(case: Case, *, guard: Guard, ca_file: str, proxy: str) -> list[str]:
    outcomes: list[str] = []
    for _ in case.outcomes:
        transport = Transport(guard, ca_file=ca_file, proxy=proxy if case.proxied else "")  # which remembers no look-up
        response = await transport.post(Request(case.url, (), b"{}", 3000))
        outcomes.append(str(response.reason or SENT))
        await transport.close()
    return outcomes


def accepts(case: Case) -> bool:
    guard = Guard((), schemes=("https",) if case.proxied else ("http", "https"))
    try:
        check_url(case.url, guard=guard, field=case.field)
    except Invalid as refused:
        return refused.field != case.field
    return True


def _dial(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)


async def run(folder: Path, *, guard: Guard) -> list[dict[str, object]]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("*.corpus.test").configure_cert(tls)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    listeners = Listeners()
    await listeners.open(tls)
    await asyncio.get_running_loop().create_datagram_endpoint(Resolver, local_addr=("127.0.0.1", 53))
    told: list[dict[str, object]] = []
    async with proxying(_dial) as proxy:
        for case in CASES:
            listeners.reached.clear()
            asked = len(proxy.asked)
            outcomes = await send(case, guard=guard, ca_file=str(folder / "ca.pem"), proxy=proxy.url())
            reached = list(listeners.reached)
            told.append(
                {"accepted": accepts(case), "outcomes": outcomes, "reached": reached, "asked": len(proxy.asked) - asked}
            )
    return told


def main() -> None:
    guard = Open() if "--open" in sys.argv else Guard(())
    with TemporaryDirectory() as folder:
        make_network(Path(folder))
        print(json.dumps(asyncio.run(run(Path(folder), guard=guard))))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
