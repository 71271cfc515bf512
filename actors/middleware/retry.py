"""The retry middleware: infrastructure failures only. What an endpoint answers is no failure of a message."""

from __future__ import annotations

from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Retries


class SafeRetries(Retries):
    """Sends a failed message again with back-off; one that cannot be enqueued again is dead-lettered, never acked silently.

    Dramatiq acks a message whose retry could not be enqueued (its pull request 545). Here that would cost 5 s only, for
    the clock sends again what nobody took up, but a message that vanishes is not to be had at any price.
    """

    def __init__(self) -> None:
        super().__init__(max_retries=5, min_backoff=200, max_backoff=10_000)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Enqueue the message again if its actor failed."""
        try:
            super().after_process_message(broker, message, result=result, exception=exception)
        except Exception:
            message.fail()
            raise
