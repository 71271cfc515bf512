"""Request bodies: read up to the limits of size and time, and split into JSON members without changing a byte of them."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from falcon.asgi import Request

from relay.errors import Invalid, TooLarge, TooSlow
from relay.strict_json import check_strict

T = TypeVar("T")
_CHUNK = 1 << 16


async def read_body(req: Request, *, limit: int, within_s: float) -> bytes:
    """Return the body; TooLarge as soon as it is known to be over `limit` bytes, TooSlow when it is not there in time."""
    if req.content_length is not None and req.stream.tell() >= req.content_length:
        return await _read(req, limit)  # it came with its headers: there is nothing to wait for
    try:
        async with asyncio.timeout(within_s):
            return await _read(req, limit)
    except TimeoutError as cause:
        raise TooSlow(f"The request did not arrive within {within_s:g} s (REQUEST_TIMEOUT_S).") from cause


async def _read(req: Request, limit: int) -> bytes:
    length = req.content_length
    if length is not None:
        if length > limit:
            raise _too_large(limit)
        return await req.stream.read()
    parts: list[bytes] = []
    size = 0
    while chunk := await req.stream.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        parts.append(chunk)
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request is over the limit of {limit} bytes (MAX_REQUEST_BYTES).")


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode strict JSON; Invalid with a sentence when it is malformed, ambiguous, too deep, or of another shape."""
    try:
        body.decode()
        check_strict(body)
        return decoder.decode(body)
    except UnicodeDecodeError as cause:
        raise Invalid("The request body must be JSON in UTF-8.") from cause
    except RecursionError as cause:
        raise Invalid("The request body must be JSON that is nested less deeply.") from cause
    except msgspec.ValidationError as cause:
        raise Invalid(f"The request body has another shape: {cause}") from cause
    except msgspec.DecodeError as cause:
        raise Invalid(f"The request body must be JSON: {cause}") from cause
