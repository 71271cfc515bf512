from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue
from urllib.parse import urlsplit

import pytest
import urllib3

from relay.errors import Unavailable
from relay.receiver import Arrival, Receiver

DEADLINE_S = 10.0


@pytest.fixture
def inbox() -> SimpleQueue[Arrival]:
    return SimpleQueue()


@pytest.fixture
def receiver(inbox: SimpleQueue[Arrival]) -> Iterator[Receiver]:
    receiver = Receiver(reply=lambda arrival: 503 if arrival.path == "/fail" else 200, seen=inbox.put)
    receiver.start()
    with closing(receiver):
        yield receiver


def _raw(receiver: Receiver, request: bytes) -> bytes:
    """Say this on a connection of its own and hear what comes until it is closed."""
    port = urlsplit(receiver.url).port or 0
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_request_arrives_whole_with_header_names_in_lower_case(
    receiver: Receiver, inbox: SimpleQueue[Arrival]
) -> None:
    body = bytes(range(256)) * 8192
    answer = urllib3.request("POST", f"{receiver.url}hook?a=1", body=body, headers={"X-Test": "Yes"}, retries=False)
    arrival = inbox.get(timeout=DEADLINE_S)
    assert answer.status == 200
    assert (arrival.path, arrival.headers["x-test"], arrival.body) == ("/hook?a=1", "Yes", body)


def test_the_answer_is_what_reply_says(receiver: Receiver) -> None:
    assert urllib3.request("POST", f"{receiver.url}fail", body=b"{}", retries=False).status == 503


def test_one_connection_carries_many_requests(receiver: Receiver, inbox: SimpleQueue[Arrival]) -> None:
    with urllib3.HTTPConnectionPool("127.0.0.1", urlsplit(receiver.url).port, maxsize=1) as pool:
        for number in range(20):
            assert pool.request("POST", "/", body=str(number).encode(), retries=False).status == 200
        assert pool.num_connections == 1
    assert [inbox.get(timeout=DEADLINE_S).body for _ in range(20)] == [str(n).encode() for n in range(20)]


def test_a_slow_answer_holds_up_nobody_else() -> None:
    together = threading.Barrier(8, timeout=DEADLINE_S)

    def all_at_once(_: Arrival) -> int:
        together.wait()
        return 200

    receiver = Receiver(reply=all_at_once)
    receiver.start()
    with closing(receiver), ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(urllib3.request, "POST", receiver.url, body=b"", retries=False) for _ in range(8)]
        assert [post.result().status for post in posts] == [200] * 8


def test_a_chunked_body_is_put_together(receiver: Receiver, inbox: SimpleQueue[Arrival]) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert b" 200 " in _raw(receiver, head + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
    assert inbox.get(timeout=DEADLINE_S).body == b"abcde"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Content-Length: many\r\n", b" 400 "),
        (b"Content-Length: 5\r\n", b" 400 "),
        (b"Content-Length: 999999999999\r\n", b" 413 "),
        (b"Transfer-Encoding: chunked\r\n", b" 400 "),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_and_not_shown(
    receiver: Receiver, inbox: SimpleQueue[Arrival], headers: bytes, status: bytes
) -> None:
    assert status in _raw(receiver, b"POST / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert inbox.empty()


def test_a_look_with_a_browser_is_no_delivery(receiver: Receiver, inbox: SimpleQueue[Arrival]) -> None:
    assert urllib3.request("GET", receiver.url, retries=False).status == 200
    assert inbox.empty()


def test_a_sender_that_hangs_up_leaves_no_traceback(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(receiver.url).port or 0)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    assert urllib3.request("POST", receiver.url, body=b"", retries=False).status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_taken_port_is_one_sentence(receiver: Receiver) -> None:
    with pytest.raises(Unavailable, match="choose another with --port"):
        Receiver(reply=lambda _: 200, port=urlsplit(receiver.url).port or 0)


def test_a_port_that_does_not_exist_is_one_sentence() -> None:
    with pytest.raises(Unavailable, match="choose another with --port"):
        Receiver(reply=lambda _: 200, port=70_000)
