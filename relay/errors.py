"""The seven errors of Relay: a code, a sentence safe to show, and what it is about. `api/errors.py` maps them to the wire."""

from __future__ import annotations


class RelayError(Exception):
    """Something a caller can be told; `message` never holds a secret or a trace."""

    code = "UNAVAILABLE"

    def __init__(self, message: str, *, field: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


class Invalid(RelayError):
    """The input breaks a rule; `field` names where."""

    code = "INVALID"


class Unauthenticated(RelayError):
    """No key, or one that does not work."""

    code = "UNAUTHENTICATED"


class Forbidden(RelayError):
    """The key is good but lacks the scope."""

    code = "FORBIDDEN"


class NotFound(RelayError):
    """It never existed, or belongs to somebody else: the two look the same."""

    code = "NOT_FOUND"


class Conflict(RelayError):
    """The thing is not in a state that allows this."""

    code = "CONFLICT"


class Throttled(RelayError):
    """Too many requests; `retry_after_s` says when to come back."""

    code = "THROTTLED"


class Unavailable(RelayError):
    """Relay cannot do it now; the same request may work later."""

    code = "UNAVAILABLE"


class TooLarge(Invalid):
    """Over a size limit: INVALID for GraphQL, 413 for HTTP."""


class TooSlow(Invalid):
    """A request that does not arrive: INVALID for GraphQL, 408 for HTTP."""
