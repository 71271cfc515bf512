"""What a check is, and what it finds: pass, warn or fail, the reason with its figures, and what to do about it.

What cannot be seen is a warning that says so. A check that breaks is a failure and stops no other.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Generic, TypeVar

_PATIENCE_S = 10.0
Seen = TypeVar("Seen")


class Result(StrEnum):
    """How a check ended; skipped: it was not asked."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


class Scope(Enum):
    """Where a check is asked."""

    EVERYWHERE = "everywhere"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A result, the sentence with the reason, and the sentence with what to do."""

    result: Result
    reason: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Check(Generic[Seen]):
    """A name, and the question asked of what its area looks at."""

    name: str
    ask: Callable[[Seen], Verdict | Awaitable[Verdict]]
    scope: Scope = Scope.PRODUCTION


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check."""

    area: str
    check: str
    verdict: Verdict


SKIPPED = Verdict(Result.SKIPPED, "asked with --production only")


def good(reason: str) -> Verdict:
    """All is as it should be."""
    return Verdict(Result.PASS, reason)


def doubtful(reason: str, fix: str) -> Verdict:
    """It works, and somebody should look at it."""
    return Verdict(Result.WARN, reason, fix)


def unseen(what: str, fix: str) -> Verdict:
    """It cannot be seen from here."""
    return Verdict(Result.WARN, f"not seen: {what}", fix)


def bad(reason: str, fix: str) -> Verdict:
    """It must not stay so."""
    return Verdict(Result.FAIL, reason, fix)


def sentence(cause: BaseException) -> str:
    """The first line of what an error says, or its name where it says nothing."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0].removesuffix(".") if lines else type(cause).__name__


async def answers(area: str, checks: Sequence[Check[Seen]], seen: Seen, *, scopes: Iterable[Scope]) -> list[Finding]:
    """Ask the checks of these scopes, one after the other; the others are listed as skipped."""
    asked = set(scopes)
    return [
        Finding(area, check.name, await _answer(check, seen) if check.scope in asked else SKIPPED) for check in checks
    ]


def unanswered(area: str, checks: Sequence[Check[Seen]], verdict: Verdict, *, scopes: Iterable[Scope]) -> list[Finding]:
    """The same verdict for all that would have been asked: there is nothing to ask it of."""
    asked = set(scopes)
    return [Finding(area, check.name, verdict if check.scope in asked else SKIPPED) for check in checks]


async def _answer(check: Check[Seen], seen: Seen) -> Verdict:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            found = check.ask(seen)
            return await found if inspect.isawaitable(found) else found
    except TimeoutError:
        return bad(f"no answer within {_PATIENCE_S:.0f} s", "See why it is so slow, and ask again.")
    except Exception as cause:  # whatever it is, the other checks are asked all the same
        return bad(f"could not be asked: {sentence(cause)}", "Mend what the reason names, and ask again.")
