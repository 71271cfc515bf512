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

    # Order

    #: A FIFO lane counts its places, not those who wait in it.
    lane_counts_places: bool = True
    #: A FIFO lane's next is its smallest seq in any state: sent now, or waiting for a retry, it holds up the rest.
    head_in_any_state: bool = True
    #: The place in which a head is sent is taken before the head.
    seat_before_take: bool = True
    #: Takes and records of heads wait for the disk.
    heads_are_durable: bool = True
    #: The final record of a head rings its lane.
    record_rings_lane: bool = True
    #: The holder of a FIFO lane keeps it until its head is recorded.
    holder_waits_for_record: bool = True
    #: A FIFO lane is let go until its head is due, not until anything in it is.
    release_looks_at_head: bool = True
    #: A dead head blocks its lane (where the endpoint wants that) in the transaction of its record.
    record_blocks_lane: bool = True
    #: Nothing is taken from a blocked lane.
    take_refuses_blocked: bool = True

    # Gates

    #: A claim takes nothing that a gate holds.
    claim_looks_at_gates: bool = True
    #: A pause takes back what was handed out and nobody has claimed, after the commit of its gate.
    pause_takes_back: bool = True
    #: What is being claimed at that moment it waits for: that is in flight when the pause is answered.
    pause_waits_for_claims: bool = True
    #: A take reads the gate after it has locked it.
    gates_after_lock: bool = True
    #: The clock lets lanes behind a gate sleep.
    gates_put_to_sleep: bool = True
    #: A resume rings every lane.
    resume_rings: bool = True
    #: And once more after its commit.
    rings_after_resume: bool = True
    #: A circuit whose time is over is a gate until a probe has closed it.
    half_open_is_a_gate: bool = True
    #: Who probes says so at the gate, and nobody else does until then.
    one_probe: bool = True
    #: A probe whose outcome nobody hears of is over at some time.
    probe_expires: bool = True
    #: A circuit that closes rings every lane.
    close_rings: bool = True
    #: And once more after that commit.
    rings_after_close: bool = True
    #: An outcome moves a circuit only in the epoch it was sent under.
    epochs: bool = True

    def without(self, *names: str) -> Rules:
        """These rules but for the named ones."""
        return replace(self, **dict.fromkeys(names, False))


NAMES = tuple(one.name for one in fields(Rules))
