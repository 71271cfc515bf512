"""Lists of ports as settings spell them: numbers and ranges separated by commas, like 80,443,1024-65535."""

from __future__ import annotations

LAST_PORT = 65_535


def parse(text: str) -> tuple[range, ...]:
    """Return the ranges that a list names; ValueError, saying what is wrong, for anything else and for an empty list."""
    found = tuple(_range(part.strip()) for part in text.split(",") if part.strip())
    if not found:
        raise ValueError("must be ports and ranges separated by commas, like 80,443,1024-65535")
    return found


def _range(part: str) -> range:
    first, dash, last = (piece.strip() for piece in part.partition("-"))
    numbers = (first, last) if dash else (first, first)
    if not all(number.isascii() and number.isdigit() and len(number) <= 5 for number in numbers):
        raise ValueError(
            f"must be ports and ranges separated by commas, like 80,443,1024-65535, and {part!r} is neither"
        )
    low, high = map(int, numbers)
    if not 1 <= low <= high <= LAST_PORT:
        raise ValueError(f"must have ports from 1 to {LAST_PORT}, and ranges from low to high, unlike {part!r}")
    return range(low, high + 1)
