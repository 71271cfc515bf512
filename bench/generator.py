"""The load generator: keep-alive connections that send numbered events and remember when each was sent and answered.

It is its own process: a plan comes in on stdin (JSON), and out go one line of JSON and the packed columns of `Sent`.
An event is never sent a second time, so what arrives twice was doubled on the way.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import process_time_ns

import uvloop

from bench.accounting import percentile
from bench.connections import Client, connected
from bench.open_loop import OpenLoop
from bench.plan import Load, Plan
from bench.records import pack


async def closed_loop(load: Load) -> None:
    """Send until the plan is through; on each connection the next request follows the answer to the last."""
    await asyncio.gather(*(_send(load) for _ in range(load.plan.clients)))


async def _send(load: Load) -> None:
    def next_request(client: Client) -> None:
        if client.is_open and (numbers := load.take()):
            client.send(numbers)
        else:
            client.end()

    while client := await connected(load, next_request):
        await client.watch()


def main() -> None:
    """Run the plan that stdin holds."""
    load = Load(Plan(**json.load(sys.stdin)))
    open_loop = OpenLoop(load)
    began_ns = process_time_ns()
    uvloop.run(open_loop.run() if load.plan.rate else closed_loop(load))
    spent_s = (process_time_ns() - began_ns) / 1e9
    sent, late_ms = load.sent, sorted(open_loop.late_ms)
    late = {f"late_ms.{label}": percentile(late_ms, share) for label, share in (("p99", 0.99), ("max", 1.0)) if late_ms}
    head = {"cpu_s": spent_s, "statuses": load.statuses, "late": late}
    with open(
        sys.stdout.fileno(), "wb", closefd=False
    ) as output:  # under PYTHONUNBUFFERED stdout may write a part only
        output.write(json.dumps(head).encode() + b"\n")
        output.write(pack(sent.n, sent.sent_ns, sent.answered_ns, sent.accepted))


if __name__ == "__main__":
    main()
