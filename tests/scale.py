"""How much of a long list a run goes through: a part in CI, all of it by `make proof`, whose report keeps the figures."""

from __future__ import annotations

import os
from pathlib import Path

FULL = os.environ.get("RELAY_TESTS_FULL") == "1"
_REPORT = os.environ.get("RELAY_TESTS_REPORT")


def sized(full: int, part: int) -> int:
    """The full size by `make proof`, else the part that CI has time for."""
    return full if FULL else part


def tell(figure: str) -> None:
    """Print a figure of this run, and put it into the report if there is to be one."""
    print(figure)
    if _REPORT:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        with Path(_REPORT).open("a", encoding="utf-8") as report:
            report.write(f"{test}\n    {figure}\n")
