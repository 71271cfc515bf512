"""The rules of the protocol, each of which can be switched off to show what it is there for."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Rules:
    """All on: the protocol as it is meant to be. Off: what a plain reading would have done in that place."""

    #: A delivery handed out and claimed by nobody for 5 s is handed out again, under the same fence.
    resend_deliveries: bool = True
    #: So is a lane that nobody holds.
    resend_lanes: bool = True
    #: What Postgres thinks is ours and memory does not know goes back, after two beats.
    reconcile: bool = True
    #: Numbers that own something without being in `workers` are given back, too.
    give_back_orphans: bool = True
    #: A lane is locked for its release before its rows are read, in a statement of its own.
    lock_before_release: bool = True
    #: Those who add work to a lane ring it in the same transaction.
    ring: bool = True
    #: An (id, fence) in memory is never claimed again by this process.
    remember_claims: bool = True
    #: An outcome changes only a row that has its fence still.
    fence_on_record: bool = True
    #: What is put back, or waits again, must still be this worker's: the fence of a message survives a lost claim.
    owner_on_return: bool = True
    #: A claim made under an old number, or before a lost connection, is not sent.
    generation: bool = True
    #: A process that has not beaten for 8 s sends nothing.
    fresh_beat: bool = True
    #: A take from a lane sets owner and fence together.
    take_owns: bool = True
    #: What was claimed goes back when its contents cannot be read.
    put_back_unread: bool = True
    #: What a take entered into memory leaves it when its commit failed.
    forget_failed_take: bool = True
    #: Postgres ends a transaction that stands idle for 5 s.
    idle_timeout: bool = True
    #: The outbox hint passes over a number only when nothing smaller can still commit.
    patient_hint: bool = True

    def without(self, *names: str) -> Rules:
        """These rules but for the named ones."""
        return replace(self, **dict.fromkeys(names, False))


NAMES = tuple(one.name for one in fields(Rules))
