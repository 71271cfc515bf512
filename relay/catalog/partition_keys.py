"""Which FIFO lane of an endpoint an event belongs to: a JSONPath (RFC 9535) finds the key in its payload.

Fan-out evaluates one client's paths between the events of others, so no path may cost much: filters are refused, and a
path that can find several values looks at 10 000 at most. Whatever goes wrong means that nothing was found.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from jsonpath_rfc9535 import JSONPathError, JSONPathNode, JSONPathQuery
from jsonpath_rfc9535 import compile as parse_path
from jsonpath_rfc9535.selectors import FilterSelector

from relay.errors import Invalid

MAX_PATH = 255
MAX_KEY = 200
_KEPT = 160
_MOST_LOOKED_AT = 10_000
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class _TooMuch(Exception):
    """A path looks at more values than fan-out has time for."""


class _Node(JSONPathNode):
    """A value that was found; `left` is what may still be looked at, shared by all values of one evaluation."""

    __slots__ = ("_left",)

    def __init__(
        self, value: Any, *, location: tuple[int | str, ...], parent: JSONPathNode | None, root: Any, left: list[int]
    ) -> None:
        left[0] -= 1 + (len(value) if isinstance(value, (dict, list)) else 0)
        if left[0] < 0:
            raise _TooMuch
        super().__init__(value=value, location=location, parent=parent, root=root)
        self._left = left

    def new_child(self, value: object, key: int | str, parent: JSONPathNode | None) -> JSONPathNode:
        return _Node(value, location=(*self.location, key), parent=parent, root=self.root, left=self._left)


def check_path(path: str, *, field: str) -> None:
    """Raise Invalid for a text that is no JSONPath, or one with filters."""
    try:
        query = parse_path(path)
    except (JSONPathError, RecursionError, ValueError, ArithmeticError) as cause:
        raise Invalid(f"{field} must be a JSONPath (RFC 9535) like $.customer.id: {cause}.", field=field) from cause
    if any(isinstance(selector, FilterSelector) for segment in query.segments for selector in segment.selectors):
        raise Invalid(f"{field} must be a JSONPath without filters, like $.customer.id.", field=field)


def partition_key(path: str | None, payload: bytes) -> str:
    """Return the key of an event in an endpoint whose partition key is `path`; it never raises and fits a lane.

    A string is its own key, any other value its compact JSON; of several the first counts. Empty: no path, no match,
    or a payload that is no JSON. A key of more than 200 characters is cut, with a hash of the whole behind it.
    """
    if path is None:
        return ""
    try:
        found = _first(_compiled(path), _document(payload))
        return "" if found is None else _bounded(_text(found.value))
    except Exception:  # a path meets payloads nobody foresaw, and fan-out must go on whatever the library raises
        return ""


def places(path: str, document: Any) -> list[tuple[int | str, ...]]:
    """Return where a path leads in a document, all of them; raise when it looks at too many values."""
    nodes: Iterable[JSONPathNode] = [_Node(document, location=(), parent=None, root=document, left=[_MOST_LOOKED_AT])]
    for segment in _compiled(path).segments:
        nodes = segment.resolve(nodes)
    return [node.location for node in nodes]


@lru_cache(maxsize=4_096)
def _compiled(path: str) -> JSONPathQuery:
    return parse_path(path)


@lru_cache(maxsize=1)  # one event is often for several endpoints
def _document(payload: bytes) -> Any:
    return json.loads(payload)


def _first(query: JSONPathQuery, document: Any) -> JSONPathNode | None:
    if query.singular_query():
        return query.find_one(document)
    nodes: Iterable[JSONPathNode] = [_Node(document, location=(), parent=None, root=document, left=[_MOST_LOOKED_AT])]
    for segment in query.segments:
        nodes = segment.resolve(nodes)
    return next(iter(nodes), None)


def _text(value: object) -> str:
    """Equal values have one text, in whatever order their members came."""
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    )
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _bounded(key: str) -> str:
    return key if len(key) <= MAX_KEY else f"{key[:_KEPT]}:{hashlib.sha256(key.encode()).hexdigest()}"
