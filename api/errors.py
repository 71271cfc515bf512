"""The one table from Relay's errors to the wire: an HTTP status, and what a client is shown."""

from __future__ import annotations

import logging
import math
from typing import Any

from relay.db import LOST
from relay.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    RelayError,
    Throttled,
    TooLarge,
    TooSlow,
    Unauthenticated,
    Unavailable,
)

log = logging.getLogger("relay.api")

#: HTTP status of each error; a subclass without an entry has its parent's.
HTTP_STATUS: dict[type[RelayError], int] = {
    Invalid: 400,
    TooLarge: 413,
    TooSlow: 408,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Throttled: 429,
    Unavailable: 503,
}
_DEFAULT_RETRY_S = 1.0


class MethodNotAllowed(Invalid):
    """The path exists, but not with this method."""


HTTP_STATUS[MethodNotAllowed] = 405


def status_of(error: RelayError) -> int:
    """The HTTP status of an error that ends a request."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)


def shown(error: BaseException, *, request_id: str) -> RelayError:
    """What the client may see of any exception; one that Relay did not foresee is logged with its trace, not shown."""
    if isinstance(error, RelayError):
        return error
    if isinstance(error, LOST):
        log.warning("Postgres could not be reached: %r", error, extra={"request_id": request_id})
        return Unavailable("Postgres cannot be reached at the moment. Try again.", retry_after_s=_DEFAULT_RETRY_S)
    log.error("internal error", exc_info=error, extra={"request_id": request_id})
    return Unavailable("internal error")


def rest_body(error: RelayError) -> dict[str, Any]:
    """An error as REST answers show it."""
    return {"code": error.code, "message": error.message, "field": error.field}


def graphql_extensions(error: RelayError, *, request_id: str) -> dict[str, Any]:
    """An error's `extensions` in a GraphQL answer."""
    extensions: dict[str, Any] = {"code": error.code, "requestId": request_id}
    if error.field is not None:
        extensions["field"] = error.field
    if error.retry_after_s is not None:
        extensions["retryAfterMs"] = math.ceil(error.retry_after_s * 1000)
    return extensions


def headers_of(error: RelayError) -> dict[str, str]:
    """The headers that belong to an error: when to come back, or how to say who one is."""
    if isinstance(error, (Throttled, Unavailable)):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s or _DEFAULT_RETRY_S)))}
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, (TooLarge, TooSlow)):
        return {"Connection": "close"}  # nobody reads what may still come
    return {}
