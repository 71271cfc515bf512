"""Every check is explained on its page, shown to pass by one test, and shown not to pass by another."""

from __future__ import annotations

import ast
from pathlib import Path

from relay.cli.main import _parser
from relay.doctor.examine import AREAS, CHECKS
from relay.doctor.verdict import Scope
from tests.documents import ROOT, shell_commands, table

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "doctor.md"
NAMES = list(CHECKS)
ROWS = table(PAGE, "| check | passes when | otherwise |")


def claims(*functions: str) -> set[str]:
    """The checks that some test here claims this of."""
    return {
        call.args[1].value
        for path in HERE.glob("test_*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in functions
        and isinstance(call.args[1], ast.Constant)
        and isinstance(call.args[1].value, str)
    } | {name for path in HERE.glob("test_*.py") for name in _looped(path, functions)}


def _looped(path: Path, functions: tuple[str, ...]) -> set[str]:
    """Checks that are claimed in a loop over their names: `for check in (…): passes(found, check)`."""
    return {
        name.value
        for loop in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(loop, ast.For) and isinstance(loop.iter, ast.Tuple)
        and any(isinstance(it, ast.Name) and it.id in functions for it in ast.walk(loop))
        for name in loop.iter.elts
        if isinstance(name, ast.Constant) and isinstance(name.value, str)
    }  # fmt: skip


def test_every_check_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES))


def test_every_check_is_shown_to_pass() -> None:
    assert set(NAMES) - claims("passes") == set()


def test_every_check_is_shown_not_to_pass() -> None:
    assert set(NAMES) - claims("fails", "warns") == set()
    assert set(NAMES) - claims("fails") == set()


def test_every_check_is_explained_and_no_other() -> None:
    assert [row[0].strip("`") for row in ROWS] == NAMES
    assert all(len(row) == 3 and all(row) for row in ROWS)


def test_what_is_asked_in_development_too_is_marked() -> None:
    asked = [check for area, checks in AREAS.items() for check in checks if area != "overlay"]
    everywhere = {check.name for check in asked if check.scope is Scope.EVERYWHERE}
    marked = {row[0].strip("`") for row in ROWS if row[1].startswith("Always: ")}
    assert marked == everywhere


def test_what_kubectl_pipes_or_runs_is_what_relay_takes() -> None:
    lines = [words for place, words in shell_commands() if place.startswith("docs/doctor.md") and words[0] == "kubectl"]
    assert {words[1] for words in lines} == {"-n", "kustomize"}
    for words in lines:
        start = words.index("relay")
        assert words[start - 1] in ("|", "--")
        arguments = _parser().parse_args(words[start + 1 :])
        assert (arguments.run.__module__, arguments.production) == ("relay.cli.doctor", True)
