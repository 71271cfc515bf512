"""`relay doctor`: ask the production checklist of a running installation, and of the overlay that deploys it."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from relay.cli.environment import command_environment, command_settings
from relay.cli.terminal import Paint, plain, print_json
from relay.doctor import overlay
from relay.doctor.examine import AREAS, CHECKS, accepted, examine
from relay.doctor.given import Given
from relay.doctor.verdict import Finding, Result, Scope

_COLOURS = {Result.PASS: "green", Result.WARN: "yellow", Result.FAIL: "red", Result.SKIPPED: "dim"}
_EXAMPLES = """examples:
  relay doctor
  relay doctor --production --backup-age 9
  kubectl kustomize deploy/k8s/overlays/production | relay doctor --production --overlay -
  kubectl kustomize deploy/k8s/overlays/production | relay doctor --production --only overlay --overlay -

The exit code is 0 when nothing fails, and 1 when something does; a warning does not fail.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="ask what production needs: settings, Postgres, Redis, processes, metrics, and how Relay is deployed",
        description="Asks what an installation needs, and says what fails, why, and what to do about it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--production", action="store_true", help="ask what only production needs, too")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("--overlay", metavar="FILE", help="a rendered Kubernetes overlay; - for standard input")
    parser.add_argument(
        "--metrics-url", metavar="URL", help="a worker's metrics page (default: the one of this machine)"
    )
    backup = parser.add_mutually_exclusive_group()
    backup.add_argument("--backup-age", type=float, metavar="HOURS", help="how old the newest backup is")
    backup.add_argument("--backup-file", type=Path, metavar="PATH", help="the newest backup, whose time tells its age")
    parser.add_argument(
        "--only",
        action="append",
        choices=AREAS,
        metavar="AREA",
        help=f"ask only this area and an overlay that is given; may be repeated: {', '.join(AREAS)}",
    )
    parser.add_argument(
        "--accept",
        action="append",
        choices=CHECKS,
        default=[],
        metavar="CHECK",
        help="let a failure of this check be a warning; may be repeated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 when something fails."""
    areas: Collection[str] = [*args.only, *(["overlay"] if args.overlay else [])] if args.only else tuple(AREAS)
    found = accepted(asyncio.run(_findings(args, areas)), args.accept)
    if args.json:
        print_json({"production": args.production, "result": worst(found), "checks": [_as_json(one) for one in found]})
    else:
        print(page(found, paint=Paint(sys.stdout)))
    return 1 if worst(found) is Result.FAIL else 0


async def _findings(args: argparse.Namespace, areas: Collection[str]) -> list[Finding]:
    found: list[Finding] = []
    if set(areas) != {"overlay"}:
        found += await examine(_given(args), areas=areas)
    if "overlay" in areas:
        found += await overlay.examine(_text(args.overlay), scopes=_scopes(production=args.production))
    return found


def _given(args: argparse.Namespace) -> Given:
    settings = command_settings()
    age = args.backup_age
    if args.backup_file is not None:
        age = (time.time() - args.backup_file.stat().st_mtime) / 3600
    return Given(
        settings,
        environ=command_environment(),
        scopes=_scopes(production=args.production),
        metrics_url=args.metrics_url,
        backup_age_h=age,
    )


def _scopes(*, production: bool) -> tuple[Scope, ...]:
    return tuple(Scope) if production else (Scope.EVERYWHERE,)


def _text(name: str | None) -> str | None:
    if name == "-":
        return sys.stdin.read()
    return Path(name).read_text(encoding="utf-8") if name else None


def worst(found: list[Finding]) -> Result:
    """The worst result of them all."""
    results = {one.verdict.result for one in found}
    return next((result for result in (Result.FAIL, Result.WARN) if result in results), Result.PASS)


def page(found: list[Finding], *, paint: Paint) -> str:
    """Return what was found as a person reads it: area by area, with what to do below what is not as it should be."""
    lines: list[str] = []
    area = ""
    asked = [one for one in found if one.verdict.result is not Result.SKIPPED]
    width = max((len(one.check) for one in asked), default=0)
    for one in asked:
        if one.area != area:
            area = one.area
            lines.append(paint(area, "bold"))
        result = one.verdict.result
        lines.append(f"  {paint(result, _COLOURS[result])}  {one.check:{width}}  {plain(one.verdict.reason)}")
        if one.verdict.fix and result is not Result.PASS:
            lines.append(f"        {'':{width}}  {paint(plain(one.verdict.fix), 'dim')}")
    counts = Counter(one.verdict.result for one in found)
    lines += ["", f"{counts[Result.PASS]} pass, {counts[Result.WARN]} warn, {counts[Result.FAIL]} fail."]
    if counts[Result.SKIPPED]:
        lines.append(
            f"{counts[Result.SKIPPED]} checks were not asked: --production asks all, --overlay those of Kubernetes."
        )
    return "\n".join(lines)


def _as_json(one: Finding) -> dict[str, str]:
    verdict = one.verdict
    return {
        "area": one.area,
        "check": one.check,
        "result": verdict.result,
        "reason": verdict.reason,
        "fix": verdict.fix,
    }
