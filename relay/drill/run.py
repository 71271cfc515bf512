"""A drill from its start to its report: steady load, one fault after the other, and after each the wait for calm."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from relay.drill.copy import Copy
from relay.drill.faults import FAULTS, Fault
from relay.drill.ledger import Ledger, Repeat
from relay.drill.traffic import Producers, Tamper, keep_all, receiver
from relay.verify.ledger import verify

ORDERED = "/ordered"
PATHS = ("/first", "/second", ORDERED)
#: Load before each fault.
_STEADY_S = 2.0
#: Calm is when everything accepted until this long after the fault has arrived.
_AFTER_S = 1.0
#: What was sent this long before a crash may not have been recorded for good.
_UNRECORDED_S = 1.0
#: What a process had sent when it was killed may be noted by the receiver this much later.
_ON_ITS_WAY_S = 0.5
_GIVE_UP_S = 120.0
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fault cost. Times are in seconds; `recovery_s` is infinite where calm did not come back."""

    fault: Fault
    lasted_s: float
    recovery_s: float
    p99_ms: float
    repeats: int
    #: Repeats that the fault does not excuse.
    unexcused: int
    breaks: int

    def wrong(self) -> list[str]:
        """Say what must not be."""
        found: list[str] = []
        if self.recovery_s > self.fault.recovery_s:
            found.append(f"recovery took {self.recovery_s:.1f} s, more than {self.fault.recovery_s:g} s")
        if self.unexcused:
            found.append(f"{self.unexcused} deliveries were repeated without need")
        if self.breaks:
            found.append(f"{self.breaks} came out of order")
        return found


@dataclass
class Report:
    """What a whole drill found."""

    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    left_out: list[str] = field(default_factory=list[str])
    accepted: int = 0
    arrived: int = 0
    lost: int = 0
    breaks: int = 0
    repeats: int = 0
    #: Repeats that no fault excuses, those that came when the last one was over too.
    unexcused: int = 0
    #: What `relay verify` found that does not fit, by check.
    verify: dict[str, int] = field(default_factory=dict[str, int])

    def wrong(self) -> list[str]:
        """Say what must not be; an empty list is the good answer."""
        found = [f"{one.fault.name}: {sentence}" for one in self.outcomes for sentence in one.wrong()]
        if self.lost:
            found.append(f"{self.lost} deliveries of accepted events were lost")
        if self.unexcused > sum(one.unexcused for one in self.outcomes):
            found.append(f"{self.unexcused} deliveries were repeated without need")
        if self.breaks > sum(one.breaks for one in self.outcomes):
            found.append(f"{self.breaks} came out of order")
        found += [f"relay verify: {check}: {count}" for check, count in self.verify.items()]
        return found


@dataclass(frozen=True, slots=True)
class Options:
    """How a drill runs: `minutes` is when no further round begins, `rate` events a second; `only` names faults."""

    procfile: Path
    minutes: float = 3.0
    rate: float = 40.0
    only: Sequence[str] = ()


class Excuses:
    """When what arrived may come again, once: its outcome was lost with a process.

    It may come long after, while another fault lasts: what a crash left behind goes back when its worker was silent for
    10 s, and that worker may itself have been kept from beating.
    """

    def __init__(self) -> None:
        self._times: list[tuple[float, float]] = []
        self._used: set[tuple[str, int]] = set()

    def add(self, *, since: float, until: float) -> None:
        """Excuse what arrived first in between."""
        self._times.append((since, until))

    def refused(self, repeats: Iterable[Repeat]) -> int:
        """How many of these repeats nothing excuses."""
        return sum(not self._excuses(one) for one in repeats)

    def _excuses(self, one: Repeat) -> bool:
        key = (one.path, one.n)
        excused = key not in self._used and any(since <= one.first_at <= until for since, until in self._times)
        if excused:
            self._used.add(key)
        return excused


