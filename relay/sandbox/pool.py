"""A few sandboxes for many customers, none of whom can keep them from the others.

Of the children, one tenant has half at most; code that was slow a short while ago gets one of them, all such code
together, until it has not been slow for a minute. Calls of one owner wait in line, owners have their turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial

from relay.sandbox.child import CALL
from relay.sandbox.process import Answer, Child, Limits, NotStarted

CHILDREN = 4
_SLOW_S = 0.1
_SUSPECT_S = 60.0
_SUSPECTS = 10_000
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


@dataclass(slots=True)
class _Line:
    """Owners with calls that wait, in the order of their turns."""

    most: int
    running: int = 0
    calls: dict[Hashable, deque[_Call]] = field(default_factory=dict[Hashable, deque[_Call]])


class Sandbox:
    """Runs code in child processes, which are started when they are needed first."""

    def __init__(self, *, children: int = CHILDREN, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._children = children
        self._idle: list[Child] = []
        self._running: set[asyncio.Task[None]] = set()
        self._busy: dict[Child, _Call] = {}
        self._taken = 0
        self._of_tenant: Counter[Hashable] = Counter()
        self._most_of_tenant = max(1, children // 2)
        self._quick, self._slow = _Line(children), _Line(max(1, children // 4))
        self._suspects: dict[Hashable, float] = {}
        self._closed = False

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
        line = self._slow if self._is_suspect(owner) else self._quick
        line.calls.setdefault(owner, deque()).append(_Call(tenant, owner, task, code, argument, answer))
        self._begin()
        return answer

    def waiting(self, owner: Hashable) -> int:
        """How many calls of an owner have not begun."""
        return sum(len(line.calls.get(owner, ())) for line in (self._quick, self._slow))

    async def close(self) -> None:
        """Kill every child and cancel all calls."""
        self._closed = True
        for line in (self._quick, self._slow):
            for calls in line.calls.values():
                for one in calls:
                    one.answer.cancel()
            line.calls.clear()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for call in self._busy.values():
            call.answer.cancel()
        for child in (*self._idle, *self._busy):
            child.kill()

    def _is_suspect(self, owner: Hashable) -> bool:
        until_s = self._suspects.get(owner)
        if until_s is None:
            return False
        if until_s > time.monotonic():
            return True
        del self._suspects[owner]
        return False

    def _begin(self) -> None:
        """Run what may run now."""
        for line in (self._quick, self._slow):
            while self._taken < self._children and line.running < line.most:
                call = self._next(line)
                if call is None:
                    break
                self._take(line, call)

    def _next(self, line: _Line) -> _Call | None:
        """The next call of a line: owners in turn, those of a tenant that has its share already left out."""
        for owner, calls in line.calls.items():
            if self._of_tenant[calls[0].tenant] < self._most_of_tenant:
                call = calls.popleft()
                del line.calls[owner]
                if calls:
                    line.calls[owner] = calls
                return call
        return None

    def _take(self, line: _Line, call: _Call) -> None:
        self._taken += 1
        line.running += 1
        self._of_tenant[call.tenant] += 1
        if self._idle:
            self._run(self._idle.pop(), line, call)
        else:
            task = asyncio.get_running_loop().create_task(self._start(line, call))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _start(self, line: _Line, call: _Call) -> None:
        child = Child(self._limits)
        try:
            await child.start()
        except NotStarted as none:
            if not call.answer.done():
                call.answer.set_exception(none)
            self._give(line, call)
        except asyncio.CancelledError:
            call.answer.cancel()
            raise
        else:
            self._run(child, line, call)

    def _run(self, child: Child, line: _Line, call: _Call) -> None:
        self._busy[child] = call
        child.call(call.task, call.code, call.argument).add_done_callback(partial(self._ran, child, line, call))

    def _ran(self, child: Child, line: _Line, call: _Call, ended: asyncio.Future[Answer]) -> None:
        del self._busy[child]
        answer = ended.result()
        if not child.alive or answer.took_s > _SLOW_S:
            self._suspect(call.owner)
        if child.alive and child.calls < _CALLS:
            self._idle.append(child)
        else:
            child.kill()
        if not call.answer.done():
            call.answer.set_result(answer)
        self._give(line, call)

    def _suspect(self, owner: Hashable) -> None:
        """Let it, and what it has in line, run beside other slow code for a while."""
        if len(self._suspects) >= _SUSPECTS:
            self._suspects.clear()
        self._suspects[owner] = time.monotonic() + _SUSPECT_S
        waiting = self._quick.calls.pop(owner, None)
        if waiting:
            self._slow.calls.setdefault(owner, deque()).extend(waiting)

    def _give(self, line: _Line, call: _Call) -> None:
        self._taken -= 1
        line.running -= 1
        self._of_tenant[call.tenant] -= 1
        if not self._of_tenant[call.tenant]:
            del self._of_tenant[call.tenant]
        if not self._closed:
            self._begin()
