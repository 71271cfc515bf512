"""Two runs of the benchmark side by side: every figure of every block that both have, and which of them differ for real."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.programs import ProgramFailed

#: How far a figure moves from one run to the next with nothing changed, as a share of it: times more than costs.
_NOISE, _NOISE_OF_TIMES = 0.05, 0.25
_TIMES = ("_ms.", "_s.", "_ms", "idle_cpu_percent.")
#: Where more is better; of all other figures less is. Any fault more is worse.
_MORE_IS_BETTER = ("_per_s", "of_one_per_rtt.", "share_percent.low", "in_10_s.min")
_FAULTS = ("lost", "duplicates", "order_breaks", "misdelivered", "strangers")
#: What the length of a run decides, and what is neither good nor bad.
_NO_VERDICT = ("events", "deliveries", "accepting_s", "delivering_s", "expected", "unconfirmed", "share_percent.")
#: Below this a figure is as good as nothing, and a ratio means nothing.
_TINY = 0.5
_WIDE = 44


@dataclass(frozen=True, slots=True)
class Line:
    """A figure of both runs; the verdict is `better`, `worse`, or empty."""

    figure: str
    before: float
    after: float
    verdict: str

    @property
    def ratio(self) -> str:
        """The second to the first."""
        return f"{self.after / self.before:.2f}" if self.before else "-"


def compare(first: Path, second: Path) -> str:
    """Return a table of two files of figures for a person to read; blocks are matched by name."""
    runs = _read(first), _read(second)
    blocks = [{one["name"]: one["figures"] for one in run["results"]} for run in runs]
    blocks = [{**one, "in all": run.get("totals", {})} for one, run in zip(blocks, runs, strict=True)]
    lines = [f"{label}  {_told(run)}" for label, run in zip("AB", runs, strict=True)]
    lines.append(f"Beyond noise: {_NOISE:.0%} of a figure, {_NOISE_OF_TIMES:.0%} of a time.")
    for name in (one for one in blocks[0] if one in blocks[1]):
        lines += ["", f"{name:<{_WIDE + 2}}{'A':>10} {'B':>10} {'B/A':>7}"]
        lines += [
            f"  {one.figure:<{_WIDE}}{_number(one.before):>10} {_number(one.after):>10} {one.ratio:>7}  {one.verdict}".rstrip()
            for one in compared(blocks[0][name], blocks[1][name])
        ]
    for label, mine, other in (("A", *blocks), ("B", *reversed(blocks))):
        lines += [f"\nOnly in {label}: {name}" for name in mine if name not in other]
    return "\n".join(lines)


def compared(before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[Line]:
    """Yield every figure that both blocks have."""
    for figure in before:
        if figure in after:
            yield Line(figure, before[figure], after[figure], verdict(figure, before[figure], after[figure]))


def verdict(figure: str, before: float, after: float) -> str:
    """Say whether the second is better or worse than the first by more than noise."""
    if not (math.isfinite(before) and math.isfinite(after)):
        return ""
    if figure in _FAULTS:
        return "" if before == after else "worse" if after > before else "better"
    if figure.endswith(_MORE_IS_BETTER) or figure.startswith(_MORE_IS_BETTER):
        before, after = after, before
    elif figure.startswith(_NO_VERDICT):
        return ""
    noise = _NOISE_OF_TIMES if any(part in figure for part in _TIMES) else _NOISE
    if max(before, after) < _TINY or abs(after - before) <= noise * min(before, after):
        return ""
    return "worse" if after > before else "better"


def _read(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(run, dict) and "results" in run:
            return run
    except (OSError, ValueError) as cause:
        raise ProgramFailed(f"{path} cannot be read: {cause}") from cause
    raise ProgramFailed(f"{path} holds no figures of a benchmark.")


def _told(run: Mapping[str, Any]) -> str:
    facts = {**run, **run.get("machine", {})}
    return ", ".join(str(facts.get(name, "?")) for name in ("commit", "made", "processor", "command"))


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
