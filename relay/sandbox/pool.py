"""A few sandboxes for much code of many customers, none of which can keep the others from running.

Code whose last call was quick goes first. Code that nobody knows yet has a part of the children, and like the former not
long: when its time is over it is stopped, and called again, with all its time, when its turn comes among the slow, which
have one child together. A transformation only computes, so to call it again changes nothing. In each of these lines a
tenant has a part of the children at most, and the endpoints have their turns.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial

from relay.sandbox.child import CALL
from relay.sandbox.process import Answer, Child, Limits, NotStarted

CHILDREN = 4
_KNOWN = 10_000
_TOGETHER = 16
#: A child is replaced after so many calls, so that nothing it may have leaked adds up.
_CALLS = 20_000


@dataclass(frozen=True, slots=True)
class _Call:
    tenant: Hashable
    owner: Hashable
    task: bytes
    code: bytes
    argument: bytes
    answer: asyncio.Future[Answer]

    def alike(self, other: _Call) -> bool:
        """Whether both do the same with other arguments."""
        return self.code == other.code and self.task == other.task


@dataclass(slots=True)
class _Line:
    """Owners with calls that wait, in the order of their turns; `most` of them run, `most_each` of a tenant.

    An owner's turn is up to `together` calls.
    """

    most: int
    most_each: int
    within_s: float
    together: int = 1
    running: int = 0
    of_tenant: Counter[Hashable] = field(default_factory=Counter[Hashable])
    calls: dict[Hashable, deque[_Call]] = field(default_factory=dict[Hashable, deque[_Call]])

    def push(self, call: _Call) -> None:
        """Let a call wait for its owner's turn."""
        self.calls.setdefault(call.owner, deque()).append(call)

    def next(self) -> list[_Call]:
        """The next calls to run together, all of one owner, none of a tenant that has its part already; may be none.

        The owner's next turn is the last.
        """
        if self.running < self.most:
            for owner, calls in self.calls.items():
                if self.of_tenant[calls[0].tenant] < self.most_each:
                    taken = [calls.popleft()]
                    while calls and len(taken) < self.together and calls[0].alike(taken[0]):
                        taken.append(calls.popleft())
                    del self.calls[owner]
                    if calls:
                        self.calls[owner] = calls
                    return taken
        return []

    def enter(self, call: _Call) -> None:
        """Count a call that runs."""
        self.running += 1
        self.of_tenant[call.tenant] += 1

    def leave(self, call: _Call) -> None:
        """Count it no more."""
        self.running -= 1
        self.of_tenant[call.tenant] -= 1
        if not self.of_tenant[call.tenant]:
            del self.of_tenant[call.tenant]


class Sandbox:
    """Runs code in child processes, which are started when they are needed first."""

    def __init__(self, *, children: int = CHILDREN, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._children = children
        self._idle: list[Child] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._busy: dict[Child, list[_Call]] = {}
        self._taken = 0
        hurry_s, half = self._limits.hurry_s, max(1, children // 2)
        self._quick = _Line(children, half, hurry_s, _TOGETHER)
        self._new = _Line(max(1, children - 2), 1, hurry_s)
        self._slow = _Line(1, 1, self._limits.wall_s)
        self._lines = (self._quick, self._new, self._slow)
        self._known: dict[Hashable, _Line] = {}
        self._closed = False
        self._to_begin = False

    def call(
        self, code: bytes, argument: bytes, *, tenant: Hashable, owner: Hashable, task: bytes = CALL
    ) -> asyncio.Future[Answer]:
        """Run `transform` of this code; the future's exception is NotStarted when there is no sandbox to run it in.

        `owner`, of a `tenant`, is whose turn it is: an endpoint. `task`: see `child`.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._closed:
            answer.cancel()
            return answer
        self._known.get(owner, self._new).push(_Call(tenant, owner, task, code, argument, answer))
        if not self._to_begin:  # what comes at once runs together
            self._to_begin = True
            asyncio.get_running_loop().call_soon(self._begin)
        return answer

    def waiting(self, owner: Hashable) -> int:
        """How many calls of an owner have not begun."""
        return sum(len(line.calls.get(owner, ())) for line in self._lines)

    async def close(self) -> None:
        """Kill every child and cancel all calls."""
        self._closed = True
        waiting = [call for line in self._lines for calls in line.calls.values() for call in calls]
        for call in (*waiting, *(call for calls in self._busy.values() for call in calls)):
            call.answer.cancel()
        for line in self._lines:
            line.calls.clear()
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        for child in (*self._idle, *self._busy):
            child.kill()

    def _begin(self) -> None:
        """Run what may run now."""
        self._to_begin = False
        for line in self._lines:
            while self._taken < self._children and (calls := line.next()):
                self._take(line, calls)

    def _take(self, line: _Line, calls: list[_Call]) -> None:
        self._taken += 1
        line.enter(calls[0])
        if self._idle:
            self._run(self._idle.pop(), line, calls)
        else:
            task = asyncio.get_running_loop().create_task(self._start(line, calls))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self, line: _Line, calls: list[_Call]) -> None:
        child = Child(self._limits)
        try:
            await child.start()
        except NotStarted as none:
            for call in calls:
                if not call.answer.done():
                    call.answer.set_exception(none)
            self._give(line, calls[0])
        except asyncio.CancelledError:
            for call in calls:
                call.answer.cancel()
            raise
        else:
            self._run(child, line, calls)

    def _run(self, child: Child, line: _Line, calls: list[_Call]) -> None:
        self._busy[child] = calls
        arguments = [call.argument for call in calls]
        ended = child.call(calls[0].task, calls[0].code, arguments, within_s=line.within_s)
        for call, answer in zip(calls, ended, strict=True):
            answer.add_done_callback(partial(self._answered, line, call))
        ended[-1].add_done_callback(partial(self._ran, child, line, calls[0]))

    def _answered(self, line: _Line, call: _Call, ended: asyncio.Future[Answer]) -> None:
        answer = ended.result()
        if answer.late and line is not self._slow and not self._closed:
            self._slow.push(call)
        elif not call.answer.done():
            call.answer.set_result(answer)
        self._know(call.owner, self._slow if answer.late or answer.took_s > self._limits.hurry_s else self._quick)

    def _ran(self, child: Child, line: _Line, call: _Call, _ended: asyncio.Future[Answer]) -> None:
        del self._busy[child]
        if child.alive and child.calls < _CALLS:
            self._idle.append(child)
        else:
            child.kill()
        self._give(line, call)

    def _know(self, owner: Hashable, line: _Line) -> None:
        """From now on it waits in this line, with what it has in another."""
        if self._known.get(owner) is line:
            return
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[owner] = line
        for other in self._lines:
            if other is not line and (calls := other.calls.pop(owner, None)):
                line.calls.setdefault(owner, deque()).extend(calls)

    def _give(self, line: _Line, call: _Call) -> None:
        self._taken -= 1
        line.leave(call)
        if not self._closed:
            self._begin()
