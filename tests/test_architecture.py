"""Imports point one way, libraries stay in their places, files stay small: what STYLE promises, checked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("relay", "actors", "api")

# From the bottom up: a module of `relay` imports from its own layer and from those before it in this table. A package's
# decisions that lower layers need (plain functions, no table, no wire) are named one by one.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "ids",
        "settings",
        "ports",
        "receiver",
        "redis_urls",
        "redis_clients",
        "redis_modes",
        "paging",
        "specs",
        "strict_json",
        "log",
        "processes",
        "metrics",
        "traces",
        "otlp_http",
        "partitions",
        "producer_role",
        "archive",
        "archive_files",
        "migrations",
        "postgres",
        "migrate",
        "indexes",
        "db",
        "queue",
        "budgets",
        "broker",
        "messages",
        "chores",
        "sandbox",
        "vitals",
        "pump",
        "tasks",
        "replica",
    ),
    (
        "delivery.outcomes",
        "delivery.addresses",
        "delivery.authorization",
        "delivery.asymmetric",
        "delivery.signing",
        "delivery.retry",
        "delivery.masking",
    ),
    ("tenancy", "catalog.secrets"),
    ("catalog",),
    ("intake", "delivery"),
    ("recovery",),
    ("insight", "verify"),
    ("workers", "clock", "upkeep", "feed", "notifier", "presence", "runtime"),
    ("up",),
    ("drill",),
    ("doctor",),
    ("cli",),
)
# A library and the only modules that may import it; a module stands for what is below it, too.
KEPT: dict[str, tuple[str, ...]] = {
    "falcon": ("api",),
    "strawberry": ("api", "relay.cli.schema"),
    "dramatiq": ("actors", "relay.queue", "relay.broker"),
    "pycurl": ("relay.delivery",),
    "_quickjs": ("relay.sandbox.child",),
    "quickjs": (),
    "jsonpath_rfc9535": ("relay.catalog",),
    "re2": ("relay.catalog",),
    "jsonschema_rs": ("relay.catalog",),
    "opentelemetry": ("relay.traces.export", "relay.metrics.otlp"),
}
# Entry points read the environment; whoever else needs a setting is given it.
MAY_READ_ENVIRONMENT = ("relay.settings", "relay.cli", "relay.metrics.files", "actors.main", "actors.dramatiq_master")
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "service", "misc"}
LONGEST_MODULE = 300
LONGEST_FUNCTION = 40


def _modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def _imports(name: str) -> Iterator[str]:
    """Every dotted name a module imports, wherever in it the import stands."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _own(dotted: str) -> str | None:
    """The module of ours that an imported name lies in; None for a library's."""
    while dotted:
        if dotted in MODULES:
            return dotted
        dotted = dotted.rpartition(".")[0]
    return None


ARROWS = {name: {own for dotted in _imports(name) if (own := _own(dotted)) and own != name} for name in MODULES}


def _below(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _layer(name: str) -> int | None:
    place = name.partition(".")[2]
    while place:
        for number, layer in enumerate(LAYERS):
            if place in layer:
                return number
        place = place.rpartition(".")[0]
    return None


def test_relay_imports_neither_api_nor_actors_and_these_two_never_meet() -> None:
    allowed = {"relay": {"relay"}, "actors": {"actors", "relay"}, "api": {"api", "relay"}}
    # The schema is printed from the served one, so that command alone looks into api.
    wrong = [
        f"{name} imports {target}"
        for name, targets in ARROWS.items()
        for target in targets
        if target.split(".")[0] not in allowed[name.split(".")[0]] and name != "relay.cli.schema"
    ]
    assert wrong == []


def test_every_module_of_relay_has_a_layer() -> None:
    assert [name for name in MODULES if name.startswith("relay.") and _layer(name) is None] == []


def test_inside_relay_imports_point_down_the_layers() -> None:
    wrong: list[str] = []
    for name, targets in ARROWS.items():
        here = _layer(name) if name.startswith("relay.") else None
        for target in targets:
            there = _layer(target) if target.startswith("relay.") else None
            if here is not None and there is not None and there > here:
                wrong.append(f"{name} imports {target}")
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(ARROWS).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("library", KEPT)
def test_a_library_is_imported_only_in_its_place(library: str) -> None:
    users = [name for name in MODULES if any(dotted.split(".")[0] == library for dotted in _imports(name))]
    assert [name for name in users if not _below(name, KEPT[library])] == []


def test_only_entry_points_read_the_environment() -> None:
    readers = [
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in {"environ", "environb", "getenv", "putenv"}
    ]
    assert [name for name in readers if not _below(name, MAY_READ_ENVIRONMENT)] == []


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert [name for name in MODULES if name.split(".")[-1].strip("_") in FORBIDDEN_NAMES] == []


def test_modules_and_functions_stay_short() -> None:
    long_modules = [name for name, path in MODULES.items() if len(path.read_text().splitlines()) > LONGEST_MODULE]
    long_functions = [
        f"{name}.{node.name}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert (long_modules, long_functions) == ([], [])


def test_every_public_name_says_what_it_does() -> None:
    bench = {
        f"bench.{path.stem}": ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "bench").rglob("*.py")
    }
    assert bench
    assert [name for module, tree in {**TREES, **bench}.items() for name in _silent(tree, module)] == []


def _silent(scope: ast.Module | ast.ClassDef, path: str) -> Iterator[str]:
    """Public functions, classes and methods without a docstring; those inside functions or private classes aside."""
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield f"{path}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _silent(node, f"{path}.{node.name}")
