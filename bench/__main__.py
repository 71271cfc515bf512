"""`make bench`: start the whole system, load it, count what arrived, say what it cost.

The exit code is 1 when a delivery was lost, doubled or misdelivered; a budget that is exceeded is only told.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine, report
from bench.adapter import Adapter, read
from bench.compare import compare
from bench.load import Bench, Measured
from bench.programs import ANY_PORT, CHECKOUT, ProgramFailed, receiving
from bench.scenarios import DEFAULT, FOREIGN, GROUPS, SCENARIOS, chosen, endpoints
from bench.self_test import self_test
from bench.sizes import QUICK, Sizes
from bench.system import System, started
from relay.errors import RelayError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped in order
    try:
        return _compare(*options.compare) if options.compare else _self_test() if options.self_test else _bench(options)
    except (ProgramFailed, RelayError) as cause:
        print(f"bench: {cause}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help=f"some of {', '.join((*SCENARIOS, *GROUPS))} (default {' '.join(DEFAULT)})",
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="how long each load lasts (default 5)")
    parser.add_argument("--clients", type=int, metavar="N", help="connections of the generator (default 32)")
    parser.add_argument("--backlog", type=int, metavar="N", help="deliveries that wait in `backlog` (default 50 000)")
    parser.add_argument("--stored", type=int, metavar="N", help="deliveries stored in `growth` (default 10 000 000)")
    parser.add_argument("--quick", action="store_true", help="shorter and with fewer endpoints: a first impression")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the figures go (default bench/results/TIME.json)"
    )
    parser.add_argument("--url", help="a Relay that already runs, on this machine; its CPU is not measured")
    parser.add_argument("--key", default="", help="an API key of that Relay with all scopes")
    parser.add_argument(
        "--adapter", type=Path, metavar="FILE", help="how any other HTTP system is sent events (docs/benchmark.md)"
    )
    parser.add_argument("--self-test", action="store_true", help="try whether loss, doubles and disorder are seen")
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A.json", "B.json"), help="tell how two runs differ, and run nothing"
    )
    return parser


def _compare(first: Path, second: Path) -> int:
    print(compare(first, second))
    return 0


def _self_test() -> int:
    with started() as system:
        wrong = self_test(system)
    print("\n".join(wrong) or "What was swallowed, deleted, doubled and swapped was reported as that.")
    return 1 if wrong else 0


def _bench(options: argparse.Namespace) -> int:
    foreign = read(options.adapter, os.environ) if options.adapter else None
    names = chosen(options.scenarios, among=FOREIGN if foreign else SCENARIOS)
    at = foreign.receiver if foreign else ANY_PORT
    with receiving(at=at) as receiver, _system(options, foreign) as running:
        bench = Bench(running, receiver, _sizes(options))
        with endpoints(running, receiver, bench.sizes, names=names):
            measured = [block for name in names for block in _measured(name, bench)]
        found, totals = report.results(bench, measured)
        about = _about(bench)
        print(report.page(found, totals, about))
        _write(options.json, {**about, "results": [asdict(one) for one in found], "totals": asdict(totals)})
        if totals.faults:
            sys.exit(1)  # from in here, so that the system's log and data are kept
    return 0


def _system(options: argparse.Namespace, foreign: Adapter | None) -> contextlib.AbstractContextManager[System]:
    if foreign:
        return contextlib.nullcontext(System(foreign.one.url, "", foreign=foreign))
    return contextlib.nullcontext(System(options.url, options.key)) if options.url else started()


def _measured(name: str, bench: Bench) -> list[Measured]:
    print(f"bench: {name} …", file=sys.stderr, flush=True)
    return bench.measure(SCENARIOS[name])


def _sizes(options: argparse.Namespace) -> Sizes:
    given = {
        name: value
        for name in ("seconds", "clients", "backlog", "stored")
        if (value := getattr(options, name)) is not None
    }
    return replace(QUICK if options.quick else Sizes(), **given)


def _about(bench: Bench) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "versions": {**bench.system.versions, **machine.versions()},
        "settings": bench.system.settings or f"those of the system at {bench.system.url}",
        "sizes": asdict(bench.sizes),
    }


def _write(path: Path | None, content: dict[str, Any]) -> None:
    if path is None:
        path = CHECKOUT / "bench" / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nThe figures as JSON: {path}")


if __name__ == "__main__":
    sys.exit(main())
