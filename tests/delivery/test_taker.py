"""The taker: who asks gets an answer, whatever ends at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from relay.delivery.deliver import Cargo
from relay.delivery.lanes import Lane
from relay.delivery.take import Taken, Want
from relay.delivery.taker import Taker


async def test_who_asks_the_moment_both_transactions_end_is_answered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody: Any = None
    beats: Any = SimpleNamespace(generation=1)
    taker, together = Taker(nobody, nobody, nobody, beats=beats, holdings=nobody), asyncio.Event()

    async def take_together(wants: Sequence[Want]) -> tuple[list[Taken], Cargo]:
        await together.wait()
        return [Taken() for _ in wants], Cargo({}, {})

    monkeypatch.setattr(taker, "_take", take_together)
    want = Want(Lane(UUID(int=1), "", 1))
    asked: list[asyncio.Future[tuple[Taken, int]]] = []
    for _ in range(2):
        asked.append(asyncio.ensure_future(taker.take(want, nobody)))
        await asyncio.sleep(0.01)
    together.set()
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await taker.take(want, nobody) == (Taken(), 0)
        assert await asyncio.gather(*asked) == [(Taken(), 0)] * 2
