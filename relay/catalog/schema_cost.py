"""How much work a JSON Schema can make of a payload: known before it is used, for a client's schema is untrusted.

jsonschema-rs follows references as often as a schema names them, lists errors without end, and matches an expression in
time linear in the text but also in the expression. So the work is bounded beforehand: by what applies to one value at
most, times the values of the payload. What applies on the way from the root to a value is counted as if it all did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from relay.catalog.places import Place, place
from relay.errors import Invalid

_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLE = ("not", "if", "then", "else")
_MAPS = ("dependentSchemas", "dependencies")
_BELOW = ("items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "contains", "propertyNames")
_REFERENCES = ("$ref", "$dynamicRef")
_COUNTED = ("required", "enum", "properties")
_MOST_STEPS = 50_000
#: What all regular expressions of a schema may count: to compile the largest takes milliseconds.
_MOST_RATED = 500
#: Where a document without $id stands.
_HERE = "https://schema.invalid/"

#: How often a regular expression must be counted, by its text; raises what is wrong with it.
Rating = Callable[[str], int]


class Work(NamedTuple):
    """For one value: how many checks, of how many (rated) expressions, and how many faults can be found."""

    checks: int
    matches: int
    faults: int

    def plus(self, other: Work) -> Work:
        """Both."""
        return Work(*(mine + its for mine, its in zip(self, other, strict=True)))


_NONE = Work(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a schema can cost per value; `recursive`: it refers to itself, and `to_depth` says more."""

    work: Work
    recursive: bool
    _schema: Any
    _graph: _Graph

    def to_depth(self, depth: int) -> int | None:
        """How many faults a value at this depth can have when no part is remembered; None: too many to say."""
        try:
            return _Counting(self._graph, depth).of(self._schema, depth).faults
        except (Invalid, RecursionError):
            return None


def cost(schema: Any, *, rating: Rating, field: str) -> Cost:
    """Return what a schema costs; raise Invalid for one that refers to what it does not hold, or is too entangled."""
    graph = _Graph(schema, rating, field)
    counting = _Counting(graph, None)
    try:
        work = counting.of(schema, 0)
    except RecursionError as cause:
        raise Invalid(f"{field} refers from one part to the next too often.", field=field) from cause
    if counting.recursive:  # a value that a part was tried on is remembered, so no part counts twice
        work = work.plus(graph.all_parts())
    return Cost(work, counting.recursive, schema, graph)


