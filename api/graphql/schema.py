"""The served schema. `python -m api.graphql.schema` prints it."""

from __future__ import annotations

import sys

import strawberry
from graphql import GraphQLSchema
from strawberry.schema.config import StrawberryConfig
from strawberry.tools import merge_types

from api.graphql import mutations, queries
from api.graphql.activity import ActivityQuery
from api.graphql.analytics import AnalyticsQuery
from api.graphql.api_keys import ApiKeyMutation, ApiKeyQuery
from api.graphql.audit_log import AuditQuery
from api.graphql.clients import ClientMutation, ClientQuery
from api.graphql.endpoint_states import EndpointStateMutation
from api.graphql.enums import register_enums
from api.graphql.erasure import ErasureMutation
from api.graphql.event_types import EventTypeMutation, EventTypeQuery
from api.graphql.explain import ExplainQuery
from api.graphql.filter_test import FilterMutation
from api.graphql.jobs import JobMutation, JobQuery
from api.graphql.needs import check_needs
from api.graphql.queues import QueueMutation, QueueQuery
from api.graphql.recovery import RecoveryMutation
from api.graphql.scalars import SCALARS
from api.graphql.schedule import ScheduleMutation
from api.graphql.secrets import EndpointSecretMutation
from api.graphql.transformations import TransformationMutation
from api.graphql.type_import import TypeImportMutation

_QUERIES = (
    queries.Query, JobQuery, QueueQuery, ActivityQuery, AnalyticsQuery, ClientQuery, ApiKeyQuery, EventTypeQuery, AuditQuery,
    ExplainQuery,
)  # fmt: skip
_MUTATIONS = (
    mutations.Mutation, EndpointStateMutation, ScheduleMutation, RecoveryMutation, JobMutation, QueueMutation,
    ClientMutation, ApiKeyMutation, EndpointSecretMutation, EventTypeMutation, ErasureMutation,
    FilterMutation, TypeImportMutation, TransformationMutation,
)  # fmt: skip
Query = merge_types("Query", _QUERIES)
Mutation = merge_types("Mutation", _MUTATIONS)

register_enums()
schema = strawberry.Schema(query=Query, mutation=Mutation, config=StrawberryConfig(scalar_map=SCALARS))

#: graphql-core's schema under Strawberry's: executed directly, for Strawberry would parse and validate each time anew.
core_schema: GraphQLSchema = schema._schema  # noqa: SLF001
check_needs(core_schema)


def sdl() -> str:
    """Print the schema in GraphQL's schema definition language."""
    return schema.as_str() + "\n"


if __name__ == "__main__":
    sys.stdout.write(sdl())
