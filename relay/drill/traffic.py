"""The load of a drill: producers who repeat each event until it is accepted, and a receiver that notes each arrival."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence

import urllib3

from relay.drill.ledger import Ledger
from relay.receiver import Arrival, Receiver

_TIMEOUT = urllib3.Timeout(connect=2.0, read=10.0)
_AGAIN_S = 0.1
_LAST_S = 60.0
#: Who sends; each has a lane of its own in the endpoint that keeps order.
PRODUCERS = 4
EVENT_TYPE = "drill.event"


class Producers:
    """Send `rate` events a second in all, alternating between the web services, until `stop`."""

    def __init__(self, ledger: Ledger, *, urls: Sequence[str], key: str, rate: float) -> None:
        self._ledger = ledger
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}
        self._urls = [f"{url}/api/v1/events" for url in urls]
        self._pause_s = PRODUCERS / rate
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(lane,), daemon=True) for lane in range(PRODUCERS)]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send nothing new; return when what was begun is accepted."""
        self._enough.set()
        for thread in self._threads:
            thread.join(_LAST_S)

    def _send(self, lane: int) -> None:
        places = itertools.cycle(self._urls)
        with urllib3.PoolManager(timeout=_TIMEOUT, retries=False) as pool:
            for n in itertools.count(lane, PRODUCERS):
                if self._enough.wait(self._pause_s):
                    return
                while not self._accepted(pool, next(places), lane, n):
                    time.sleep(_AGAIN_S)
                self._ledger.accept(n)

    def _accepted(self, pool: urllib3.PoolManager, url: str, lane: int, n: int) -> bool:
        body = json.dumps({"eventType": EVENT_TYPE, "payload": {"n": n, "lane": str(lane)}})
        try:
            answer = pool.request("POST", url, body=body, headers={**self._headers, "Idempotency-Key": f"drill-{n}"})
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status in (200, 202)


#: Asked about an arrival: its path, its lane and its number.
Tamper = Callable[[str, str, int], bool]


def keep_all(_path: str, _lane: str, _n: int) -> bool:
    """Keep every arrival."""
    return True


def receiver(ledger: Ledger, *, keep: Tamper = keep_all, fail: Tamper | None = None) -> Receiver:
    """A receiver that writes each arrival into the ledger, but for those `keep` refuses; what `fail` names it fails."""

    def reply(arrival: Arrival) -> int:
        payload = json.loads(arrival.body)
        path, lane, n = arrival.path, payload["lane"], payload["n"]
        if fail is not None and fail(path, lane, n):
            return 503
        if keep(path, lane, n):
            ledger.arrive(path, lane, n)
        return 200

    return Receiver(reply=reply)
