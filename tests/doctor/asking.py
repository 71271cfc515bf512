"""The doctor's questions as tests ask them, and what they claim about the answers.

`test_documented.py` reads these claims: every check must be shown to pass somewhere, and not to pass somewhere else.
"""

from __future__ import annotations

from typing import Any

from relay.doctor.examine import examine
from relay.doctor.given import Given
from relay.doctor.verdict import Finding, Result, Scope, Verdict
from relay.settings import Settings


async def ask(settings: Settings, *areas: str, **given: Any) -> list[Finding]:
    """Ask all of production's checks of these areas."""
    return await examine(Given(settings, scopes=tuple(Scope), **given), areas=areas)


def passes(found: list[Finding], check: str, *, saying: str = "") -> None:
    """The check passes, and its reason says so."""
    verdict = _of(found, check)
    assert (verdict.result, saying in verdict.reason) == (Result.PASS, True), verdict


def warns(found: list[Finding], check: str, *, saying: str = "") -> None:
    """The check warns, and says what to do."""
    verdict = _of(found, check)
    assert (verdict.result, saying in verdict.reason, bool(verdict.fix)) == (Result.WARN, True, True), verdict


def fails(found: list[Finding], check: str, *, saying: str = "") -> None:
    """The check fails, and says what to do."""
    verdict = _of(found, check)
    assert (verdict.result, saying in verdict.reason, bool(verdict.fix)) == (Result.FAIL, True, True), verdict


def _of(found: list[Finding], check: str) -> Verdict:
    (verdict,) = [one.verdict for one in found if one.check == check]
    return verdict
