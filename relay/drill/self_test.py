"""The drill tried on itself: what is lost and swapped on purpose must be counted as that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from relay.drill.ledger import Ledger
from relay.drill.run import ORDERED, PATHS, Drill, Options, Report, running, within

_SWALLOW = 1_000
_RATE = 100.0
_DEADLINE_S = 60.0
#: The event whose delivery fails at first, and is deleted while it waits.
_DELETED = 40
_DELETE = "DELETE FROM live WHERE attempts > 0 AND owner IS NULL"


class Tampering:
    """Stands between the receiver and the account: swallows every thousandth arrival and swaps one pair of a lane."""

    def __init__(self) -> None:
        self.arrivals = 0
        self.swallowed = 0
        self.ledger: Ledger | None = None
        self.swapped = False
        self._held: tuple[str, str, int] | None = None

    def keep(self, path: str, lane: str, n: int) -> bool:
        """Whether this arrival is written down now."""
        if path == ORDERED:
            return self.swapped or self._keep_swapped(path, lane, n)
        self.arrivals += 1
        if self.arrivals % _SWALLOW:
            return True
        self.swallowed += 1
        return False

    def _keep_swapped(self, path: str, lane: str, n: int) -> bool:
        if self._held is None:
            self._held = (path, lane, n)
            return False
        if lane == self._held[1] and self.ledger is not None:
            self.ledger.arrive(path, lane, n)
            self.ledger.arrive(*self._held)
            self.swapped = True
            return False
        return True


async def self_test(options: Options, environ: Mapping[str, str]) -> list[str]:
    """Lose and swap on purpose, with no fault; return what was not noticed as it should: an empty list is the good answer."""
    tampering, report = Tampering(), Report()
    trial = replace(options, rate=_RATE)

    def fail(path: str, _lane: str, n: int) -> bool:
        return path == PATHS[0] and n == _DELETED

    async with running(trial, environ, keep=tampering.keep, fail=fail) as drill:
        tampering.ledger = drill.ledger
        await _delete_what_waits(drill)
        await within(_DEADLINE_S, lambda: tampering.swallowed)
        await drill.finish(report, but=lambda: tampering.swallowed + 1)
    swallowed = tampering.swallowed
    wrong: list[str] = []
    if report.lost != swallowed + 1:
        wrong.append(f"{swallowed} arrivals swallowed and 1 delivery deleted: {report.lost} counted as lost.")
    if report.breaks != 1:
        wrong.append(f"1 pair swapped: {report.breaks} counted as out of order.")
    if not report.verify:
        wrong.append("1 delivery deleted: relay verify found nothing.")
    return wrong


async def _delete_what_waits(drill: Drill) -> None:
    """Delete the delivery that failed, as no program of ours does."""
    with drill.copy.connect() as conn:
        await within(_DEADLINE_S, lambda: conn.execute(_DELETE).rowcount)
