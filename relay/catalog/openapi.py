"""Event types as an OpenAPI 3.1 document describes them: each of its `webhooks`, with a schema that needs no document."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from relay.catalog.event_types import MAX_DESCRIPTION, EventTypeSpec
from relay.catalog.schema_cost import pointed
from relay.catalog.schemas import DIALECT, MAX_SCHEMA_BYTES
from relay.errors import Invalid, RelayError

MAX_DOCUMENT_BYTES = 4 << 20
MAX_WEBHOOKS = 500
_DIALECTS = (DIALECT, "https://spec.openapis.org/oas/3.1/dialect/base")
_METHODS = ("post", "put", "patch", "get", "delete", "options", "head", "trace")
_JSON_TYPE = re.compile(r"application/json|[^;]*\+json", re.IGNORECASE)
_SCHEMA_OF = re.compile(r"#/components/schemas/([^/]+)(/.*)?", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_ODD = re.compile(r"[^A-Za-z0-9._-]")
#: Keywords whose members are names, and those that hold values which only look like schemas.
_OF_NAMES = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_OF_VALUES = frozenset({"const", "enum", "default", "example", "examples"})
_MOST_REFERRALS = 10


@dataclass(frozen=True, slots=True)
class Described:
    """What a document says: types that can be made, and what is wrong with the others."""

    types: list[EventTypeSpec]
    refused: list[RelayError]


class _Part(NamedTuple):
    """A schema of the document, rewritten to stand elsewhere: its size as text, and what it refers to."""

    schema: Any
    size: int
    refers: frozenset[str]


async def described(text: bytes) -> Described:
    """Read a document; raise Invalid when it is none. Lets others run between one webhook and the next."""
    document = _document(text)
    parts = _Parts(document)
    found = Described([], [])
    for name, item in document["webhooks"].items():
        try:
            found.types.append(_type(parts, name, item))
        except RelayError as error:
            message = f"webhook {name[:100]}: {error.message}"
            found.refused.append(Invalid(message, field=f"webhooks.{name[:255]}"))
        await asyncio.sleep(0)
    return found


def _document(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_DOCUMENT_BYTES:
        raise _wrong(f"has {len(text)} bytes; the limit is {MAX_DOCUMENT_BYTES}")
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError) as cause:
        raise _wrong("must be JSON that is not nested too deeply") from cause
    if not isinstance(document, dict):
        raise _wrong("must be an OpenAPI 3.1 document: an object")
    version, webhooks = document.get("openapi"), document.get("webhooks")
    if not isinstance(version, str) or not version.startswith("3.1."):
        raise _wrong('must be OpenAPI 3.1, as openapi: "3.1.0" says')
    if document.get("jsonSchemaDialect", DIALECT) not in _DIALECTS:
        raise _wrong(f"must have the jsonSchemaDialect {' or '.join(_DIALECTS)}, or none")
    if not isinstance(webhooks, dict) or not 0 < len(webhooks) <= MAX_WEBHOOKS:
        raise _wrong(f"must have 1 to {MAX_WEBHOOKS} webhooks")
    return document


def _wrong(what: str) -> Invalid:
    return Invalid(f"document {what}.", field="document")


def _type(parts: _Parts, name: str, item: object) -> EventTypeSpec:
    path = parts.resolved(item)
    operation = parts.resolved(next((path[method] for method in _METHODS if method in path), {}))
    media = _json_of(parts.resolved(operation.get("requestBody", {})).get("content"))
    schema = parts.whole(media["schema"]) if "schema" in media else None
    fields: dict[str, Any] = {"name": name, "description": _text(operation) or _text(path)}
    if schema is not None:
        fields |= {"schema": schema, "schema_version": parts.version}
    return EventTypeSpec(**fields)


def _json_of(content: object) -> Mapping[str, Any]:
    """The media type that is JSON, application/json before others."""
    by_type = content if isinstance(content, dict) else {}
    names = sorted((name for name in by_type if _JSON_TYPE.match(name)), key=lambda name: name != "application/json")
    media = by_type[names[0]] if names else {}
    return media if isinstance(media, dict) else {}


def _text(described: Mapping[str, Any]) -> str | None:
    for name in ("description", "summary"):
        text = described.get(name)
        if isinstance(text, str) and text.strip():
            return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"
    return None


class _Parts:
    """The schemas of a document; each is rewritten once, however many webhooks share it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._known: dict[str, _Part] = {}
        info = document.get("info")
        version = info.get("version") if isinstance(info, dict) else None
        self.version = version[:100] if isinstance(version, str) and version else None

    def resolved(self, value: object) -> Mapping[str, Any]:
        """What an object of the document is, or what it refers to; raise Invalid when that is not in the document."""
        for _ in range(_MOST_REFERRALS):
            if not isinstance(value, dict):
                raise Invalid("holds something that must be an object.")
            if not isinstance(reference := value.get("$ref"), str):
                return value
            value = self._pointed(reference)
        raise Invalid("refers from one place to the next too often.")

    def whole(self, schema: Any) -> bytes:
        """Return the text of a schema with all that it refers to beneath `$defs`; raise Invalid when it is too long."""
        root = _part(schema)
        held: dict[str, _Part] = {}
        size, waiting = root.size, sorted(root.refers)
        while waiting and size <= MAX_SCHEMA_BYTES:
            reference = waiting.pop()
            if reference not in held:
                part = held[reference] = self._part(reference)
                size, waiting = size + part.size, waiting + sorted(part.refers)
        if size > MAX_SCHEMA_BYTES:
            raise Invalid(f"schema, with all it refers to, has over {MAX_SCHEMA_BYTES} bytes; that is the limit.")
        if not held or not isinstance(root.schema, dict):
            return _written(root.schema)
        own = root.schema.get("$defs")
        parts = {_name(reference): held[reference].schema for reference in sorted(held)}
        return _written({**root.schema, "$defs": {**(own if isinstance(own, dict) else {}), **parts}})

    def _part(self, reference: str) -> _Part:
        if reference not in self._known:
            self._known[reference] = _part(self._pointed(reference))
        return self._known[reference]

    def _pointed(self, reference: str) -> Any:
        found = pointed(self._document, reference[1:]) if reference.startswith("#/") else None
        if found is None:
            raise Invalid(f"refers to {reference[:200]}, which is not in the document; Relay fetches nothing.")
        return found


