"""What kind of server answers at the Redis URLs, asked once at the start of a process: a wrong kind is a wrong setting.

Redis may be away at that time, for Relay accepts events without it; then nothing is refused, and the start goes on.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import redis

from relay.redis_clients import Limits, asyncio_client
from relay.redis_urls import NO_CLUSTER, Kind, RedisUrl, parse
from relay.settings import Settings, SettingsError

_PATIENCE_S = 1.0
_AWAY = (redis.RedisError, OSError, TimeoutError)


def refuse_wrong_redis(settings: Settings) -> list[str]:
    """Raise SettingsError where a URL leads to the wrong kind of server, or names a file that cannot be read.

    Return a sentence for each server that does not answer within a second. For entry points: it runs an event loop.
    """
    urls = {"REDIS_URL": parse(settings.redis_url)}
    if settings.redis_state_url:
        urls["REDIS_STATE_URL"] = parse(settings.redis_state_url)
    for name, url in urls.items():
        for option, path in url.files.items():
            if (reason := _unreadable(Path(path))) is not None:
                raise SettingsError(f"{name}: {option} names {path}, which cannot be read ({reason}).")
    away: list[str] = []
    for name, url in urls.items():
        try:
            mode = asyncio.run(_mode(url))
        except _AWAY as cause:
            away.append(f"{name}: no answer from {url.places} yet ({cause or type(cause).__name__}); starting without.")
        else:
            _refuse(name, url.kind, mode)
    return away


def _refuse(name: str, kind: Kind, mode: str) -> None:
    if kind is Kind.CLUSTER and mode != "cluster":
        raise SettingsError(f"{name}: must not start with redis+cluster://, for what answers there is no cluster.")
    if kind is not Kind.CLUSTER and mode == "cluster":
        wanted = NO_CLUSTER if name == "REDIS_URL" else "must start with redis+cluster://, for a cluster answers there"
        raise SettingsError(f"{name}: {wanted}.")
    if mode == "sentinel":
        raise SettingsError(f"{name}: must be redis+sentinel://…?service=NAME, for a sentinel answers there.")


async def _mode(url: RedisUrl) -> str:
    """`standalone`, `cluster` or `sentinel`, as the server calls itself; of a cluster, the first node that answers."""
    nodes = [replace(url, kind=Kind.SERVER, hosts=(host,)) for host in url.hosts] if url.kind is Kind.CLUSTER else [url]
    reason: Exception = redis.ConnectionError()
    async with asyncio.timeout(_PATIENCE_S):
        for node in nodes:
            try:
                return await _ask(node)
            except _AWAY as cause:
                reason = cause
    raise reason


async def _ask(url: RedisUrl) -> str:
    async with aclosing(asyncio_client(url, Limits(1, timeout_s=_PATIENCE_S))) as client:
        told = await client.info("server")
    return str(told.get("redis_mode") or told.get("server_mode") or "standalone")


def _unreadable(path: Path) -> str | None:
    try:
        if not path.is_dir():
            path.read_bytes()
    except OSError as cause:
        return str(cause.strerror)
    return None
