"""A worker that the answer of an endpoint can kill: what a fault in libcurl, or a kill by the kernel, would do.

Run by `dramatiq tests.faults.deadly`.
"""

from __future__ import annotations

import os
import signal
from asyncio import Future
from typing import Any

from actors import main
from relay.delivery.posting import Posting
from relay.delivery.transport import Response

broker = main.broker
_answered = Posting._answered


def _die_of_it(self: Posting, *arguments: Any) -> None:
    future: Future[Response] = arguments[-1]
    if not future.cancelled() and "x-deadly" in future.result().headers:
        os.kill(os.getpid(), signal.SIGKILL)
    _answered(self, *arguments)


Posting._answered = _die_of_it  # pyright: ignore[reportAttributeAccessIssue]
