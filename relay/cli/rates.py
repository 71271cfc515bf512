"""How much a second: from two looks at counts that only grow, and the times until which they were counted."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Any

COUNTED = ("created", "delivered", "dead", "attempts", "failedAttempts")
#: Over so long a rate is taken: counting happens every 2 s or so, and less would jump.
_SPAN = timedelta(seconds=10)


class Rates:
    """Rates of the last ten seconds; at the first look, of the time that its counts cover."""

    def __init__(self) -> None:
        self._looks: deque[tuple[datetime, dict[str, int]]] = deque()

    def take(self, activity: dict[str, Any]) -> dict[str, float]:
        """Take in one look at `activity`, all with the same `since`, and return what happened a second by then."""
        at, counts = datetime.fromisoformat(activity["asOf"]), {name: int(activity[name]) for name in COUNTED}
        if not self._looks or at > self._looks[-1][0]:
            self._looks.append((at, counts))
        while len(self._looks) > 2 and at - self._looks[1][0] >= _SPAN:
            self._looks.popleft()
        last, after = self._looks[-1]
        first, before = self._looks[0]
        if len(self._looks) == 1:
            first, before = datetime.fromisoformat(activity["since"]), dict.fromkeys(COUNTED, 0)
        seconds = (last - first).total_seconds()
        return {name: max(0, after[name] - before[name]) / seconds if seconds > 0 else 0.0 for name in COUNTED}
