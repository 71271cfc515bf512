"""A value for each field that a configuration file can give: a new field of the API needs one here."""

from __future__ import annotations

from typing import Any

from relay.cli.config_kinds import Kind, kinds
from tests.documents import ROOT

SDL = (ROOT / "docs" / "schema.graphql").read_text(encoding="utf-8")
EVENT_TYPES, ENDPOINTS = kinds(SDL)
#: What the API will have when all of its contract is served.
WHOLE = kinds((ROOT / "docs" / "contract.graphql").read_text(encoding="utf-8"))
_CODE = "function transform(webhook) {\n  webhook.payload.seen = `${1 + 1}`;\n\n  return webhook;\n}\n"
_SCHEMA = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "integer", "minimum": 0.5}, "on": {"enum": [True, None, 1, "yes", "1e3"]}},
}
#: Each differs from the default; a backoff and a schedule exclude each other, so there are two endpoints.
_VALUES: dict[str, Any] = {
    "name": "order.paid",
    "schema": _SCHEMA,
    "schemaVersion": "1.0",
    "redactPaths": ["$.card.number", "$.name"],
    "url": "http://127.0.0.1:9000/hook?a=%20",
    "eventTypes": ["order.*", "invoice.paid"],
    "description": "Shop: says \"yes\", and\n#1 é 'no'",
    "status": "PAUSED",
    "filter": {"and": [{"path": "$.amount", "gt": 100}, {"path": "$.currency", "in": ["EUR", "NOK"]}]},
    "transformation": _CODE,
    "transformationOnError": "SEND_UNCHANGED",
    "fifo": True,
    "fifoPartitionKey": "$.customer",
    "fifoOnDead": "BLOCK",
    "maxRetries": 3,
    "retryBackoffMs": 2_000,
    "retryBackoffMax": 60_000,
    "retryBackoffMult": 3,
    "terminalStatusCodes": [404, 422],
    "timeoutMs": 5_000,
    "rateLimitPerSec": 50,
    "maxConcurrency": 7,
    "circuitThreshold": 9,
    "circuitResetMs": 60_000,
    "customHeaders": {"X-Shop": "a: b"},
    "signature": "ED25519",
    "format": "STANDARD_WEBHOOKS",
    "gzip": True,
}
RETRY_SCHEDULE = [1_000, 60_000, 60_000]
SEALED = {
    "secretHeaders": {"X-Token": "Token ${SHOP_TOKEN}"},
    "auth": {"basic": {"username": "relay", "password": "${SHOP_PASSWORD}"}},
}
#: What the references stand for.
ENVIRONMENT = {"SHOP_TOKEN": "t-0123456789", "SHOP_PASSWORD": "p4ssw0rd ${SHOP_TOKEN}"}


def full(kind: Kind) -> dict[str, Any]:
    """An entry that gives every field."""
    return {name: _VALUES[name] for name in kind.fields if name != "retrySchedule"}


def document() -> dict[str, Any]:
    """A file with every field, and with entries that give as little as they can."""
    return {
        "version": 1,
        "x-shared": {"maxRetries": 0},
        "eventTypes": [full(EVENT_TYPES), {"name": "order.sent"}],
        "endpoints": [
            full(ENDPOINTS) | SEALED,
            {"url": "http://127.0.0.1:9001/", "eventTypes": ["*"], "retrySchedule": RETRY_SCHEDULE},
            {"url": "http://127.0.0.1:9001/", "eventTypes": ["*"], "description": "the same URL once more"},
        ],
    }
