"""Redis: it answers, throws nothing away, has a limit, writes, and somebody takes over when it is gone.

All is read by INFO, which every provider allows; CONFIG many do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis.asyncio

from relay.doctor.given import Given, host_of
from relay.doctor.verdict import (
    Check,
    Finding,
    Scope,
    Verdict,
    answers,
    bad,
    doubtful,
    good,
    sentence,
    unanswered,
    unseen,
)
from relay.queue import UNREACHABLE
from relay.redis_clients import Limits, asyncio_client, asyncio_cluster
from relay.redis_urls import Kind, parse

_TIMEOUT_S = 5.0
_FULL = 0.75


@dataclass(frozen=True, slots=True)
class Instance:
    """What the Redis of the queues says of itself (INFO), and what was given."""

    info: dict[str, Any]
    given: Given


def client(url: str) -> redis.asyncio.Redis:
    """A connection for a passing visitor."""
    return asyncio_client(url, Limits(2, _TIMEOUT_S))


async def info(url: str) -> dict[str, Any]:
    """All that INFO says."""
    async with client(url) as connection:
        return await connection.info("everything")


def reachable(instance: Instance) -> Verdict:
    """Whether the Redis of the queues answers and takes writes."""
    kind = f"Redis {instance.info.get('redis_version', '?')}"
    if instance.info.get("role") in ("slave", "replica"):
        return bad(f"REDIS_URL leads to a replica ({kind}), which takes no writes.", "Name the primary in REDIS_URL.")
    return good(f"The Redis of the queues answers ({kind}, or a Valkey that says so).")


async def state(given: Given) -> Verdict:
    """Whether the Redis that counts for circuit breakers answers."""
    url = given.settings.state_url
    cluster = parse(url).kind is Kind.CLUSTER
    async with asyncio_cluster(url, Limits(2, _TIMEOUT_S)) if cluster else client(url) as connection:
        await connection.ping()
    return good("The Redis that counts for circuit breakers answers.")


def eviction(instance: Instance) -> Verdict:
    """Whether Redis refuses, rather than throws away, when it is full."""
    policy = instance.info.get("maxmemory_policy")
    if policy is None:
        return unseen("maxmemory-policy, which this Redis does not tell.", "Set maxmemory-policy noeviction.")
    if policy != "noeviction":
        return bad(
            f"maxmemory-policy is {policy}: hints are thrown away, and what they hint at waits for the clock.",
            "Set maxmemory-policy noeviction.",
        )
    return good("maxmemory-policy is noeviction.")


def memory_limit(instance: Instance) -> Verdict:
    """Whether Redis stops before its machine does."""
    limit, used = int(instance.info.get("maxmemory") or 0), int(instance.info.get("used_memory") or 0)
    if limit == 0:
        return bad(
            f"maxmemory is not set: Redis ({used >> 20} MiB now) grows until its machine kills it.",
            "Set maxmemory to about three quarters of what its machine or container has.",
        )
    reason = f"Redis uses {used >> 20} of {limit >> 20} MiB."
    if used > limit * _FULL:
        return doubtful(reason, "See whether workers keep up (`relay stats`), or raise maxmemory.")
    return good(reason)


def persistence(instance: Instance) -> Verdict:
    """Whether Redis writes to disk as it was told to, and whether it is told to."""
    seen = instance.info
    failed = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if seen.get(name, "ok") != "ok"
    ]
    if failed:
        return bad(
            f"Redis could not save ({', '.join(failed)}), and may refuse writes until it can.",
            "See its log and its disk.",
        )
    if not int(seen.get("aof_enabled") or 0):
        return doubtful(
            "appendonly is no: nothing is lost with it, but after a restart of Redis hints are made anew.",
            "Set appendonly yes where a restart should not be noticed.",
        )
    return good("appendonly is yes, and the last writes succeeded.")


def availability(instance: Instance) -> Verdict:
    """Whether somebody can take over from this Redis."""
    url, seen = instance.given.settings.redis_url, instance.info
    replicas = [value for name, value in seen.items() if name.startswith("slave") and isinstance(value, dict)]
    online = sum(replica.get("state") == "online" for replica in replicas)
    if len(replicas) > online:
        return bad(
            f"{len(replicas) - online} of {len(replicas)} replicas of Redis are not online.",
            "See whether they run and reach the primary.",
        )
    if not replicas:
        return bad(
            "Redis has no replica: while it is away events are stored and none is delivered.",
            "Run a replica with Sentinel, or a managed Redis that fails over by itself.",
        )
    if "sentinel" not in url.partition("://")[0]:
        return doubtful(
            f"{online} replicas follow Redis, and REDIS_URL names one host ({host_of(url)}).",
            "Name Sentinels in REDIS_URL, unless that host's name follows the primary.",
        )
    return good(f"{online} replicas follow Redis, and Sentinels tell who is the primary.")


STATE_CHECKS = (Check("redis-state", state, Scope.EVERYWHERE),)
QUEUE_CHECKS = (
    Check("redis", reachable, Scope.EVERYWHERE),
    Check("redis-eviction", eviction),
    Check("redis-memory-limit", memory_limit),
    Check("redis-persistence", persistence),
    Check("redis-replica", availability),
)
CHECKS = (*QUEUE_CHECKS, *STATE_CHECKS)


async def examine(given: Given) -> list[Finding]:
    """Ask both instances; one that does not answer fails what would have been asked of it."""
    state_findings = await answers("redis", STATE_CHECKS, given, scopes=given.scopes)
    try:
        seen = Instance(await info(given.settings.redis_url), given)
    except (*UNREACHABLE, ValueError) as cause:
        away = bad(f"not seen: Redis does not answer ({sentence(cause)}).", "Start it, or mend REDIS_URL.")
        return unanswered("redis", QUEUE_CHECKS, away, scopes=given.scopes) + state_findings
    return await answers("redis", QUEUE_CHECKS, seen, scopes=given.scopes) + state_findings
