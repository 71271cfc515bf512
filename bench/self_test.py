"""The benchmark tried on itself: what is swallowed, deleted, doubled or swapped on purpose must be reported as that."""

from __future__ import annotations

import time
from dataclasses import replace

import psycopg

from bench.accounting import Account, account, order_breaks
from bench.backlog import paused
from bench.load import Bench, Traffic
from bench.plan import Plan
from bench.programs import Receiver, generated, receiving
from bench.records import Sent
from bench.sizes import QUICK
from bench.system import System
from relay.cli import own_endpoint

_EVENTS = 3_000
_SWALLOW = 1_000
_FEW = 20
_TYPE = "bench.selftest"
_DEADLINE_S = 30.0
_DELETE = "DELETE FROM live WHERE id = (SELECT id FROM live WHERE endpoint_id = %s ORDER BY id LIMIT 1)"


def self_test(system: System) -> list[str]:
    """Run all trials and return what was not noticed; an empty list is the good answer."""
    lossy, doubled, deleted, breaks = _swallowed(), _doubled(), _deleted(system), _swapped()
    wrong: list[str] = []
    if (lossy.lost, lossy.duplicates) != (_EVENTS // _SWALLOW, 0):
        wrong.append(f"A receiver that swallows 1 in {_SWALLOW}: {lossy.lost} lost and {lossy.duplicates} duplicates.")
    if (doubled.lost, doubled.duplicates) != (0, 1):
        wrong.append(f"One request doubled: {doubled.lost} lost and {doubled.duplicates} duplicates.")
    if (deleted.delivered, deleted.lost) != (_FEW - 1, 1):
        wrong.append(f"One of {_FEW} deliveries deleted: {deleted.delivered} delivered and {deleted.lost} lost.")
    if breaks != 1:
        wrong.append(f"One pair swapped: {breaks} breaks of order.")
    return wrong


def _swallowed() -> Account:
    with receiving(swallow=_SWALLOW) as receiver:
        sent = generated(direct_plan(receiver, count=_EVENTS)).sent
        return _account(receiver, sent, expected=_EVENTS - _EVENTS // _SWALLOW)


def _doubled() -> Account:
    with receiving() as receiver:
        sent = generated(direct_plan(receiver, count=_EVENTS)).sent
        generated(direct_plan(receiver, first_n=_EVENTS // 2, count=1))
        return _account(receiver, sent, expected=_EVENTS + 1)


def _swapped() -> int:
    with receiving(swap=_EVENTS // 2) as receiver:
        sent = generated(replace(direct_plan(receiver, count=_EVENTS), clients=1)).sent
        _wait(receiver, expected=_EVENTS)
        return order_breaks(sent, receiver.arrivals())


def _deleted(system: System) -> Account:
    """One delivery is deleted from Relay's table while its endpoint is paused."""
    client, traffic = system.client(), Traffic(types=[_TYPE], fan_out=1, endpoints_of=lambda _: (0,))
    with (
        receiving() as receiver,
        own_endpoint.lent(client, {"url": receiver.url(0), "eventTypes": [_TYPE]}) as endpoint,
    ):
        bench = Bench(system, receiver, QUICK)
        with paused(client, endpoint.id):
            sent = bench.send(traffic, count=_FEW).made.sent
            bench.wait_for_fan_out()
            with psycopg.connect(str(system.database_url)) as conn:
                conn.execute(_DELETE, (endpoint.id,))
        return _account(receiver, sent, expected=_FEW - 1)


def direct_plan(receiver: Receiver, *, count: int, first_n: int = 0) -> Plan:
    """Send straight to the receiver, with no system between."""
    return Plan(
        host="127.0.0.1",
        port=receiver.port,
        path="/e/0",
        events=[('{"n":', ',"pad":"' + "x" * 200 + '"}')],
        clients=8,
        first_n=first_n,
        count=count,
    )


def _account(receiver: Receiver, sent: Sent, *, expected: int) -> Account:
    _wait(receiver, expected=expected)
    return account(sent, receiver.arrivals(), lambda _: (0,))


def _wait(receiver: Receiver, *, expected: int) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while receiver.count() < expected and time.monotonic() < deadline:
        time.sleep(0.01)
