"""The log of attempts, for LOG_LEVEL=debug: one line each. At any other level it costs one question a batch."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from relay.delivery.record import Attempt, Recorded, state_of

_LOG = logging.getLogger(__name__)


def tell(batch: Iterable[Recorded]) -> None:
    """Log each attempt of a batch that was recorded, without its URL, headers and bodies: those may hold secrets."""
    if _LOG.isEnabledFor(logging.DEBUG):
        for one in batch:
            if one.attempt is not None:
                _tell(one, one.attempt)


def _tell(one: Recorded, attempt: Attempt) -> None:
    delivery = one.delivery
    _LOG.debug(
        "attempt %d of delivery %s: %s",
        delivery.attempts + 1,
        delivery.id,
        attempt.reason.value,
        extra={
            **delivery.ids,
            "state": state_of(one.outcome),
            "status_code": attempt.status,
            "duration_ms": round(attempt.total_ms, 1),
        },
    )
