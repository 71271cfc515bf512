"""The world of the model: time, processes, Redis, endpoints that answer, and a ghost that judges."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from tests.model.ghost import Ghost
from tests.model.postgres import Postgres, Steps
from tests.model.rules import Rules

FRESH_S = 8.0

Message = tuple[Any, ...]


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
    probing: dict[str, int] = field(default_factory=dict[str, int])

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


class World:
    """One seeded run: a heap of activities, each with the time of its next step."""

    def __init__(self, seed: int, rules: Rules) -> None:
        self.random = Random(seed)
        self.rules = rules
        self.ghost = Ghost()
        self.postgres = Postgres(self.random, rules.idle_timeout, self.ghost.see)
        self.queue: list[Message] = []
        self.counters = Counter[tuple[str, int]]()
        self.processes: dict[str, Process] = {}
        self.paused: set[str] = set()
        self.outages: dict[str, float] = {}
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

    def is_well(self, endpoint: str) -> bool:
        """Whether an endpoint takes what it is sent now."""
        luck = self.random.random()
        return self.calm or (luck < 0.6 and self.now >= self.outages.get(endpoint, 0.0))

    def moment(self) -> float:
        """How long something takes: usually nothing, now and then seconds."""
        luck = self.random.random()
        longest = 0.01 if luck < 0.7 or self.calm else 0.3 if luck < 0.88 else 2.0 if luck < 0.97 else 7.0
        return self.random.random() * longest

    def blink(self) -> float:
        """How long something takes that is never slow without a fault."""
        return self.random.random() * 0.05