class Drill:
    """A running copy with its load; lent by `running`."""

    def __init__(self, copy: Copy, ledger: Ledger, producers: Producers) -> None:
        self.copy = copy
        self.ledger = ledger
        self._producers = producers
        self._excuses = Excuses()
        self._judged = 0

    async def suffer(self, fault: Fault) -> Outcome:
        """Do it, and wait for calm; repeats that came since the fault before are told with it."""
        await asyncio.sleep(_STEADY_S)
        breaks = len(self.ledger.breaks)
        struck_at = time.monotonic()
        await fault.strike(self.copy)
        over_at = time.monotonic()
        recovery_s = await self.calm(over_at)
        calm_at = time.monotonic()
        if fault.may_repeat:
            self._excuses.add(since=struck_at - _UNRECORDED_S, until=over_at + _ON_ITS_WAY_S)
        repeats, unexcused = self._judge_repeats()
        return Outcome(
            fault,
            lasted_s=over_at - struck_at,
            recovery_s=recovery_s,
            p99_ms=self.ledger.p99_ms(since=struck_at, until=calm_at),
            repeats=repeats,
            unexcused=unexcused,
            breaks=len(self.ledger.breaks) - breaks,
        )

    def _judge_repeats(self) -> tuple[int, int]:
        """How many came since this was asked last, and how many of them nothing excuses."""
        again = self.ledger.repeats[self._judged :]
        self._judged += len(again)
        return len(again), self._excuses.refused(again)

    async def calm(self, since: float) -> float:
        """Wait until events are accepted again and those of the fault have arrived; return the seconds, or infinity."""

        def is_calm() -> bool:
            after = time.monotonic() > since + _AFTER_S and self.ledger.accepted_since(since) > 0
            return after and not self.ledger.missing(accepted_before=since + _AFTER_S)

        if not await within(_GIVE_UP_S, is_calm):
            return math.inf
        return time.monotonic() - since - _AFTER_S

    async def finish(self, report: Report, *, but: Callable[[], int] = lambda: 0) -> None:
        """End the load, wait until everything accepted has arrived `but` so many, or too long; write down what did not."""
        await asyncio.to_thread(self._producers.stop)
        await within(_GIVE_UP_S, lambda: self.ledger.missing() <= but())
        report.accepted, report.arrived = self.ledger.accepted, self.ledger.arrived
        report.lost, report.breaks = self.ledger.missing(), len(self.ledger.breaks)
        report.repeats = len(self.ledger.repeats)
        report.unexcused = sum(one.unexcused for one in report.outcomes) + self._judge_repeats()[1]
        since = datetime.now(UTC) - timedelta(days=1)
        found = await verify(self.copy.settings(), since=since)
        report.verify = {str(check): one.count for check, one in found.items() if one.count}


async def within(limit_s: float, condition: Callable[[], object]) -> bool:
    """Wait until the condition holds; false when that takes longer."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_EVERY_S)
    return True


@contextlib.asynccontextmanager
async def running(
    options: Options, environ: Mapping[str, str], *, keep: Tamper = keep_all, fail: Tamper | None = None
) -> AsyncIterator[Drill]:
    """Lend a copy under load; it ends with the block.

    The copy's folder stays when something failed; the exception says where it is.
    """
    ledger = Ledger(PATHS, frozenset({ORDERED}))
    with _throw_away_folder() as folder, contextlib.closing(receiver(ledger, keep=keep, fail=fail)) as sink:
        copy = Copy(folder, options.procfile, environ)
        sink.start()
        try:
            await copy.open()
            entry = await copy.enter(sink.url, ORDERED, PATHS)
            producers = Producers(ledger, urls=entry.urls, key=entry.key, rate=options.rate)
            producers.start()
            yield Drill(copy, ledger, producers)
        finally:
            await copy.close()


@contextlib.contextmanager
def _throw_away_folder() -> Iterator[Path]:
    """Lend a new folder; an exception keeps it and says where it is, an interruption does not."""
    folder = Path(tempfile.mkdtemp(prefix="relay-drill-"))
    folder.chmod(0o755)  # Postgres's own user passes through
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            yield folder
        except Exception as cause:
            at_the_end.pop_all()
            cause.add_note(f"The copy's data and log are kept in {folder}.")
            raise


async def drill(options: Options, environ: Mapping[str, str], *, told: Callable[[Outcome], None]) -> Report:
    """Run every fault, in rounds until the time is up; `told` hears of each as it is over."""
    faults = [one for one in FAULTS if not options.only or one.name in options.only]
    possible = [one for one in faults if one.is_possible()]
    report = Report(left_out=[one.name for one in faults if one not in possible])
    until = time.monotonic() + options.minutes * 60
    async with running(options, environ) as running_drill:
        for done, fault in enumerate(itertools.cycle(possible)):
            if done >= len(possible) and time.monotonic() > until:
                break
            report.outcomes.append(await running_drill.suffer(fault))
            told(report.outcomes[-1])
        await running_drill.finish(report)
    return report
