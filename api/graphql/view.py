"""POST /graphql: from bytes to an operation, and from its result to bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
from falcon.asgi import Request, Response
from graphql import ExecutionResult, GraphQLError

from api.auth import Authenticator, Caller, presented_key
from api.bodies import decode, read_body
from api.deadlines import deadline
from api.errors import graphql_extensions, shown
from api.graphql.context import Context
from api.graphql.documents import Documents, Operation, Rejected
from api.graphql.executing import executed
from api.graphql.places import field_of
from api.graphql.schema import core_schema, sdl
from api.graphql.variables import NO_VARIABLES, read_variables, refusals, unquoted
from api.sending import Sending
from relay.db import Database
from relay.errors import Invalid, RelayError, Unauthenticated
from relay.runtime import Web
from relay.tenancy.scopes import Scope


class GraphQLRequest(msgspec.Struct):
    """The body of a request; `variables` stays as it came until their types are known."""

    query: str
    variables: msgspec.Raw = NO_VARIABLES
    operationName: str | None = None  # noqa: N815 - the name that GraphQL over HTTP fixes


_NO_INTROSPECTION = (
    "Introspection is off; ENABLE_PLAYGROUND=true turns it on."
    " GET /graphql/schema prints the schema to a key with READ."
)
_request = msgspec.json.Decoder(GraphQLRequest)


class GraphQLResource:
    """Executes GraphQL operations and shows the schema."""

    def __init__(self, web: Web, *, callers: Authenticator, sending: Sending) -> None:
        self._web = web
        self._callers = callers
        self._sending = sending
        self._documents = Documents(core_schema)

    async def on_post(self, req: Request, resp: Response) -> None:
        """Execute the operation of the body. When it ends before a field ran, the HTTP status says so too; else 200."""
        resp.content_type = "application/json"
        try:
            result = await self._answer(req)
        except Rejected as rejected:
            resp.status = 400
            resp.data = msgspec.json.encode({"errors": [_refusal(error, rejected, req) for error in rejected.errors]})
            return
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [_field_error(error, req) for error in result.errors]
        resp.data = msgspec.json.encode(answer)

    async def on_get_schema(self, req: Request, resp: Response) -> None:
        """Print the schema that is served."""
        caller = await self._callers.caller(req)
        caller.require([Scope.READ])
        resp.content_type = "text/plain; charset=utf-8"
        resp.text = sdl()

    async def _answer(self, req: Request) -> ExecutionResult:
        settings = self._web.settings
        caller = await self._caller(req)
        body = await read_body(req, limit=settings.max_request_bytes, within_s=settings.request_timeout_s)
        request = decode(body, _request)
        operation = self._documents.operation(request.query, request.operationName)
        if operation.introspects and not settings.enable_playground:
            raise Invalid(_NO_INTROSPECTION, field="query")
        if isinstance(caller, Unauthenticated):
            if not operation.is_introspection:
                raise caller
            return await _execute(operation, {}, None)
        caller.require(operation.scopes)
        variables = read_variables(request.variables, operation.variables)
        request_id: str = req.context.request_id

        def reading(db: Database) -> Context:
            return Context(
                web=self._web, db=db, sending=self._sending, caller=caller, request_id=request_id, ip=req.remote_addr
            )

        async with deadline(settings.request_timeout_s):
            db = self._web.replica.database() if operation.may_be_stale else self._web.db
            result = await _execute(operation, variables, reading(db))
            if db is not self._web.db and _failed_by_postgres(result):
                result = await _execute(operation, variables, reading(self._web.db))
            return result

    async def _caller(self, req: Request) -> Caller | Unauthenticated:
        """Who calls; with the playground on, who shows no key may still ask for the schema."""
        try:
            return await self._callers.caller(req)
        except Unauthenticated as refusal:
            if not self._web.settings.enable_playground or presented_key(req) is not None:
                raise
            return refusal


async def _execute(operation: Operation, variables: dict[str, Any], context: Context | None) -> ExecutionResult:
    result = await executed(
        core_schema, operation.document, context=context, variables=variables, operation_name=operation.name
    )
    if result.data is None and result.errors and all(error.path is None for error in result.errors):
        unfit = [GraphQLError(e.message, original_error=e) for e in refusals(variables, operation.variables)]
        raise Rejected(unfit or result.errors, operation.document)
    return result


def _failed_by_postgres(result: ExecutionResult) -> bool:
    """Whether a replica is away, cancelled a statement that held up its replay, or has not replayed a migration yet."""
    return any(isinstance(error.original_error, psycopg.Error) for error in result.errors or ())


def _refusal(error: GraphQLError, rejected: Rejected, req: Request) -> dict[str, Any]:
    """An error from before execution: always INVALID, with the place in the document."""
    cause = error.original_error
    if not isinstance(cause, RelayError):
        cause = Invalid(unquoted(error.message), field=field_of(error, rejected.document))
    return _rendered(error, cause, req)


def _field_error(error: GraphQLError, req: Request) -> dict[str, Any]:
    """An error of one field, which may be anybody's exception."""
    request_id = req.context.request_id
    if error.original_error is None:
        return _rendered(error, Invalid(unquoted(error.message)), req)
    return _rendered(error, shown(error.original_error, request_id=request_id), req)


def _rendered(error: GraphQLError, cause: RelayError, req: Request) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "message": cause.message,
        "extensions": graphql_extensions(cause, request_id=req.context.request_id),
    }
    if error.locations:
        rendered["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path is not None:
        rendered["path"] = error.path
    return rendered
