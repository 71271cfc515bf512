"""When to try again: the endpoint's policy, the attempt's number and a random number in, a delay out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

#: Delays before retry 1, 2, … when an endpoint says nothing else: 10 retries over about 34 hours, in ms.
DEFAULT_SCHEDULE_MS = (
    1_000, 5_000, 30_000, 120_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 86_400_000,
)  # fmt: skip
JITTER = 0.2
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How an endpoint wants to be tried again; an explicit schedule wins over backoff. All times in ms.

    An answer with one of the status codes in `terminal` ends a delivery at once.
    """

    max_retries: int = 10
    schedule_ms: Sequence[int] | None = DEFAULT_SCHEDULE_MS
    backoff_ms: int = 1_000
    backoff_mult: float = 2.0
    backoff_max_ms: int = 86_400_000
    terminal: frozenset[int] = frozenset()

    def delay_ms(self, attempts: int) -> float:
        """The delay after `attempts` attempts (1 or more), without jitter; the schedule's last entry repeats."""
        if self.schedule_ms:
            return self.schedule_ms[min(attempts, len(self.schedule_ms)) - 1]
        exponent = min(attempts - 1, 1_000)
        try:
            return min(self.backoff_ms * self.backoff_mult**exponent, self.backoff_max_ms)
        except OverflowError:
            return self.backoff_max_ms

    def longest_ms(self) -> float:
        """The longest delay this policy can ask for: the most a Retry-After is obeyed to."""
        return max(self.schedule_ms) if self.schedule_ms else self.backoff_max_ms


def retry_delay_s(
    policy: RetryPolicy, *, attempts: int, random: Callable[[], float], retry_after_s: float | None = None
) -> float | None:
    """Seconds until the next attempt, or None when `attempts` attempts were all there are.

    Jitter is ±20 %; `random` gives 0..1. A Retry-After lengthens the delay, up to the policy's longest.
    """
    if attempts > policy.max_retries:
        return None
    delay_s = policy.delay_ms(attempts) / 1000 * (1 + JITTER * (2 * random() - 1))
    if retry_after_s is not None:
        delay_s = max(delay_s, min(retry_after_s, policy.longest_ms() / 1000))
    return delay_s


def parse_retry_after(value: str, *, now_s: float) -> float | None:
    """Seconds to wait by a Retry-After header, given as seconds or as an HTTP date; None when it is neither.

    `now_s` is the time now in Unix seconds. A date in the past is 0; one without a zone, as in the old asctime form, is
    UTC. RFC 9110, sections 5.6.7 and 10.2.3.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:_DIGITS])
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s)
    except (TypeError, ValueError, OverflowError):
        return None
