"""What the generator sent and what the receiver got: columns of integers, cheap to append and to hand over.

Times are nanoseconds of the monotonic clock, which all processes of a Linux machine share.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


def _column() -> array[int]:
    return array("q")


@dataclass(frozen=True, slots=True)
class Sent:
    """One row per event that the generator sent; `accepted` is 1 after a 2xx and 0 otherwise."""

    n: array[int] = field(default_factory=_column)
    sent_ns: array[int] = field(default_factory=_column)
    answered_ns: array[int] = field(default_factory=_column)
    accepted: array[int] = field(default_factory=_column)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One row per request that the receiver got: the event's number (-1: none was in it), the endpoint, the time."""

    n: array[int] = field(default_factory=_column)
    endpoint: array[int] = field(default_factory=_column)
    at_ns: array[int] = field(default_factory=_column)


def pack(*columns: array[int]) -> bytes:
    """The columns, which are equally long, one after the other."""
    return b"".join(column.tobytes() for column in columns)


def unpack_sent(data: bytes) -> Sent:
    """What `pack` made of the columns of Sent."""
    return Sent(*_unpack(data, columns=4))


def unpack_arrivals(data: bytes) -> Arrivals:
    """What `pack` made of the columns of Arrivals."""
    return Arrivals(*_unpack(data, columns=3))


def _unpack(data: bytes, *, columns: int) -> list[array[int]]:
    size = len(data) // columns
    parts: list[array[int]] = []
    for index in range(columns):
        part = _column()
        part.frombytes(data[index * size : (index + 1) * size])
        parts.append(part)
    return parts
