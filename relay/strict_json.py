"""Strict JSON: what two readers could take for different things is refused before anybody reads it.

Names that stand twice in an object, fractions that no double holds, numbers of more than 4 300 digits, halves of surrogate
pairs, nesting deeper than 128. The check reads the body and changes none of its bytes. NaN and Infinity are no JSON for
msgspec either.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from relay.errors import Invalid

MAX_DEPTH = 128
#: Python reads no longer ones.
LONGEST_NUMBER = 4_300
_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_ALL_ELSE = bytes(set(range(256)) - set(b"[]{}"))


class _Fault(str):
    """What is wrong with the value in whose place it stands."""

    __slots__ = ()


def check_strict(body: bytes, *, what: str = "The request body") -> None:
    """Raise Invalid, which names the place, for JSON that is ambiguous; msgspec's errors for what is no JSON at all.

    `what` it is stands in the sentence where the fault has no place of its own.

    Compact text holds a colon for each member and each colon of a string. What msgspec read and wrote again has as many
    as the body unless a member was dropped for another of its name, or `\\u` hides some: then it is read slowly.
    """
    try:
        value = _read(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        _refuse_faults(body, what)
        raise
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth_exceeds(body):
        raise Invalid(f"{what} must be JSON that is nested less deeply; {MAX_DEPTH} levels are allowed.")
    try:
        is_plain = b"\\u" not in body and body.count(b":") == _write(value).count(b":")
    except (OverflowError, ValueError):  # msgspec reads larger numbers than it writes
        is_plain = False
    if not is_plain:
        _refuse_faults(body, what)


def _depth_exceeds(body: bytes) -> bool:
    """Take the innermost brackets away, level by level; only for JSON that was found to be well formed."""
    left = _STRING.sub(b"", body).translate(_BRACKETS, _ALL_ELSE)
    for _ in range(MAX_DEPTH):
        if not left:
            return False
        left = left.replace(b"[]", b"")
    return bool(left)


def _refuse_faults(body: bytes, what: str) -> None:
    try:
        value = json.loads(body, object_pairs_hook=_object, parse_int=_whole, parse_float=_fraction)
    except (ValueError, RecursionError):
        return  # no JSON at all; msgspec says where
    for place, fault in _faults(value, ()):
        where = ".".join(place)
        raise Invalid(f"{where or what} {fault}.", field=where or None)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members[name] = _Fault("stands there twice") if name in members else value
    return members


def _whole(text: str) -> int | str:
    return _Fault("is too long a number") if len(text) > LONGEST_NUMBER else 0


def _fraction(text: str) -> float | str:
    return _Fault("is a number that is too large") if math.isinf(float(text)) else 0.0


def _faults(value: object, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, _Fault):
        yield place, str(value)
    elif isinstance(value, str):
        if _SURROGATE.search(value):
            yield place, "must not hold lone surrogates"
    elif isinstance(value, dict):
        for name, member in value.items():
            if _SURROGATE.search(name):
                yield place, "must not hold names with lone surrogates"
            yield from _faults(member, (*place, _shown(name)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _faults(item, (*place, str(index)))


def _shown(name: str) -> str:
    return _SURROGATE.sub("\ufffd", name if len(name) <= 100 else name[:99] + "…")
