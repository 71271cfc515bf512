"""A worker whose clock believes that it leads, always. Run by `dramatiq tests.faults.two_clocks`."""

from __future__ import annotations

from actors import main
from relay.clock import Clock

broker = main.broker


async def _lead(self: Clock) -> bool:
    return True


Clock._lease = _lead
