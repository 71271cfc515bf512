"""The whole examination: area by area, each with what it looks at, and nothing that breaks stops the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from relay.db import LOST
from relay.doctor import copies, fleet, metrics, overlay, partitions, pools, postgres, redis, settings
from relay.doctor.given import Given
from relay.doctor.postgres import Server
from relay.doctor.proxy import connect
from relay.doctor.verdict import Check, Finding, Result, Verdict, answers, bad, sentence, unanswered

#: What is asked on one connection to Postgres, by area.
_ON_POSTGRES: dict[str, Sequence[Check[Server]]] = {
    "postgres": (*postgres.CHECKS, *pools.CHECKS),
    "partitions": partitions.CHECKS,
    "copies": copies.CHECKS,
    "fleet": fleet.CHECKS,
}
#: Every check, by area, in the order of the report.
AREAS: dict[str, Sequence[Check[Any]]] = {
    "settings": settings.CHECKS,
    **_ON_POSTGRES,
    "redis": redis.CHECKS,
    "metrics": metrics.CHECKS,
    "overlay": overlay.CHECKS,
}
#: Their names.
CHECKS = tuple(check.name for checks in AREAS.values() for check in checks)


async def examine(given: Given, *, areas: Collection[str] = tuple(AREAS)) -> list[Finding]:
    """Ask every check of these areas, but for those of an overlay; no finding holds a password or a key."""
    found: list[Finding] = []
    if "settings" in areas:
        found += await settings.examine(given)
    found += await _ask_postgres(given, [area for area in _ON_POSTGRES if area in areas])
    if "redis" in areas:
        found += await redis.examine(given)
    if "metrics" in areas:
        found += await metrics.examine(given)
    return [replace(one, verdict=_harmless(one.verdict, given)) for one in found]


async def _ask_postgres(given: Given, areas: list[str]) -> list[Finding]:
    found: list[Finding] = []
    if not areas:
        return found
    try:
        conn = await connect(given.settings.database_url)
    except (*LOST, ValueError) as cause:
        away = bad(f"not seen: Postgres does not answer ({sentence(cause)}).", "Start it, or mend DATABASE_URL.")
        for area in areas:
            found += unanswered(area, _ON_POSTGRES[area], away, scopes=given.scopes)
        return found
    async with conn:
        for area in areas:
            found += await answers(area, _ON_POSTGRES[area], Server(conn, given), scopes=given.scopes)
    return found


def _harmless(verdict: Verdict, given: Given) -> Verdict:
    return replace(verdict, reason=given.without_secrets(verdict.reason))


def accepted(findings: Sequence[Finding], names: Collection[str]) -> list[Finding]:
    """The findings, with failures of these names as warnings: somebody knows of them and answers for them."""
    return [
        replace(one, verdict=replace(one.verdict, result=Result.WARN, reason=f"{one.verdict.reason} (accepted)"))
        if one.check in names and one.verdict.result is Result.FAIL
        else one
        for one in findings
    ]
