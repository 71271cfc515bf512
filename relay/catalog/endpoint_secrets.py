"""The secrets that sign what endpoints get: changed with an overlap, in which the old one signs, too."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from relay.catalog import endpoints, secrets
from relay.catalog.secrets import Vault
from relay.db import Conn
from relay.delivery.signing import check_endpoint_secret, new_secret


async def rotate(
    conn: Conn, tenant_id: UUID, endpoint_id: UUID, *, vault: Vault, secret: str | None, overlap_s: int
) -> tuple[str, datetime]:
    """Give an endpoint a new secret of its kind, or the one given; return it with the time the old one ends.

    Raises NotFound, and Invalid for a secret that is none or an overlap outside 0..604 800.
    """
    if secret is not None:
        check_endpoint_secret(secret, field="secret")
    await endpoints.get(conn, tenant_id, endpoint_id)
    if secret is None:
        known = await secrets.shown(conn, [endpoint_id])
        secret = new_secret(known[endpoint_id].scheme)
    ends = await secrets.rotate(
        conn, tenant_id=tenant_id, owner_id=endpoint_id, secret=secret, vault=vault, overlap_s=overlap_s
    )
    return secret, ends


async def clear_previous(conn: Conn, tenant_id: UUID, endpoint_id: UUID) -> None:
    """End the overlap of an endpoint's secrets now; raise NotFound."""
    await endpoints.get(conn, tenant_id, endpoint_id)
    await secrets.clear_previous(conn, tenant_id=tenant_id, owner_id=endpoint_id)