class _Graph:
    """The parts of a schema, and where their references lead."""

    def __init__(self, schema: Any, rating: Rating, field: str) -> None:
        self._field = field
        self._rating = rating
        self._rates = 0
        self._bases: dict[int, str] = {}
        self._documents: dict[str, Any] = {_HERE: schema}
        self._anchors: dict[tuple[str, str], Any] = {}
        self._owns: dict[int, Work] = {}
        self._names: dict[int, Work] = {}
        self._known = list(_walk(schema, ()))
        for part, at in self._known:
            self._index(part, at)
        for part, at in self._known:
            self._owns[id(part)] = self._own(part, at)
            patterns = (*at, "patternProperties")
            if isinstance(names := part.get("patternProperties"), dict):
                rated = [self._rated(text, (*patterns, text)) for text in names]
                self._names[id(part)] = Work(len(rated), sum(rated), 0)
            for name in _REFERENCES:
                if name in part and self._led(part, name) is None:
                    raise self._remote(part[name], (*at, name))

    def _index(self, part: dict[str, Any], at: Place) -> None:
        base = self._bases.setdefault(id(part), _HERE)
        if isinstance(part.get("$id"), str):
            base = self._bases[id(part)] = _joined(base, part["$id"])[0]
            self._documents[base] = part
        for name in ("$anchor", "$dynamicAnchor"):
            if isinstance(part.get(name), str):
                self._anchors[base, part[name]] = part
        for child, _ in _children(part, at):
            if isinstance(child, dict):
                self._bases[id(child)] = base

    def _own(self, part: Mapping[str, Any], at: Place) -> Work:
        checks = (
            1 + len(part) + sum(len(part[name]) // 2 for name in _COUNTED if isinstance(part.get(name), (list, dict)))
        )
        matches = self._rated(part["pattern"], (*at, "pattern")) if isinstance(part.get("pattern"), str) else 0
        required = part.get("required")
        return Work(checks, matches, 1 + len(part) + (len(required) if isinstance(required, list) else 0))

    def names(self, part: Mapping[str, Any]) -> Work:
        """What the patterns for names cost each member."""
        return self._names.get(id(part), _NONE)

    def _rated(self, pattern: str, at: Place) -> int:
        try:
            rate = self._rating(pattern)
        except ValueError as cause:
            raise Invalid(f"{self._field} has at {place(at)} {cause}.", field=self._field) from cause
        self._rates += rate
        if self._rates > _MOST_RATED:
            raise Invalid(f"{self._field} has too many regular expressions, or too large ones.", field=self._field)
        return rate

    def own(self, part: Mapping[str, Any]) -> Work:
        """What a part costs without those it holds."""
        return self._owns.get(id(part)) or Work(1 + len(part), 0, 1 + len(part))

    def all_parts(self) -> Work:
        """Everything once."""
        total = _NONE
        for part, _ in self._known:
            total = total.plus(self.own(part)).plus(self.names(part))
        return total

    def led(self, part: Mapping[str, Any]) -> Iterator[Any]:
        """Where a part refers to."""
        for name in _REFERENCES:
            if name in part:
                yield self._led(part, name)

    def _led(self, part: Mapping[str, Any], name: str) -> Any:
        reference = part[name]
        if not isinstance(reference, str):
            return True  # the schema of schemas refuses it
        base = self._bases.get(id(part), _HERE)
        url, fragment = _joined(base, reference)
        document = self._documents.get(url)
        if document is None or not fragment:
            return document
        if not fragment.startswith("/"):
            return self._anchors.get((url, fragment))
        return pointed(document, fragment)

    def _remote(self, reference: object, at: Place) -> Invalid:
        return Invalid(
            f"{self._field} must hold all it refers to: at {place(at)} stands {str(reference)[:200]},"
            " which it does not hold, and Relay fetches nothing.",
            field=self._field,
        )


class _Counting:
    """One count; to a depth, or (None) with each part that is being counted left out where it comes up again."""

    def __init__(self, graph: _Graph, depth: int | None) -> None:
        self._graph = graph
        self._flat = depth is None
        self._counted: dict[tuple[int, int], Work | None] = {}
        self.recursive = False

    def of(self, part: Any, depth: int) -> Work:
        """What the part costs one value with so much below it."""
        if not isinstance(part, dict):
            return Work(1, 0, 1)
        key = id(part), depth
        if key in self._counted:
            self.recursive |= self._counted[key] is None
            return self._counted[key] or _NONE
        if len(self._counted) > _MOST_STEPS:
            raise Invalid("schema is too entangled.", field="schema")
        self._counted[key] = None
        work = self._counted[key] = self._here(part, depth).plus(self._below(part, depth))
        return work

    def _here(self, part: dict[str, Any], depth: int) -> Work:
        inner = _NONE
        for child in _in_place(part):
            inner = inner.plus(self.of(child, depth))
        for child in self._graph.led(part):
            inner = inner.plus(self.of(child, depth))
        if "unevaluatedProperties" in part or "unevaluatedItems" in part:  # looks at them again for what they saw
            inner = inner.plus(inner).plus(inner)
        return self._graph.own(part).plus(inner)

    def _below(self, part: dict[str, Any], depth: int) -> Work:
        if not self._flat and depth == 0:
            return _NONE
        deeper = depth if self._flat else depth - 1
        anywhere = self._graph.names(part)
        for child in _anywhere(part):
            anywhere = anywhere.plus(self.of(child, deeper))
        named = [self.of(child, deeper) for child in _named(part)]
        return anywhere.plus(Work(*map(max, zip(*named, strict=True))) if named else _NONE)


def _in_place(part: Mapping[str, Any]) -> Iterator[Any]:
    for name in _LISTS:
        yield from _listed(part.get(name))
    for name in _MAPS:
        yield from _mapped(part.get(name))
    yield from (part[name] for name in _SINGLE if name in part)


def _anywhere(part: Mapping[str, Any]) -> Iterator[Any]:
    yield from (part[name] for name in _BELOW if name in part)
    yield from _mapped(part.get("patternProperties"))


def _named(part: Mapping[str, Any]) -> Iterator[Any]:
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
