"""The clock: starts what is due, and makes good what was lost. One of all worker processes leads."""

from relay.clock.ticking import Clock

__all__ = ["Clock"]
