"""Endpoints that a command makes for itself and takes away when it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relay.cli.api_client import Client
from relay.errors import RelayError

_CREATE = """mutation CreateEndpoint($input: CreateEndpointInput!) {
  createEndpoint(input: $input) { secret endpoint { id } }
}"""
_DELETE = "mutation DeleteEndpoint($id: ID!) { deleteEndpoint(id: $id) }"


@dataclass(frozen=True, slots=True)
class OwnEndpoint:
    """An endpoint just made; the secret signs what it is sent."""

    id: str
    secret: str


def create(client: Client, fields: dict[str, Any]) -> OwnEndpoint:
    """Make an endpoint from the fields of CreateEndpointInput."""
    created = client.graphql(_CREATE, {"input": fields})["createEndpoint"]
    return OwnEndpoint(id=created["endpoint"]["id"], secret=created["secret"])


def delete(client: Client, id: str) -> None:
    """Take an endpoint away; where that fails it is told on stderr, for the command is ending anyway."""
    try:
        client.graphql(_DELETE, {"id": id})
    except RelayError as cause:
        print(f"Endpoint {id} is still there: {cause.message}", file=sys.stderr)


@contextlib.contextmanager
def lent(client: Client, fields: dict[str, Any]) -> Iterator[OwnEndpoint]:
    """Lend an endpoint for the time of a block."""
    made = create(client, fields)
    try:
        yield made
    finally:
        delete(client, made.id)
