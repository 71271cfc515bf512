"""The Dockerfile and the .dockerignore as a builder reads them: stages of instructions, and the files it is shown."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Copy:
    """One COPY: where from (a stage, or the context), what, where to, and with which mode."""

    sources: list[str]
    target: str
    stage: str | None
    mode: int | None


@dataclass(slots=True)
class Stage:
    """What stands between one FROM and the next: (instruction, rest of the line)."""

    base: str
    name: str | None
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for name, rest in self.instructions if name == word]

    def one(self, word: str) -> str:
        (rest,) = self.all(word)
        return rest

    def argv(self, word: str) -> list[str]:
        """The words of an instruction in exec form; anything else has a shell in between, which swallows signals."""
        return json.loads(self.one(word))

    def environment(self) -> dict[str, str]:
        return dict(word.split("=", 1) for line in self.all("ENV") for word in shlex.split(line))

    def copies(self) -> list[Copy]:
        return [read_copy(line) for line in self.all("COPY")]


def read_stages(path: Path = DOCKERFILE) -> list[Stage]:
    """The stages in their order."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[Stage] = []
    for line in filter(str.strip, text.splitlines()):
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name or None))
        elif stages:
            stages[-1].instructions.append((word, " ".join(rest.split())))
    return stages


def read_copy(line: str) -> Copy:
    """What the rest of a COPY line says."""
    words = line.split()
    options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
    *sources, target = [word for word in words if not word.startswith("--")]
    mode = options.get("chmod")
    return Copy(sources, target, options.get("from"), int(mode, 8) if mode else None)


def build_arguments(path: Path = DOCKERFILE) -> dict[str, str]:
    """The defaults of the arguments that stand before the first FROM."""
    head = path.read_text(encoding="utf-8").partition("\nFROM")[0]
    return dict(re.findall(r"^ARG (\w+)=(\S+)", head, re.MULTILINE))


def in_context(name: str, patterns: list[str] | None = None) -> bool:
    """Whether a builder is shown this file of the checkout: the last line of .dockerignore that fits it decides."""
    kept = True
    for pattern in read_ignored() if patterns is None else patterns:
        if _fits(pattern.removeprefix("!"), name):
            kept = pattern.startswith("!")
    return kept


def read_ignored() -> list[str]:
    """The lines of .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _fits(pattern: str, name: str) -> bool:
    """A pattern fits a path or any folder above it: `*` stops at a slash, `**/` stands for any number of folders."""
    parts = [re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("**/")]
    return re.fullmatch(f"{'(?:.*/)?'.join(parts)}(?:/.*)?", name) is not None
