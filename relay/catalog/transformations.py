"""Transformations: the JavaScript of an endpoint, `function transform(webhook)`, that changes what is sent there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from relay.errors import Invalid, Throttled, Unavailable
from relay.sandbox.child import CHECK
from relay.sandbox.pool import Sandbox
from relay.sandbox.process import Answer, NotStarted
from relay.specs import Text, check_text

MAX_CODE = 65_536
_MOST_WAITING = 10


class TransformationFailure(StrEnum):
    """What a transformation that fails means: the attempt FAILs and is retried, or the stored event is sent as it is."""

    FAIL = "fail"
    SEND_UNCHANGED = "send_unchanged"


@dataclass(frozen=True, slots=True)
class Transformation:
    """An endpoint's code, and what its failure means."""

    code: bytes
    on_error: TransformationFailure


def transformation_of(code: str | None, on_error: str) -> Transformation | None:
    """Read what an endpoint's columns say; None when it has no transformation."""
    return None if code is None else Transformation(code.encode(), TransformationFailure(on_error))


def _short(code: str) -> str:
    if len(code.encode()) > MAX_CODE:
        raise ValueError(f"must have at most {MAX_CODE} bytes")
    return code


Code = Annotated[Text, Field(min_length=1), AfterValidator(_short)]


def sized(code: str, *, field: str) -> str:
    """Return the code; raise Invalid for one that no endpoint can have."""
    check_text(code, field=field)
    if not code or len(code.encode()) > MAX_CODE:
        raise Invalid(f"{field} must have 1 to {MAX_CODE} bytes.", field=field)
    return code


async def check_code(sandbox: Sandbox, code: str | None, *, tenant_id: UUID) -> None:
    """Raise Invalid unless the code runs and defines `transform`; None, which clears a transformation, is fine."""
    if code is None:
        return
    answer = await run(sandbox, code, b"", tenant_id=tenant_id, task=CHECK)
    if answer.error is not None:
        raise Invalid(f"transformation: {answer.error}", field="transformation")


async def run(sandbox: Sandbox, code: str, argument: bytes, *, tenant_id: UUID, task: bytes) -> Answer:
    """Run code that somebody waits for; raise Throttled for a client with many such calls, Unavailable without a sandbox."""
    if sandbox.waiting(tenant_id) >= _MOST_WAITING:
        raise Throttled("Many transformations of this client are being tried already.", retry_after_s=1)
    try:
        return await sandbox.call(code.encode(), argument, tenant=tenant_id, owner=tenant_id, task=task)
    except NotStarted as cause:
        raise Unavailable(str(cause)) from cause
