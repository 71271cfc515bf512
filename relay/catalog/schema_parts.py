"""The parts of a JSON Schema 2020-12 and where their references lead, which is never out of the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from relay.catalog.places import Place, place
from relay.errors import Invalid

_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLE = ("not", "if", "then", "else")
_MAPS = ("dependentSchemas", "dependencies")
_BELOW = ("items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "contains", "propertyNames")
_REFERENCES = ("$ref", "$dynamicRef")
#: Where a document without $id stands.
_HERE = "https://schema.invalid/"


class Parts:
    """All parts of a schema, those included that only a reference makes one."""

    def __init__(self, schema: Any, *, field: str) -> None:
        """Find them; raise Invalid for a reference to what the schema does not hold."""
        self._field = field
        self._bases: dict[int, str] = {}
        self._documents: dict[str, Any] = {_HERE: schema}
        self._anchors: dict[tuple[str, str], Any] = {}
        #: Each with its place.
        self.known: list[tuple[dict[str, Any], Place]] = []
        self._add(schema, (), base=_HERE)
        for part, at in self.known:  # which grows meanwhile
            for name in _REFERENCES:
                if name in part:
                    self._follow(part, name, (*at, name))

    def _add(self, schema: Any, at: Place, *, base: str) -> None:
        if isinstance(schema, dict):
            self._bases[id(schema)] = base
        for part, here in _walk(schema, at):
            self._index(part)
            self.known.append((part, here))

    def _index(self, part: dict[str, Any]) -> None:
        base = self._bases[id(part)]
        if isinstance(part.get("$id"), str):
            base = self._bases[id(part)] = _joined(base, part["$id"])[0]
            self._documents[base] = part
        for name in ("$anchor", "$dynamicAnchor"):
            if isinstance(part.get(name), str):
                self._anchors[base, part[name]] = part
        for child, _ in _children(part, ()):
            if isinstance(child, dict):
                self._bases[id(child)] = base

    def _follow(self, part: Mapping[str, Any], name: str, at: Place) -> None:
        found = self._led(part, name)
        if found is None:
            raise Invalid(
                f"{self._field} must hold all it refers to: at {place(at)} stands {str(part[name])[:200]},"
                " which it does not hold, and Relay fetches nothing.",
                field=self._field,
            )
        if isinstance(found, dict) and id(found) not in self._bases:
            self._add(found, at, base=_joined(self._bases[id(part)], str(part[name]))[0])

    def led(self, part: Mapping[str, Any]) -> Iterator[Any]:
        """Where a part refers to."""
        yield from (self._led(part, name) for name in _REFERENCES if name in part)

    def _led(self, part: Mapping[str, Any], name: str) -> Any:
        reference = part[name]
        if not isinstance(reference, str):
            return True  # the schema of schemas refuses it
        url, fragment = _joined(self._bases[id(part)], reference)
        document = self._documents.get(url)
        if document is None or not fragment:
            return document
        return pointed(document, fragment) if fragment.startswith("/") else self._anchors.get((url, fragment))


def in_place(part: Mapping[str, Any]) -> Iterator[Any]:
    """The parts for the same value."""
    for name in _LISTS:
        yield from _listed(part.get(name))
    for name in _MAPS:
        yield from _mapped(part.get(name))
    yield from (part[name] for name in _SINGLE if name in part)


def for_any(part: Mapping[str, Any]) -> Iterator[Any]:
    """The parts for any value below."""
    yield from (part[name] for name in _BELOW if name in part)
    yield from _mapped(part.get("patternProperties"))


def for_one(part: Mapping[str, Any]) -> Iterator[Any]:
    """The parts for values below, each for another one."""
    yield from _mapped(part.get("properties"))
    yield from _listed(part.get("prefixItems"))


def _listed(value: object) -> Iterator[Any]:
    yield from value if isinstance(value, list) else ()


def _mapped(value: object) -> Iterator[Any]:
    yield from value.values() if isinstance(value, dict) else ()


def _children(part: Mapping[str, Any], at: Place) -> Iterator[tuple[Any, Place]]:
    for name in (*_SINGLE, *_BELOW):
        if name in part:
            yield part[name], (*at, name)
    for name in (*_LISTS, "prefixItems"):
        yield from ((child, (*at, name, n)) for n, child in enumerate(_listed(part.get(name))))
    for name in (*_MAPS, "properties", "patternProperties", "$defs", "definitions"):
        members = part.get(name)
        if isinstance(members, dict):
            yield from ((child, (*at, name, key)) for key, child in members.items())


def _walk(schema: Any, at: Place) -> Iterator[tuple[dict[str, Any], Place]]:
    waiting = [(schema, at)]
    while waiting:
        part, here = waiting.pop()
        if isinstance(part, dict):
            yield part, here
            waiting += _children(part, here)


def _joined(base: str, reference: str) -> tuple[str, str]:
    try:
        url, fragment = urldefrag(base + reference if reference.startswith("#") else urljoin(base, reference))
    except ValueError:  # of an address that is none, which no part can have
        return "", reference
    return url, fragment


def pointed(document: Any, pointer: str) -> Any:
    """Return what a JSON Pointer (RFC 6901, as in a URI) leads to; None: nothing."""
    for step in unquote(pointer).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and name.isdecimal() and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document
