"""A client whose deliveries died, and what tests of recovery ask of the tables."""

from __future__ import annotations

import pytest

from relay.db import Conn
from tests.rows import World, make_world


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)
