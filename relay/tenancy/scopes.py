"""What a key allows."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """The scope that a root field of the API asks for; OPERATOR reaches across clients."""

    SEND = "send"
    READ = "read"
    MANAGE = "manage"
    ADMIN = "admin"
    OPERATOR = "operator"


#: What an ordinary key of a client may do.
CLIENT_SCOPES = frozenset({Scope.SEND, Scope.READ, Scope.MANAGE, Scope.ADMIN})
