"""Who calls: the key of a request, the client it belongs to or acts for, and what it may do."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

from falcon.asgi import Request

from relay.catalog.secrets import Vault
from relay.db import Database
from relay.errors import Forbidden, Invalid, Unauthenticated
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import Scope

_LIFETIME_S = 5.0
_MAX_KEPT = 10_000
_CLIENT_HEADER = "X-Relay-Client"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose data a request sees, and what it may do with it."""

    tenant_id: UUID
    scopes: frozenset[Scope]
    name: str
    #: An operator that acts for no client in particular: totals are those of all clients.
    sees_all_clients: bool = False
    #: Requests a second that this client may make; 0: the setting says.
    rate_limit_per_sec: int = 0
    #: None without auth.
    key_id: UUID | None = None
    #: An operator that acts for a client (X-Relay-Client).
    acts_for: bool = False

    @property
    def is_operator(self) -> bool:
        """Whether the key reaches across clients."""
        return Scope.OPERATOR in self.scopes

    def require(self, scopes: Collection[Scope]) -> None:
        """Raise Forbidden unless the key has each of these scopes; an operator has them all."""
        if self.is_operator or self.scopes.issuperset(scopes):
            return
        missing = min(scope.name for scope in set(scopes) - self.scopes)
        raise Forbidden(f"This key lacks the scope {missing}.")


class Authenticator(Protocol):
    """Finds out who calls."""

    async def caller(self, req: Request) -> Caller:
        """Return who sent the request; Unauthenticated when nobody can tell."""
        ...


class Keys:
    """Callers by their API keys; a key that worked is remembered for 5 s, so a revoked one ends within that time."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: OrderedDict[tuple[bytes, str | None], tuple[float, Caller]] = OrderedDict()

    async def caller(self, req: Request) -> Caller:
        """Return who sent the request; Unauthenticated without a key that works."""
        key = presented_key(req)
        if key is None:
            raise Unauthenticated("An API key is needed: send it as X-API-Key, or as Authorization: Bearer.")
        client = req.get_header(_CLIENT_HEADER)
        identity = hashlib.sha256(key.encode()).digest(), client
        now = time.monotonic()
        kept = self._kept.get(identity)
        if kept is not None and kept[0] > now:
            return kept[1]
        caller = await self._look_up(key, client)
        self._kept.pop(identity, None)
        self._kept[identity] = now + _LIFETIME_S, caller
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return caller

    async def _look_up(self, key: str, client: str | None) -> Caller:
        async with self._db.connection() as conn:
            principal = await api_keys.find_principal(conn, key)
            if principal is None:
                raise Unauthenticated("This API key does not work.")
            is_operator = Scope.OPERATOR in principal.scopes
            caller = Caller(
                tenant_id=principal.tenant_id,
                scopes=principal.scopes,
                name=principal.name,
                sees_all_clients=is_operator and client is None,
                rate_limit_per_sec=principal.rate_limit_per_sec,
                key_id=principal.key_id,
            )
            if client is None:
                return caller
            if not is_operator:
                raise Forbidden(f"Only an operator's key may act for a client with {_CLIENT_HEADER}.")
            tenant = await tenants.get(conn, _client_id(client))
            limit = tenant.rate_limit_per_sec
            return replace(caller, tenant_id=tenant.id, rate_limit_per_sec=limit, acts_for=True)


class Everybody:
    """Development without keys: whoever calls is the one client, with every scope."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db = db
        self._vault = vault
        self._caller: Caller | None = None

    async def caller(self, req: Request) -> Caller:
        """Return the one caller; Forbidden to a page of another site that a browser here has open."""
        origin = req.get_header("Origin")
        if origin is not None and urlsplit(origin).netloc != req.get_header("Host"):
            raise Forbidden("Without keys, Relay answers no page of another site.")
        if self._caller is None:
            async with self._db.connection() as conn:
                client, _ = await tenants.ensure(conn, tenants.DEFAULT_NAME, vault=self._vault)
            self._caller = Caller(tenant_id=client.id, scopes=frozenset(Scope), name=client.name)
        return self._caller


def _client_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as cause:
        raise Invalid(f"{_CLIENT_HEADER} must be a client's id.", field=_CLIENT_HEADER) from cause


def take_basic(req: Request) -> None:
    """Let Basic count for this request, though it is no GET: it comes from a page of ours, and no other site's."""
    req.context.takes_basic = True


def presented_key(req: Request) -> str | None:
    """The key that came with the request. Basic (the key as password) is for browsers and counts for GET only.

    A browser sends it along with whatever any site has it post; see `take_basic`.
    """
    key = req.get_header("X-API-Key")
    if key:
        return key.strip()
    scheme, _, value = (req.get_header("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    if scheme.lower() == "basic" and (req.method == "GET" or req.context.get("takes_basic")):
        return _password(value)
    return None


def _password(basic: str) -> str | None:
    try:
        return base64.b64decode(basic, validate=True).decode().partition(":")[2] or None
    except (binascii.Error, UnicodeDecodeError):
        return None
