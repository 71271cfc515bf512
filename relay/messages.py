"""What lies in the queues, message by message, for whoever looks into them.

Only known keys are read, a page at a time: no KEYS, no SCAN, so whatever else that Redis holds costs nothing. A message
is a hint that there is work, and carries ids only: one that is thrown away here loses no delivery.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import redis.asyncio

from relay.queue import NAMESPACE, QUEUES, WAKE_CHANNEL

#: How many workers are looked at, those that beat last; a fleet has fewer.
WORKERS = 100
_HEARTBEATS = f"{NAMESPACE}:__heartbeats__"
#: What a message has gathered on its way to the failed ones, and must not bring along when it begins again.
_GATHERED = ("retries", "traceback", "eta", "requeue_timestamp")

# KEYS: failed, their messages, the queue's messages, queue. ARGV: id, data, channel, queue's name. All or nothing.
_REQUEUE = """
if redis.call('hdel', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('zrem', KEYS[1], ARGV[1])
if redis.call('hsetnx', KEYS[3], ARGV[1], ARGV[2]) == 1 then redis.call('rpush', KEYS[4], ARGV[1]) end
redis.call('publish', ARGV[3], ARGV[4])
return 1
"""


class Part(StrEnum):
    """Where a message of a queue may lie."""

    READY = "ready"
    DELAYED = "delayed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages of a queue lie where; `in_hand`: a worker has them. `oldest_ms`: when the next one was made."""

    queue: str
    ready: int
    in_hand: int
    delayed: int
    failed: int
    oldest_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message; times in ms since 1970. `due_ms`: delayed ones only, `failed_ms`: failed ones only."""

    id: str
    actor: str
    args: dict[str, Any]
    made_ms: int | None
    due_ms: int | None = None
    failed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some messages of a part, and how many it has in all."""

    messages: Sequence[Message]
    total: int


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process as Dramatiq knows it: when it last beat (ms since 1970), and the messages it has, by queue."""

    id: str
    beat_ms: int
    holds: dict[str, int] = field(default_factory=dict[str, int])


async def depths(client: redis.asyncio.Redis) -> list[Depth]:
    """Count the messages of every queue, at one moment."""
    async with _pipeline(client, atomic=True) as pipe:
        for queue in QUEUES.values():
            name = f"{NAMESPACE}:{queue}"
            pipe.llen(name).hlen(f"{name}.msgs").hlen(f"{name}.DQ.msgs").zcard(f"{name}.XQ").lindex(name, 0)
        told: list[Any] = await pipe.execute()
    rows = [told[start : start + 5] for start in range(0, len(told), 5)]
    oldest = await _made(client, [row[4] for row in rows])
    return [
        Depth(queue, ready, max(0, stored - ready), delayed, failed, made_ms)
        for queue, (ready, stored, delayed, failed, _), made_ms in zip(QUEUES.values(), rows, oldest, strict=True)
    ]


async def _made(client: redis.asyncio.Redis, first: Sequence[bytes | None]) -> list[int | None]:
    """When the first message of each queue was made; None where there is none, or a worker has just taken it."""
    async with _pipeline(client, atomic=False) as pipe:
        for queue, id in zip(QUEUES.values(), first, strict=True):
            pipe.hget(f"{NAMESPACE}:{queue}.msgs", id or b"")
        told: list[bytes | None] = await pipe.execute()
    return [_decoded("", data).made_ms if data else None for data in told]


async def workers(client: redis.asyncio.Redis) -> tuple[list[Worker], int]:
    """Return the worker processes that beat last, up to 100, with what they hold; and how many are listed in all."""
    async with _pipeline(client, atomic=False) as pipe:
        pipe.zrevrange(_HEARTBEATS, 0, WORKERS - 1, withscores=True).zcard(_HEARTBEATS)
        beats, total = await pipe.execute()
    found = [Worker(_text(id), int(beat)) for id, beat in beats]
    async with _pipeline(client, atomic=False) as pipe:
        for worker in found:
            for queue in QUEUES.values():
                acks = f"{NAMESPACE}:__acks__.{worker.id}.{queue}"
                pipe.scard(acks).scard(f"{acks}.DQ")
        held = iter(await pipe.execute() if found else ())
    for worker in found:
        for queue in QUEUES.values():
            if count := next(held) + next(held):
                worker.holds[queue] = count
    return found, total


async def page(client: redis.asyncio.Redis, queue: str, part: Part, *, offset: int, limit: int) -> Page:
    """Return some messages of one part of a queue: the next ones first, of the failed ones the newest.

    Those a worker has taken are not listed: of the delayed ones that is nearly all.
    """
    suffix = {Part.READY: "", Part.DELAYED: ".DQ", Part.FAILED: ".XQ"}[part]
    name, last = f"{NAMESPACE}:{queue}{suffix}", offset + limit - 1
    async with _pipeline(client, atomic=True) as pipe:
        if part is Part.FAILED:
            pipe.zcard(name).zrevrange(name, offset, last, withscores=True)
        else:
            pipe.llen(name).lrange(name, offset, last)
        total, found = await pipe.execute()
    listed = [(_text(id), int(at)) for id, at in found] if part is Part.FAILED else [(_text(id), None) for id in found]
    stored: list[Any] = await client.hmget(f"{name}.msgs", [id for id, _ in listed]) if listed else []
    messages = [
        _decoded(id, data, failed_ms=failed_ms)
        for (id, failed_ms), data in zip(listed, stored, strict=True)
        if data is not None
    ]
    return Page(messages, total)


async def requeue(client: redis.asyncio.Redis, queue: str, id: str) -> bool:
    """Put a failed message back at the end of its queue, to be tried as often as a new one; False when it is gone."""
    name = f"{NAMESPACE}:{queue}"
    data = await client.hget(f"{name}.XQ.msgs", id)
    if data is None:
        return False
    keys = [f"{name}.XQ", f"{name}.XQ.msgs", f"{name}.msgs", name]
    done = await client.eval(_REQUEUE, len(keys), *keys, id, _begun_again(data), WAKE_CHANNEL, queue)
    return done == 1


async def delete(client: redis.asyncio.Redis, queue: str, id: str) -> bool:
    """Throw a failed message away; False when it is gone."""
    name = f"{NAMESPACE}:{queue}.XQ"
    async with _pipeline(client, atomic=True) as pipe:
        pipe.zrem(name, id).hdel(f"{name}.msgs", id)
        removed, _ = await pipe.execute()
    return removed == 1


def _begun_again(data: bytes | str) -> str:
    message = json.loads(data)
    for name in _GATHERED:
        message["options"].pop(name, None)
    return json.dumps(message, separators=(",", ":"))


def _decoded(id: str, data: bytes, *, failed_ms: int | None = None) -> Message:
    """The message in its bytes; what is no message of Dramatiq's is shown as one without an actor."""
    try:
        told = json.loads(data)
        args: dict[str, Any] = {**told["kwargs"], **({"args": told["args"]} if told["args"] else {})}
        due_ms = told["options"].get("eta")
        return Message(id, str(told["actor_name"]), args, int(told["message_timestamp"]), due_ms, failed_ms)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Message(id, "", {}, None, None, failed_ms)


def _pipeline(client: redis.asyncio.Redis, *, atomic: bool) -> Any:
    """Commands that are sent together; Any, because redis-py's types promise an answer where there is the pipeline."""
    return client.pipeline(transaction=atomic)


def _text(id: bytes) -> str:
    return id.decode(errors="replace")
