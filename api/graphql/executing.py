"""Executing an operation so that nothing of it is left behind."""

from __future__ import annotations

from collections.abc import Awaitable
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any, TypeGuard

from graphql import DocumentNode, ExecutionResult, GraphQLSchema
from graphql.execution import execute


async def executed(
    schema: GraphQLSchema,
    document: DocumentNode,
    *,
    context: object,
    variables: dict[str, Any],
    operation_name: str | None,
) -> ExecutionResult:
    """Execute a document that is valid for the schema.

    When a field fails, graphql-core cancels those beside it, some before their first step, and drops them; Python would
    complain of each in the log.
    """
    coroutines = _Coroutines()
    try:
        result = execute(
            schema,
            document,
            context_value=context,
            variable_values=variables,
            operation_name=operation_name,
            is_awaitable=coroutines.is_awaitable,
        )
        return result if isinstance(result, ExecutionResult) else await result
    finally:
        coroutines.close()


class _Coroutines:
    """Those of one execution, which asks of each value whether it can be awaited."""

    def __init__(self) -> None:
        self._seen: list[CoroutineType[Any, Any, Any]] = []

    def is_awaitable(self, value: object) -> TypeGuard[Awaitable[Any]]:
        if isinstance(value, CoroutineType):
            self._seen.append(value)
            return True
        return hasattr(value, "__await__")

    def close(self) -> None:
        """Close those that nobody began."""
        for one in self._seen:
            if getcoroutinestate(one) == CORO_CREATED:
                one.close()
