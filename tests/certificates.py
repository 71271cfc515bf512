"""Certificates of authorities that live as long as a test."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import trustme


def pem_of(authority: trustme.CA) -> str:
    """The authority's certificate."""
    return authority.cert_pem.bytes().decode()


def chain_of(leaf: trustme.LeafCert) -> str:
    """The certificate with what is behind it."""
    return b"".join(one.bytes() for one in leaf.cert_chain_pems).decode()


def key_of(leaf: trustme.LeafCert) -> str:
    """Its private key."""
    return leaf.private_key_pem.bytes().decode()


@dataclass
class Gatekeeper:
    """An HTTPS server that asks for certificates of one authority and notes whose came, for each request."""

    server: trustme.CA = field(default_factory=trustme.CA)
    clients: trustme.CA = field(default_factory=trustme.CA)
    port: int = 0
    names: list[str] = field(default_factory=list[str])
    connections: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/hook"

    def greet(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        """Shake hands; send a refusal in a way that no reset overtakes."""
        raw.settimeout(10)
        secured = context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        try:
            secured.do_handshake()
        except ssl.SSLError:
            with socket.socket(fileno=secured.detach()) as plain:
                plain.settimeout(10)
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(65536):
                    pass
            return
        self.connections += 1
        self.serve(secured)

    def serve(self, secured: ssl.SSLSocket) -> None:
        """Answer 200 until the client goes."""
        shown: Any = secured.getpeercert()
        name = shown["subjectAltName"][0][1]
        with secured, secured.makefile("rwb") as stream:
            while line := stream.readline():
                length = 0
                while line not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    line = stream.readline()
                stream.read(length)
                self.names.append(name)
                stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                stream.flush()


@contextmanager
def keeping_the_gate() -> Iterator[Gatekeeper]:
    """Serve on a free port until the block ends."""
    gate = Gatekeeper()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    gate.server.issue_cert("127.0.0.1").configure_cert(context)
    gate.clients.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    def greet(raw: socket.socket) -> None:
        with suppress(OSError):  # the client went
            gate.greet(raw, context)

    def accept() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=greet, args=(raw,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        gate.port = listener.getsockname()[1]
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield gate
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
