"""The pages say what is true: whatever they name exists, and whatever a user needs is named."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import AsyncIterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import falcon.inspect
import pytest
import yaml
from falcon.testing import ASGIConductor
from graphql import GraphQLEnumType, GraphQLInputObjectType, build_schema, parse, validate
from prometheus_client import Counter, Gauge, Histogram
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from api.app import create_app
from api.graphql.schema import sdl
from relay import metrics
from relay.archive import SCHEMA as SCHEMA_OF_ARCHIVE
from relay.cli.main import _parser
from relay.postgres import conninfo
from relay.producer_role import ROLE
from relay.settings import Settings
from relay.tenancy.scopes import Scope
from tests.documents import (
    PAGES,
    ROOT,
    Block,
    blocks,
    first_column,
    name_of,
    program_of,
    prose_of,
    shell_commands,
    spans,
    spans_of,
    table,
    text_of,
)

README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
DECISIONS = ROOT / "docs" / "decisions"
SCHEMA = build_schema(sdl())
COMMANDS = shell_commands()
#: Set apart: what the page of settings explains about all of them, and is itself tested by test_repository.
CONFIGURATION = ROOT / "docs" / "configuration.md"


def place(block: Block) -> str:
    return block.place


def actions(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The subcommands of a parser by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def commands() -> set[str]:
    """Every command of `relay`, those with actions once for each."""
    paths: set[str] = set()
    for name, parser in actions(_parser()).items():
        paths |= {f"{name} {action}" for action in actions(parser)} or {name}
    return paths


# ---- links and sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", prose_of(linked), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}, (
                target
            )


def test_every_decision_is_short_and_listed() -> None:
    listed = text_of(DECISIONS / "README.md")
    for record in DECISIONS.glob("[0-9]*.md"):
        assert len(text_of(record).splitlines()) <= 40, record.name
        assert f"]({record.name})" in listed, record.name


def test_contributing_is_short() -> None:
    assert len(text_of(ROOT / "CONTRIBUTING.md").splitlines()) <= 60


def test_every_file_and_folder_that_is_named_exists() -> None:
    names = {path.name for folder in ("relay", "api", "actors", "tests") for path in (ROOT / folder).rglob("*.py")}
    tops = {path.name for path in ROOT.iterdir()} - {".venv", ".relay"}
    for span in spans():
        if " " not in span and "/" in span and span.split("/")[0] in tops:
            assert (ROOT / span).exists(), span
        elif re.fullmatch(r"\w+\.py", span):
            assert span in names, span


# ---- commands --------------------------------------------------------------------------------------------------------


def test_every_command_exists_and_is_documented() -> None:
    cells = first_column(README, "| command | what it does |")
    assert {command for cell in cells for command in re.findall("`relay (.+?)`", cell)} == commands()
    known = actions(_parser())
    for span in spans():
        if found := re.match(r"relay ([a-z]+)(?: ([a-z]+))?", span):
            name, action = found.groups()
            assert name in known, span
            assert action is None or action in actions(known[name]) or not actions(known[name]), span


@pytest.mark.parametrize("words", [words for _, words in COMMANDS if words[0] == "relay"], ids=" ".join)
def test_every_line_that_is_shown_is_one_that_relay_takes(words: list[str]) -> None:
    assert callable(_parser().parse_args(words[1:]).run)


def test_every_target_of_make_exists_and_is_documented() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = {words[words.index("make") + 1] for _, words in COMMANDS if "make" in words}
    inline = {found[1] for span in spans() if (found := re.search(r"\bmake ([a-z-]+)", span))}
    assert shown | inline == targets


def test_every_other_program_that_is_shown_is_known() -> None:
    known = {"curl", "docker", "git", "gunicorn", "head", "helm", "kubectl", "make", "promtool", "python3", "relay"}
    # Run by tests/e2e/test_point_in_time.py.
    known |= {
        "cp",
        "grep",
        "gunzip",
        "mv",
        "pg_basebackup",
        "pg_dump",
        "pg_restore",
        "pg_verifybackup",
        "psql",
        "touch",
    }
    assert {program_of(words) for _, words in COMMANDS} == known


# ---- routes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def conductor(settings: Settings) -> AsyncIterator[ASGIConductor]:
    async with ASGIConductor(create_app(settings)) as conductor:
        yield conductor


async def test_every_route_exists_and_is_documented(conductor: ASGIConductor) -> None:
    routes = {route.path for route in falcon.inspect.inspect_routes(conductor.app)}
    rows = table(README, "| route | who | what |")
    assert {row[0].strip("`") for row in rows} == routes
    assert {span for span in spans() if re.fullmatch(r"/(?!var/)[\w/{}]*", span)} <= routes
    pages = (ROOT / "actors" / "pages.py").read_text(encoding="utf-8")
    assert {row[0].strip("`") for row in rows if "worker" in row[1]} == set(re.findall(r'path == "(/[^"]+)"', pages))


@pytest.mark.parametrize("words", [words for _, words in COMMANDS if words[0] == "curl"], ids=" ".join)
async def test_every_curl_that_is_shown_is_answered(words: list[str], conductor: ASGIConductor) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d")
    parser.add_argument("url")
    given = parser.parse_args(words[1:])
    url = urlsplit(given.url)
    assert url.netloc == "127.0.0.1:8080"
    headers = dict(header.split(": ", 1) for header in given.H)
    answer = await conductor.simulate_post(url.path, body=given.d, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    assert "errors" not in answer.json, answer.text
    assert not any("error" in result for result in answer.json.get("results", ())), answer.text


# ---- snippets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("graphql"), ids=place)
def test_graphql_fits_the_served_schema(block: Block) -> None:
    assert validate(SCHEMA, parse(block.text)) == []


@pytest.mark.parametrize("block", blocks("json"), ids=place)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks("yaml"), ids=place)
def test_yaml_is_yaml(block: Block) -> None:
    assert yaml.safe_load(block.text)


async def test_the_endpoint_of_the_readme_is_made(conductor: ASGIConductor) -> None:
    (mutation,) = [block.text for block in blocks("graphql") if block.text.startswith("mutation Create(")]
    (variables,) = [block.text for block in blocks("json") if block.text.startswith('{"input"')]
    body = json.dumps({"query": mutation, "variables": json.loads(variables)})
    answer = await conductor.simulate_post("/graphql", body=body, headers={"Content-Type": "application/json"})
    made: dict[str, Any] = answer.json["data"]["createEndpoint"]
    assert made["secret"].startswith("whsec_")


# Those of docs/outbox.md need a client and a table: tests/intake/test_outbox_page.py.
@pytest.mark.parametrize("block", [one for one in blocks("sql") if "outbox.md" not in one.place], ids=place)
async def test_sql_runs(block: Block, conn: AsyncConnection[TupleRow]) -> None:
    await conn.execute(block.text.encode())


@pytest.mark.parametrize("block", blocks("ini"), ids=place)
def test_an_ini_is_one(block: Block) -> None:
    ini = ConfigParser(interpolation=None)
    ini.read_string(block.text)
    assert ini.sections()


@pytest.mark.parametrize("url", sorted({span for span in spans() if span.startswith("postgresql://")}))
def test_every_url_of_postgres_is_taken(url: str, settings: Settings) -> None:
    assert conninfo(Settings.model_validate({**settings.model_dump(), "database_url": url}).database_url)


def test_no_block_is_of_a_kind_that_no_test_reads() -> None:
    languages = {"sh", "graphql", "json", "yaml", "sql", "ini", "conf", "promql", "python", "js", "go", ""}
    assert {block.language for block in blocks(*languages)} <= languages
    assert text_count("```") == 2 * len(blocks(*languages))


def text_count(what: str) -> int:
    return sum(text_of(page).count(what) for page in PAGES)


# ---- names -----------------------------------------------------------------------------------------------------------


def test_every_metric_exists_and_is_documented() -> None:
    real = {f"{one.name}_total" if one.kind == "counter" else one.name: list(one.labels) for one in metrics.cluster.ALL}
    for one in vars(metrics).values():
        if isinstance(one, Counter):
            real[f"{one._name}_total"] = list(one._labelnames)
        elif isinstance(one, Histogram | Gauge):
            real[one._name] = list(one._labelnames)
    rows = table(OPERATIONS, "| metric | labels | counts |")
    assert {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows} == real
    assert {name for span in spans() for name in re.findall(r"\brelay_[a-z_]+", span)} <= {
        *real,
        SCHEMA_OF_ARCHIVE,
        ROLE,
    }


def test_every_line_of_the_log_that_is_quoted_is_written() -> None:
    quoted = [span for span in spans_of(OPERATIONS) if re.fullmatch(r"(?!relay )[\w…:]+( [\w…:]+)+", span)]
    files = [path for package in ("relay", "api") for path in (ROOT / package).rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    assert len(quoted) > 4
    for line in quoted:
        assert re.search(re.escape(line).replace("…", "%[ds]"), source), line


def test_every_word_in_capitals_is_a_setting_or_one_of_the_api() -> None:
    settings = {name.upper() for name in Settings.model_fields}
    known = settings | {f"{name}_FILE" for name in settings}
    known |= {span for span in spans_of(CONFIGURATION) if span.startswith("RELAY_")}
    known |= {value for kind in SCHEMA.type_map.values() if isinstance(kind, GraphQLEnumType) for value in kind.values}
    named = {span for page in PAGES if page != CONFIGURATION for span in spans_of(page)}
    words = {re.split("[= ]", span)[0] for span in named if re.match(r"[A-Z][A-Z_]{2,}(=\S+)?( make \w+)?$", span)}
    assert words - known <= {"ARGS", "POST", "PUT", "PATCH"}  # of make, and of HTTP


def test_every_field_of_an_event_is_documented() -> None:
    inputs = [SCHEMA.type_map[name] for name in ("SendEventInput", "CreateEventInput")]
    fields = {field for kind in inputs if isinstance(kind, GraphQLInputObjectType) for field in kind.fields}
    cells = first_column(README, "| field | meaning |")
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == fields


def test_every_scope_is_documented() -> None:
    assert [cell.strip("`") for cell in first_column(README, "| scope | allows |")] == [scope.value for scope in Scope]
