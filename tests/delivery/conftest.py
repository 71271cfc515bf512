"""What tests of sending share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.delivery.addresses import Guard
from relay.delivery.transport import Transport
from tests.delivery.receiver import LOOPBACK


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """A transport that may reach loopback."""
    made = Transport(Guard(LOOPBACK))
    yield made
    await made.close()
