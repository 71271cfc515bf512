"""JSON as values whose numbers are exact: how they are read, when two are the same, which comes first, how they are shown.

No value is turned into one of another type: 1 and 1.0 are the same number, 1 and "1" are not the same, nor are 1 and true.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final

import msgspec

MAX_SHOWN = 100
_MAX_DEPTH_SHOWN = 6
_MAX_TEXT_SHOWN = 200
_CUT = "…"


class Kind(Enum):
    """The six types of JSON."""

    NULL = "null"
    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"
    ARRAY = "array"
    OBJECT = "object"


_KINDS: Final[dict[type, Kind]] = {
    type(None): Kind.NULL,
    bool: Kind.BOOLEAN,
    int: Kind.NUMBER,
    Decimal: Kind.NUMBER,
    str: Kind.STRING,
    list: Kind.ARRAY,
    dict: Kind.OBJECT,
}


class Missing(Enum):
    """Stands where there is no value at all; null is a value."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


def _fraction(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of nineteen digits
        return Decimal(float(text))


_decode = msgspec.json.Decoder(float_hook=_fraction).decode


def read(text: bytes | str) -> Any:
    """Return the value of a JSON text, fractions as decimals; raise ValueError for what is none that can be read."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as cause:
        raise ValueError(str(cause)) from cause


def kind_of(value: object) -> Kind:
    """Return the type that JSON gives a value."""
    return _KINDS[type(value)]


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of one type; numbers by what they are worth, objects in any order."""
    kind = kind_of(one)
    if kind is not kind_of(other):
        return False
    if kind is Kind.ARRAY:
        return len(one) == len(other) and all(map(same, one, other))
    if kind is Kind.OBJECT:
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    return one == other


def comparable(one: Any, other: Any) -> bool:
    """Tell whether one of two values can come before the other: two numbers, or two strings (by code points)."""
    kind = kind_of(one)
    return kind is kind_of(other) and kind in {Kind.NUMBER, Kind.STRING}


def text_of(value: Any) -> str:
    """Return the compact JSON text of a value of little depth; numbers keep their digits."""
    match value:
        case dict():
            return "{" + ",".join(f"{text_of(name)}:{text_of(one)}" for name, one in value.items()) + "}"
        case list():
            return "[" + ",".join(map(text_of, value)) + "]"
        case Decimal():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


def shown(value: Any) -> bytes:
    """Return the JSON text of a value for people: what is long, deep or much is cut, with … in its place."""
    return text_of(_shortened(value, [MAX_SHOWN], depth=0)).encode(errors="replace")


def _shortened(value: Any, left: list[int], *, depth: int) -> Any:
    left[0] -= 1
    match value:
        case str() if len(value) > _MAX_TEXT_SHOWN:
            return value[:_MAX_TEXT_SHOWN] + _CUT
        case dict() | list() if value and depth >= _MAX_DEPTH_SHOWN:
            return _CUT
        case dict():
            members: dict[str, Any] = {}
            for name, one in value.items():
                if left[0] <= 0:
                    return {**members, _CUT: _CUT}
                members[_shortened(name, [1], depth=0)] = _shortened(one, left, depth=depth + 1)
            return members
        case list():
            items: list[Any] = []
            for one in value:
                if left[0] <= 0:
                    return [*items, _CUT]
                items.append(_shortened(one, left, depth=depth + 1))
            return items
        case _:
            return value
