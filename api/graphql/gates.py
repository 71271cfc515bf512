"""An endpoint's gate and circuit as GraphQL shows them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import strawberry

from api.graphql.context import RelayInfo
from relay.delivery import gates
from relay.delivery.gates import CircuitStatus, Epoch
from relay.delivery.outcomes import Reason


@strawberry.type(description="Why an endpoint gets nothing now, and until when (null: until somebody acts).")
class Gate:
    """What holds an endpoint back."""

    reason: Reason
    until: datetime | None


@strawberry.type
class CircuitState:
    """An endpoint's circuit."""

    state: CircuitStatus
    opened_at: datetime | None
    next_probe_at: datetime | None
    epoch: strawberry.Private[Epoch]
    circuit: strawberry.Private[gates.Circuit]

    @strawberry.field(description="Consecutive.")
    async def failures(self, info: RelayInfo) -> int:
        """How many attempts failed, one after the other."""
        return self.circuit.failures(await info.context.loaders.failures.load(self.epoch))


def gate_node(gate: gates.Gate) -> Gate:
    """Show a gate."""
    return Gate(reason=gate.reason, until=gate.until)


async def gate_of(info: RelayInfo, endpoint_id: UUID) -> Gate | None:
    """Show what holds an endpoint back now, if anything does."""
    standing = await info.context.loaders.standings.load(endpoint_id)
    return gate_node(standing.gate) if standing and standing.gate else None


async def circuit_of(info: RelayInfo, endpoint_id: UUID) -> CircuitState:
    """Show an endpoint's circuit."""
    standing = await info.context.loaders.standings.load(endpoint_id)
    if standing is None:
        raise LookupError(f"endpoint {endpoint_id} without its lane")
    circuit = standing.circuit
    return CircuitState(
        state=circuit.status,
        opened_at=circuit.opened_at,
        next_probe_at=circuit.next_probe_at,
        epoch=(endpoint_id, circuit.epoch),
        circuit=circuit,
    )
