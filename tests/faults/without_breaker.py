"""The worker as it is, without the circuit breaker in its broker's list. Run by `dramatiq tests.faults.without_breaker`."""

from __future__ import annotations

from actors import main
from actors.middleware.breaker import CircuitBreaker

broker = main.broker
assert isinstance(broker.middleware.pop(), CircuitBreaker)
