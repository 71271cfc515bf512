"""The world of the model: time, processes, Redis, and a ghost that has seen everything and judges."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Any

from tests.model.postgres import Postgres, Steps
from tests.model.rules import Rules

FRESH_S = 8.0
NOTICED_AFTER_S = 2.5

LaneId = tuple[str, str]
Message = tuple[Any, ...]


class Violation(AssertionError):
    """The protocol broke a promise."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of `live`."""

    lane: LaneId
    due_at: float | None = None
    fence: int | None = None
    owner: int | None = None
    sent_at: float = 0.0
    attempts: int = 0

    def waiting(self, due_at: float) -> Delivery:
        """This delivery, back in its lane."""
        return replace(self, due_at=due_at, fence=None, owner=None)


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of `lanes`."""

    ready_at: float | None = None
    fence: int | None = None
    owner: int | None = None
    sent_at: float = 0.0

    def due(self, now: float) -> bool:
        """True when it has work to do now."""
        return self.ready_at is not None and self.ready_at <= now

    def rung(self, at: float) -> Lane:
        """This lane, to be looked at no later than `at`."""
        return replace(self, ready_at=at if self.ready_at is None else min(self.ready_at, at))


@dataclass(frozen=True, slots=True)
class Claim:
    """What a process knows of a delivery it owns."""

    id: int
    fence: int
    no: int
    attempts: int
    made_at: float


@dataclass(eq=False, slots=True)
class Process:
    """An operating system process: a worker, or a web process. `kill -9` ends it; a new one takes its place."""

    world: World
    name: str
    alive: bool = True
    stopped_until: float = 0.0
    epoch: int = 0
    replies_to_lose: int = 0
    no: int = 0
    generation: int = 0
    last_beat: float = -FRESH_S
    held: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    lanes: set[int] = field(default_factory=set[int])
    messages: list[Message] = field(default_factory=list[Message])
    hint: int = 0
    drained: tuple[int, int] | None = None

    def distrust(self) -> None:
        """A connection was lost: what was claimed and not begun is dropped."""
        self.generation += 1

    def is_stopped(self) -> bool:
        """True while SIGSTOP holds it."""
        return self.world.now < self.stopped_until

    def may_send(self, generation: int) -> bool:
        """True while claims of that generation are still this process's, and its last beat is fresh."""
        rules = self.world.rules
        if rules.generation and generation != self.generation:
            return False
        return not rules.fresh_beat or self.world.now - self.last_beat < FRESH_S

    def spawn(self, steps: Steps, *, after_s: float = 0.0) -> None:
        """Run an activity in this process; it ends with the process."""
        self.world.schedule(self, steps, after_s=after_s)


class Ghost:
    """Knows what nobody in the system can know, and judges each POST."""

    def __init__(self) -> None:
        self.accepted: set[int] = set()
        self.cancelled: set[int] = set()
        self._posts: dict[tuple[int, int], float] = {}
        self._harm_until = -1.0
        self._crashed_at = -1.0
        self._noticed_by = -1.0

    def harm(self, until: float) -> None:
        """A fault that may repeat what was under way then: kill, stop, crash, lost reply."""
        self._harm_until = max(self._harm_until, until)

    def crash(self, at: float, *, back_at: float) -> None:
        """Postgres crashed; its workers notice at their next statement, which is a beat at the latest."""
        self.harm(back_at)
        self._crashed_at, self._noticed_by = at, back_at + NOTICED_AFTER_S

    def post(self, claim: Claim, row: Delivery | None, *, now: float) -> None:
        """A delivery leaves for its endpoint, and `row` is what Postgres has of it.

        The known exception: a claim that a crash forgot, and a worker that has not noticed the crash. Nobody can tell it
        apart, for as long as a beat.
        """
        unaware = claim.made_at <= self._crashed_at and now < self._noticed_by
        if claim.id in self.cancelled and not unaware:
            raise Violation(f"delivery {claim.id} was sent after its cancellation was answered")
        if row is not None and (row.fence, row.owner) != (claim.fence, claim.no) and not unaware:
            raise Violation(f"delivery {claim.id} was sent by a worker that does not own it: {row}")
        earlier = self._posts.setdefault((claim.id, claim.attempts), claim.made_at)
        if earlier != claim.made_at and self._harm_until < min(earlier, claim.made_at):
            raise Violation(
                f"attempt {claim.attempts + 1} of delivery {claim.id} was sent twice and no fault explains it"
            )

    def put_back(self, claim: Claim, row: Delivery) -> None:
        """A delivery goes back to its lane, because of what became of a claim."""
        if row.owner not in (None, claim.no):
            raise Violation(f"delivery {claim.id} was taken from the worker that owns it: {row}")


class World:
    """One seeded run: a heap of activities, each with the time of its next step."""

    def __init__(self, seed: int, rules: Rules) -> None:
        self.random = Random(seed)
        self.rules = rules
        self.postgres = Postgres(self.random, rules.idle_timeout)
        self.queue: list[Message] = []
        self.processes: dict[str, Process] = {}
        self.ghost = Ghost()
        self.log: list[str] = []
        self.calm = False
        self._order = count()
        self._tasks: list[tuple[float, float, int, Process, Steps]] = []

    @property
    def now(self) -> float:
        """Seconds since the beginning: everybody's clock."""
        return self.postgres.now

    def say(self, text: str) -> None:
        """Write a line of the schedule."""
        self.log.append(f"{self.now:8.3f} {text}")

    def fence(self) -> int:
        """A random number."""
        return self.random.getrandbits(62)

    def start(self, name: str) -> Process:
        """Start a process in the place of its predecessor."""
        self.processes[name] = Process(self, name, epoch=self.postgres.epoch)
        return self.processes[name]

    def schedule(self, process: Process, steps: Steps, *, after_s: float) -> None:
        """Let an activity take its next step in `after_s` seconds."""
        heapq.heappush(self._tasks, (self.now + after_s, self.random.random(), next(self._order), process, steps))

    def step(self) -> None:
        """Let whoever is next take one step."""
        at, _, _, process, steps = heapq.heappop(self._tasks)
        self.postgres.now = max(self.now, at)
        if not process.alive:
            steps.close()
        elif process.is_stopped():
            self.schedule(process, steps, after_s=process.stopped_until - self.now + self.blink())
        else:
            try:
                self.schedule(process, steps, after_s=next(steps))
            except StopIteration:
                return

    def moment(self) -> float:
        """How long something takes: usually nothing, now and then seconds."""
        luck = self.random.random()
        longest = 0.01 if luck < 0.7 or self.calm else 0.3 if luck < 0.88 else 2.0 if luck < 0.97 else 7.0
        return self.random.random() * longest

    def blink(self) -> float:
        """How long something takes that is never slow without a fault."""
        return self.random.random() * 0.05
