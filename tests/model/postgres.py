"""A small Postgres: tables of rows, row locks, READ COMMITTED statements, and commits that a crash may forget.

A transaction is driven by a generator: between two `yield`s nothing else happens, so what a real statement does at once
is done without a `yield`, and what it may have to wait for (a lock) yields. An asynchronous commit is safe a second
later, or with the next synchronous one; a crash forgets some suffix of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import Any, Protocol, Self

Key = tuple[str, Any]
#: An activity: each item is how many seconds pass before its next step.
Steps = Generator[float, None, None]

FLUSHED_AFTER_S = 1.0
IDLE_TIMEOUT_S = 5.0
_LOCK_LOOK_S = 0.05


class Lost(Exception):
    """The connection is gone; whether a commit under way was carried out is not known."""


class Deadlock(Exception):
    """This transaction was chosen as the victim and rolled back."""


class Commit(Enum):
    """Whether a commit waits for the disk."""

    SYNCHRONOUS = auto()
    ASYNCHRONOUS = auto()


class Client(Protocol):
    """Who opens transactions."""

    alive: bool
    epoch: int
    replies_to_lose: int

    def distrust(self) -> None:
        """A connection was lost."""
        ...

    def is_stopped(self) -> bool:
        """True while the process is held by SIGSTOP."""
        ...


@dataclass(frozen=True, slots=True)
class _Undo:
    at: float
    rows: list[tuple[str, Hashable, Any]]


@dataclass(slots=True)
class Postgres:
    """The server. `epoch` grows with each crash, as pg_postmaster_start_time() does."""

    random: Random
    ends_idle_transactions: bool
    #: Hears of each commit: the changed rows, and what they were.
    on_commit: Callable[[dict[Key, Any], dict[Key, Any], float], None]
    now: float = 0.0
    epoch: int = 0
    down_until: float = 0.0
    tables: dict[str, dict[Any, Any]] = field(default_factory=dict[str, dict[Any, Any]])
    locks: dict[Key, Transaction] = field(default_factory=dict[Key, "Transaction"])
    open: set[int] = field(default_factory=set[int])
    next_xid: int = 1
    next_n: int = 1
    _unsafe: list[_Undo] = field(default_factory=list[_Undo])

    def table(self, name: str) -> dict[Any, Any]:
        """The committed rows of a table, as a SELECT of this moment finds them."""
        return self.tables.setdefault(name, {})

    def begin(self, client: Client) -> Transaction:
        """Open a transaction; raises Lost while Postgres is down, or on a connection from before a crash."""
        if self.now < self.down_until:
            client.distrust()
            raise Lost
        if client.epoch != self.epoch:
            client.epoch = self.epoch
            if self.random.random() < 0.7:
                client.distrust()
                raise Lost
        self.next_xid += 1
        self.open.add(self.next_xid)
        return Transaction(self, client, self.next_xid)

    def crash(self, *, down_s: float) -> int:
        """Stop hard: every transaction ends and a suffix of the unsafe commits is forgotten; return how many."""
        self._flush_old()
        kept = self.random.randint(0, len(self._unsafe))
        lost = self._unsafe[kept:]
        for undo in reversed(lost):
            for table, key, before in reversed(undo.rows):
                self._set(table, key, before)
        self._unsafe.clear()
        self.locks.clear()
        self.open.clear()
        self.epoch += 1
        self.down_until = self.now + down_s
        return len(lost)

    def apply(self, changes: dict[Key, Any], how: Commit) -> None:
        """Carry out a commit; one that changes nothing waits for nothing."""
        if not changes:
            return
        self._flush_old()
        before = {(table, key): self.table(table).get(key) for table, key in changes}
        self.on_commit(changes, before, self.now)
        undo = _Undo(self.now, [(table, key, row) for (table, key), row in before.items()])
        for (table, key), row in changes.items():
            self._set(table, key, row)
        if how is Commit.SYNCHRONOUS:
            self._unsafe.clear()
        else:
            self._unsafe.append(undo)

    def _set(self, table: str, key: Hashable, row: Any) -> None:
        if row is None:
            self.table(table).pop(key, None)
        else:
            self.table(table)[key] = row

    def _flush_old(self) -> None:
        while self._unsafe and self._unsafe[0].at < self.now - FLUSHED_AFTER_S:
            del self._unsafe[0]


class Transaction:
    """One transaction; a statement outside any is a transaction that commits without a `yield` after its last lock."""

    def __init__(self, postgres: Postgres, client: Client, xid: int) -> None:
        self._postgres = postgres
        self._client = client
        self._epoch = postgres.epoch
        self._changes: dict[Key, Any] = {}
        self._held: list[Key] = []
        self._waits_for: Key | None = None
        self._touched_at = postgres.now
        self._over = False
        self.xid = xid

    def __enter__(self) -> Self:
        """Begin; whatever leaves without a commit is rolled back."""
        return self

    def __exit__(self, *_: object) -> None:
        """Roll back what was not committed."""
        self.abort()

    def lock(self, *keys: Key) -> Steps:
        """Lock rows in the order given, waiting for whoever has them."""
        for key in keys:
            while not self.try_lock(key):
                self._waits_for = key
                self._refuse_deadlock()
                yield _LOCK_LOOK_S * (1 + self._postgres.random.random())
            self._waits_for = None

    def try_lock(self, key: Key) -> bool:
        """Lock a row unless somebody else has it: SKIP LOCKED, and the transaction-level advisory lock."""
        self._check()
        holder = self._postgres.locks.get(key)
        if holder is self:
            return True
        if holder is not None and not holder.ended_by_server():
            return False
        self._postgres.locks[key] = self
        self._held.append(key)
        return True

    def get(self, table: str, key: Hashable) -> Any:
        """The newest version of a row, or None."""
        self._check()
        if (table, key) in self._changes:
            return self._changes[table, key]
        return self._postgres.table(table).get(key)

    def scan(self, table: str) -> Iterator[tuple[Any, Any]]:
        """Rows as a new statement sees them, in key order."""
        self._check()
        keys = {*self._postgres.table(table), *(key for name, key in self._changes if name == table)}
        found = [(key, self.get(table, key)) for key in sorted(keys, key=repr)]
        return iter([(key, row) for key, row in found if row is not None])

    def put(self, table: str, key: Hashable, row: Any) -> None:
        """Insert or update a row; None deletes it."""
        self._check()
        self._changes[table, key] = row

    def snapshot(self) -> tuple[int, int]:
        """xmin and xmax of a statement's snapshot: below the one all is decided, from the other on nothing had begun."""
        xmax = self._postgres.next_xid + 1
        return min(self._postgres.open - {self.xid}, default=xmax), xmax

    def commit(self, how: Commit = Commit.SYNCHRONOUS) -> None:
        """Commit; Lost may come after it was carried out, when its reply does not arrive."""
        self._check()
        self._postgres.apply(self._changes, how)
        self._end()
        if self._client.replies_to_lose and self._changes:
            self._client.replies_to_lose -= 1
            self._client.distrust()
            raise Lost

    def abort(self) -> None:
        """Roll back, unless it is over already."""
        if not self._over:
            self._end()

    def ended_by_server(self) -> bool:
        """True when its client is dead, or was idle in it for too long: its locks are free."""
        idle = self._postgres.now - self._touched_at >= IDLE_TIMEOUT_S and self._postgres.ends_idle_transactions
        if not self._client.alive or (self._client.is_stopped() and idle):
            self.abort()
        return self._over

    def _check(self) -> None:
        if self._over or self._epoch != self._postgres.epoch or self._postgres.now < self._postgres.down_until:
            self.abort()
            self._client.distrust()
            raise Lost
        self._touched_at = self._postgres.now

    def _refuse_deadlock(self) -> None:
        seen: set[int] = set()
        other: Transaction | None = self
        while other is not None and other._waits_for is not None and id(other) not in seen:
            seen.add(id(other))
            other = self._postgres.locks.get(other._waits_for)
            if other is self:
                self.abort()
                raise Deadlock

    def _end(self) -> None:
        self._over = True
        self._postgres.open.discard(self.xid)
        for key in self._held:
            if self._postgres.locks.get(key) is self:
                del self._postgres.locks[key]
