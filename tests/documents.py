"""The documentation as tests read it: pages, their code, and what a shell block would run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_ACTIVATE = ". .venv/bin/activate"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code; `place` is where it begins."""

    language: str
    text: str
    place: str


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(*languages: str) -> list[Block]:
    """Every block of these languages, page by page."""
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def blocks_of(page: Path) -> list[Block]:
    text = text_of(page)
    return [
        Block(found[1], found[2], f"{name_of(page)}:{text.count(chr(10), 0, found.start()) + 1}")
        for found in _FENCE.finditer(text)
    ]


def prose_of(page: Path) -> str:
    """The page without its blocks."""
    return _FENCE.sub("", text_of(page))


def spans_of(page: Path) -> list[str]:
    """What stands between backticks in the page's prose."""
    return _SPAN.findall(prose_of(page))


def spans() -> list[str]:
    """What stands between backticks, on all pages."""
    return [span for page in PAGES for span in spans_of(page)]


def shell_commands() -> list[tuple[str, list[str]]]:
    """Place and words of each command in a shell block; comments and the activation of .venv left out."""
    lines = [(block.place, line) for block in blocks("sh") for line in logical_lines(block.text)]
    return [(place, shlex.split(line, comments=True)) for place, line in lines if line != _ACTIVATE]


def program_of(words: list[str]) -> str:
    """The program that a line runs; settings for it may stand before its name."""
    return next(word for word in words if not re.match(r"[A-Z_]+=", word))


def logical_lines(text: str) -> list[str]:
    """Lines as a shell sees them: joined at backslashes and inside quotes."""
    lines: list[str] = []
    rest = ""
    for line in text.replace("\\\n", " ").splitlines():
        rest = f"{rest}\n{line}" if rest else line.strip()
        try:
            shlex.split(rest, comments=True)
        except ValueError:  # a quote is open
            continue
        if rest:
            lines.append(rest)
        rest = ""
    assert not rest, f"a quote is never closed: {rest}"
    return lines


def first_column(page: Path, heading: str) -> list[str]:
    """The cells of the first column of the table that begins with this heading row."""
    return [row[0] for row in table(page, heading)]


def table(page: Path, heading: str) -> list[list[str]]:
    """The rows of the table that begins with this heading row."""
    lines = text_of(page).splitlines()
    start = lines.index(heading) + 2
    rows: list[list[str]] = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows
