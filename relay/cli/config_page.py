"""A plan as a person reads it, and as a program does."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from relay.cli.config_changes import Action, Change, Plan
from relay.cli.terminal import Paint, plain

_COLOURS = {Action.CREATE: "green", Action.CHANGE: "yellow", Action.DELETE: "red"}
_WIDE = 72
_AROUND = 2


def page(plan: Plan, *, paint: Paint) -> str:
    """Return the plan: every change with old and new values, then what the file does not know of."""
    lines: list[str] = []
    for change in plan.changes:
        lines += [f"{paint(change.action, _COLOURS[change.action])} {paint(plain(change.title), 'bold')}"]
        lines += [*_fields(change, paint), ""]
    lines.append(summary(plan))
    if plan.unlisted:
        lines += ["", "Relay has these, and the file has not; --prune would delete them:"]
        lines += [plain(f"  {kind.word} {found.name(kind)} ({found.id})") for kind, found in plan.unlisted]
    if plan.notes:
        lines += ["", *(plain(f"Note: {note}") for note in plan.notes)]
    return "\n".join(lines)


def tell(text: str) -> None:
    """Print a text; that nobody reads on stops no work half-way, and changes no exit code."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def summary(plan: Plan) -> str:
    """Say in one sentence how much there is to do."""
    if not plan.changes:
        return "No changes: Relay is as the file says."
    counts = {action: sum(change.action is action for change in plan.changes) for action in Action}
    return "To do: " + ", ".join(f"{count} to {action}" for action, count in counts.items()) + "."


def _fields(change: Change, paint: Paint) -> Iterator[str]:
    for name, (old, new) in change.fields.items():
        yield from _field(name, old, new, paint=paint, is_new=change.action is Action.CREATE)
    for name, (old, new) in change.sealed.items():
        text = f"  + {name}: {new}" if change.action is Action.CREATE else f"  ~ {name}: {old} -> {new}"
        yield plain(f"{text} (secrets are not compared)")


def _field(name: str, old: Any, new: Any, *, paint: Paint, is_new: bool) -> Iterator[str]:
    short = [json.dumps(value, ensure_ascii=False) for value in (old, new)]
    long = max(map(len, short)) > _WIDE or any(isinstance(value, str) and "\n" in value for value in (old, new))
    if not long:
        yield plain(f"  + {name}: {short[1]}" if is_new else f"  ~ {name}: {short[0]} -> {short[1]}")
        return
    yield plain(f"  {'+' if is_new else '~'} {name}:")
    before, after = ([] if is_new else _lines(old)), _lines(new)
    if before == after:
        yield "      (only the ends of lines differ)"
    for line in list(difflib.unified_diff(before, after, lineterm="", n=_AROUND))[2:]:
        if not line.startswith("@@"):
            yield "      " + paint(plain(line), {"+": "green", "-": "red"}.get(line[0], "dim"))
        elif not is_new:
            yield "      " + paint(line, "dim")


def _lines(value: Any) -> list[str]:
    return (value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)).splitlines()


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as a program reads it."""
    return {
        "changes": [_as_json(change) for change in plan.changes],
        "unlisted": [{"kind": kind.word, "id": found.id, "name": found.name(kind)} for kind, found in plan.unlisted],
        "notes": plan.notes,
    }


def _as_json(change: Change) -> dict[str, Any]:
    shown = {name: {"before": old, "after": new} for name, (old, new) in (change.fields | change.sealed).items()}
    thing = change.found or change.entry
    assert thing is not None
    return {
        "action": change.action.value,
        "kind": change.kind.word,
        "id": change.found and change.found.id,
        "name": thing.name(change.kind),
        "fields": shown,
    }
