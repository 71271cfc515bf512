"""Processes are replaced one after the other while events flow, as a deployment does it that brings a new SIGNING_KEY."""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import suppress
from threading import Event, Thread
from typing import Any, Self
from uuid import uuid4

import psutil
import psycopg
from urllib3.exceptions import ProtocolError

from tests.e2e.client import Client
from tests.e2e.signatures import assert_signed
from tests.e2e.system import System, wait_until
from tests.sink import Answer, Sink

ENDPOINTS = ("/a", "/b", "/c")
BATCH = [{"eventType": "order.paid", "payload": n} for n in range(5)]
WORKERS = 2


class Load:
    """Sends events as long as the block lasts; `ids` are those that were accepted."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._enough = Event()
        self._thread = Thread(target=self._send)
        self.ids: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join(30)

    def _send(self) -> None:
        while not self._enough.wait(0.03):
            batch = [{**event, "idempotencyKey": uuid4().hex} for event in BATCH]
            self.ids += [result["id"] for result in self._accepted(batch)]

    def _accepted(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As producers do: a request that meets the end of its kept connection is sent again, with its keys."""
        while True:
            with suppress(ProtocolError):
                return self._client.send_batch(batch)


def reload_web(system: System) -> None:
    """Have new web processes take the place of the old ones."""
    (master,) = system.masters("gunicorn")
    old = set(master.children())
    master.send_signal(signal.SIGHUP)
    wait_until(lambda: not old & set(master.children()), 30, what="new web processes")


def restart(master: psutil.Process, database: psycopg.Connection) -> None:
    """End a worker by SIGTERM, which leaves nothing of it in the list, and wait until another has taken its place."""
    ended = {process.pid for process in master.children(recursive=True)}
    master.terminate()
    wait_until(lambda: not master.is_running(), 30, what="the worker's end")
    assert not ended & workers(database)
    wait_until(lambda: len(workers(database)) == WORKERS, 30, what="a new worker")


def workers(database: psycopg.Connection) -> set[int]:
    """The process numbers of all that are in the list of workers."""
    names = database.execute("SELECT name FROM workers").fetchall()
    return {int(name.rpartition(":")[2]) for (name,) in names}


def test_a_new_signing_key_and_restarts_in_turn_under_load_lose_and_double_nothing(
    system: System, client: Client, database: psycopg.Connection, sink: Sink
) -> None:
    sink.answer = lambda _: Answer(delay_s=0.1)
    made = {path: client.endpoint(sink.url(path)) for path in ENDPOINTS}
    masters = system.masters("dramatiq")
    assert len(masters) == WORKERS
    system.swap_signing_keys()
    with Load(client) as load:
        reload_web(system)
        client.endpoint(sink.url("/new"))  # under the new key, which the old workers know
        for master in masters:
            arrived = len(sink.arrivals)
            wait_until(lambda n=arrived: len(sink.arrivals) > n + 100, what="deliveries under way")
            restart(master, database)
        system.relay("keys", "rotate", "--batch", "2")
    expected = Counter(dict.fromkeys(load.ids, 1))
    assert len(expected) > 100
    for path in ENDPOINTS:
        wait_until(lambda p=path: len(sink.events(p)) >= len(expected), 30, what=f"every arrival at {path}")
    wait_until(lambda: unfinished(database, [one.id for one in made.values()]) == 0, what="all recorded")
    assert {path: sink.events(path) for path in ENDPOINTS} == dict.fromkeys(ENDPOINTS, expected)
    for arrival in sink.arrivals:
        if arrival.path in made:
            assert_signed(arrival, made[arrival.path].secret)
    assert sink.events("/new")
    system.relay("keys", "status", SIGNING_KEY_PREVIOUS_FILE="/dev/null")


def unfinished(database: psycopg.Connection, endpoints: list[str]) -> int:
    (found,) = database.execute("SELECT count(*) FROM live WHERE endpoint_id = ANY(%s::uuid[])", (endpoints,))
    return found[0]
