"""The benchmark tried on itself: what a receiver swallows must be reported as lost, what was doubled as duplicate."""

from __future__ import annotations

import time

from bench.accounting import Account, account
from bench.plan import Plan
from bench.programs import Receiver, generated, receiving
from bench.records import Sent

_EVENTS = 3_000
_SWALLOW = 1_000
_DEADLINE_S = 10.0


def self_test() -> list[str]:
    """Run both trials and return what was not noticed; an empty list is the good answer."""
    lossy, doubled = _swallowed(), _doubled()
    wrong: list[str] = []
    if (lossy.lost, lossy.duplicates) != (_EVENTS // _SWALLOW, 0):
        wrong.append(f"A receiver that swallows 1 in {_SWALLOW}: {lossy.lost} lost and {lossy.duplicates} duplicates.")
    if (doubled.lost, doubled.duplicates) != (0, 1):
        wrong.append(f"One request doubled: {doubled.lost} lost and {doubled.duplicates} duplicates.")
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
    deadline = time.monotonic() + _DEADLINE_S
    while receiver.count() < expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return account(sent, receiver.arrivals(), lambda _: (0,))
