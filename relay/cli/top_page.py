"""What `relay top` shows: lines that fit a terminal, whatever its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from relay.cli.terminal import Paint, plain, relative, span, table

_TIERS = ("high", "normal", "low")
_RATES = {"created": "new", "delivered": "delivered", "failedAttempts": "failed", "dead": "died"}
_HEADS = ("tier", "ready", "held", "delayed", "on the wire", "oldest")
_STALE = timedelta(seconds=60)
_CIRCUITS = {"CLOSED": "", "OPEN": "red", "HALF_OPEN": "yellow"}


def lines(
    seen: dict[str, Any], rates: dict[str, float], *, size: tuple[int, int], now: datetime, url: str, trouble: str = ""
) -> list[tuple[str, str]]:
    """Return lines, each with its colour or none, cut to the size (columns, lines); trouble is shown first."""
    columns, height = size
    shown = [line for part in _parts(seen, rates, now=now, url=url) for line in part]
    if trouble:
        shown.insert(1, (trouble, "red"))
    return [(_cut(text, columns), colour) for text, colour in shown[:height]]


def painted(shown: Sequence[tuple[str, str]], paint: Paint) -> list[str]:
    """Return the lines as text, in their colours where the terminal has some."""
    return [paint(text, colour) if colour else text for text, colour in shown]


def _parts(
    seen: dict[str, Any], rates: dict[str, float], *, now: datetime, url: str
) -> Iterator[list[tuple[str, str]]]:
    activity, queue = seen["activity"], seen["queueStats"]
    counted = datetime.fromisoformat(queue["asOf"])
    stale = now - counted > _STALE
    yield [(f"Relay {url}  counted {relative(min(now, counted), now=now)}", "red" if stale else "bold")]
    yield [(_standing(activity, queue), ""), ("", "")]
    yield [("   ".join(f"{word} {rates[name]:,.1f}/s" for name, word in _RATES.items()), "bold"), ("", "")]
    heads, *rows = table([_HEADS, *(_tier(name, activity[name]) for name in _TIERS), _whole(queue)])
    yield [(heads, "dim"), *((row, "") for row in rows), ("", "")]
    yield _worst(activity["failing"])


def _standing(activity: dict[str, Any], queue: dict[str, Any]) -> str:
    parts = [f"dead letters {queue['dead']:,}", f"circuits not closed {activity['circuits']:,}"]
    if activity["workers"] is not None:
        parts += [f"workers {activity['workers']:,}", f"web processes {activity['webProcesses']:,}"]
    return "   ".join(parts)


def _tier(name: str, tier: dict[str, Any]) -> tuple[str, ...]:
    return name, *(f"{tier[key]:,}" for key in ("ready", "held", "delayed", "delivering")), _age(tier)


def _whole(queue: dict[str, Any]) -> tuple[str, ...]:
    return "all", *(f"{queue[key]:,}" for key in ("ready", "held", "delayed", "delivering")), _age(queue)


def _age(told: dict[str, Any]) -> str:
    return span(timedelta(seconds=told["oldestAgeSeconds"])) if told["oldestAgeSeconds"] > 0 else "-"


def _worst(failing: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    if not failing:
        return [("No attempt failed in the last 5 minutes.", "dim")]
    rows = [
        (
            f"{one['failedAttempts']:,}",
            f"{one['attempts']:,}",
            f"{100 * one['failedAttempts'] / max(1, one['attempts']):.0f} %",
            one["circuit"].lower().replace("_", " "),
        )
        for one in failing
    ]
    heads, *texts = table([("failed", "attempts", "share", "circuit"), *rows], left=0)
    ends = zip(texts, failing, strict=True)
    return [
        ("Endpoints that failed most in the last 5 minutes", "bold"),
        (f"{heads}  endpoint", "dim"),
        *((f"{text}  {plain(one['url'])}", _CIRCUITS.get(one["circuit"], "")) for text, one in ends),
    ]


def _cut(text: str, columns: int) -> str:
    return text if len(text) <= columns else f"{text[: columns - 1]}\N{HORIZONTAL ELLIPSIS}"
