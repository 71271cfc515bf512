"""One thing that is done to a client's deliveries, and what it must come to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar
from uuid import UUID

from relay.db import Database
from relay.delivery.fanout import FanOut
from relay.errors import Conflict, RelayError
from tests.delivery.states.model import Model, Seen
from tests.shop import Shop

T = TypeVar("T")
LATER_S = 1800


@dataclass(frozen=True)
class Doing(Generic[T]):
    """Something that is done: `expect` asserts what it came to and moves the model on; `keep` hears of it once, after all."""

    name: str
    do: Callable[[], Awaitable[T]]
    expect: Callable[[Model, T | RelayError, Seen], None]
    keep: Callable[[T], None] = lambda _: None

    async def attempt(self) -> T | RelayError:
        try:
            return await self.do()
        except RelayError as refusal:
            return refusal

    def kept(self, result: T | RelayError) -> None:
        if not isinstance(result, RelayError):
            self.keep(result)


def good(result: T | RelayError) -> T:
    """What came of it, which was no refusal."""
    assert not isinstance(result, RelayError), result
    return result


def decided(result: object, *, wins: bool, or_else: type[RelayError] = Conflict) -> bool:
    """Assert that it won exactly if it had to, and was refused as it had to be; tell whether it won."""
    if wins:
        assert not isinstance(result, RelayError), result
    else:
        assert isinstance(result, or_else), result
    return wins


class Client:
    """Whose deliveries they are."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.db: Database = shop.web.db
        self.ids = shop.web.ids
        self.tenant: UUID = shop.tenant_id
        self.fan = FanOut(self.db, ids=self.ids)
        self.since = datetime.now(UTC)