def _part(schema: Any) -> _Part:
    refers: set[str] = set()
    try:
        moved = _moved(schema, refers, names=False)
        return _Part(moved, len(_written(moved)), frozenset(refers))
    except RecursionError as cause:
        raise Invalid("schema is nested too deeply.") from cause


def _moved(value: Any, refers: set[str], *, names: bool) -> Any:
    """The schema as it is once what it refers to stands beneath its `$defs`; with an $id of its own it stays."""
    if isinstance(value, list):
        return [_moved(item, refers, names=False) for item in value]
    if not isinstance(value, dict) or (not names and isinstance(value.get("$id"), str)):
        return value
    moved: dict[str, Any] = {}
    for name, inner in value.items():
        if not names and name == "$ref" and isinstance(inner, str):
            moved[name] = _reference(inner, refers)
        elif not names and name in _OF_VALUES:
            moved[name] = inner
        else:
            moved[name] = _moved(inner, refers, names=not names and name in _OF_NAMES)
    return moved


def _reference(text: str, refers: set[str]) -> str:
    """Where a reference leads afterwards; what must be there for it is added to `refers`."""
    if not text.startswith("#/"):
        return text
    of_schema = _SCHEMA_OF.fullmatch(text)
    whole, rest = (f"#/components/schemas/{of_schema[1]}", of_schema[2] or "") if of_schema else (text, "")
    refers.add(whole)
    return "#/$defs/" + _name(whole) + rest


def _name(reference: str) -> str:
    """Where it stands beneath `$defs`: its own name, or one that needs no escapes."""
    name = reference.removeprefix("#/components/schemas/")
    if _PLAIN.fullmatch(name):
        return name
    return f"{_ODD.sub('_', name)[-50:]}-{hashlib.sha256(reference.encode()).hexdigest()[:12]}"


def _written(schema: Any) -> bytes:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode()
