"""The long search: `python -m tests.model --runs 20000`, or with `--without RULE` for the shortest schedule that breaks."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from tests.model.faults import FAULTS, ORDERED, Trouble
from tests.model.rules import NAMES, Rules
from tests.model.run import Broken, run

_SIZES = (
    Trouble((), clocks=2),
    Trouble((), most=6, events=12, cancels=4, clocks=2),
    Trouble((), most=5, workers=1),
    Trouble((), events=16, cancels=4, clocks=2, pauses=4, outages=3),
    Trouble((), most=5, lanes=ORDERED, events=12, clocks=2, pauses=2, releases=3, outages=2),
    Trouble((), lanes=tuple(("f", f"fifo:{key}") for key in range(12)), events=16, clocks=2, pauses=3, outages=4),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds, each under one size of trouble in turn; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--without", action="append", choices=NAMES, default=[], help="a rule to leave out")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), default=[], help="only these faults")
    wanted = parser.parse_args(arguments)
    began = time.monotonic()
    rules = Rules().without(*wanted.without)
    faults = tuple(wanted.fault or FAULTS)
    broken: list[Broken] = []
    for seed in range(wanted.first, wanted.first + wanted.runs):
        found = run(seed, rules, replace(_SIZES[seed % len(_SIZES)], faults=faults))
        if found:
            broken.append(found)
    print(f"{wanted.runs} runs in {time.monotonic() - began:.0f} s: {len(broken)} broke a promise")
    if broken:
        shortest = min(broken, key=lambda one: len(one.log))
        print(*shortest.log, f"seed {shortest.seed}: {shortest.why}", sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
