"""Each line of the deployment guide is one that its program takes: run where that works here, else read option by option."""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from relay.cli.main import _parser
from tests.deploy.compose import BINARY, FILE
from tests.documents import ROOT, blocks_of, logical_lines, program_of

PAGE = ROOT / "docs" / "deployment.md"
KUBECTL = Path(sys.executable).parent / "kubectl"
LINES = [line for block in blocks_of(PAGE) if block.language == "sh" for line in logical_lines(block.text)]
SERVICES = set(yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"])


COMMANDS = {
    *(("create", "namespace"), ("create", "secret", "generic"), ("apply",), ("exec",)),
    *(("rollout", "status"), ("rollout", "undo")),
}
SECRETS = {"database-url", "signing-key"}
#: What is made for production: its name, and the keys in it.
CREATED = {"Namespace": ("relay-production", set[str]()), "Secret": ("relay-secrets", SECRETS)}


def lines_of(program: str) -> list[list[str]]:
    """The words after the program's name, of each line that runs it; what is set for it comes before."""
    split = [shlex.split(line) for line in LINES]
    return [words[words.index(program) + 1 :] for words in split if program_of(words) == program]


@cache
def options(*command: str) -> dict[str, bool]:
    """Every option that this command's help names; True: it takes a value."""
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, bool] = {}
    # kubectl:  -n, --namespace='':      compose:  -f, --file stringArray   Which file
    for short, long, value in re.findall(r"^ +(?:(-\w), )?(--[\w-]+)(=\S+|(?: \w+)?)", done.stdout, re.MULTILINE):
        takes = value.strip() not in {"", "=false:", "=true:"}
        found |= {name: takes for name in (short, long) if name}
    return found


def rest_of(words: list[str], known: dict[str, bool]) -> list[str]:
    """The words that are no options; each option must be a known one. What comes after `--` is left out."""
    rest: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            break
        if not word.startswith("-"):
            rest.append(word)
            continue
        name, equals, _ = word.partition("=")
        assert name in known, word
        if known[name] and not equals:
            assert next(waiting, None) is not None, word
    return rest


@cache
def options_of_kubectl() -> dict[str, bool]:
    """Those that every command of kubectl takes."""
    done = subprocess.run([KUBECTL, "options"], capture_output=True, text=True, timeout=30, check=True)
    found = re.findall(r"^ +(?:(-\w), )?(--[\w-]+)=(\S+):", done.stdout, re.MULTILINE)
    return {name: value not in {"false", "true"} for *names, value in found for name in names if name}


@pytest.mark.system
@pytest.mark.parametrize("words", lines_of("docker"), ids=" ".join)
def test_docker_compose_takes_the_line(words: list[str]) -> None:
    assert BINARY.exists(), "Docker Compose is not installed: run .ci/run"
    assert words[0] == "compose"
    subcommand = words[1]
    named = rest_of(words[2:], options(str(BINARY), subcommand))
    assert set(named) <= SERVICES
    for scaled in (word for word in words if "=" in word and not word.startswith("-")):
        assert re.fullmatch(r"\w+=\d+", scaled)
        assert scaled.partition("=")[0] in SERVICES


@pytest.mark.parametrize("words", lines_of("kubectl"), ids=" ".join)
def test_kubectl_takes_the_line(words: list[str], tmp_path: Path) -> None:
    plain = words[2:] if words[0] == "-n" else words
    command = next(plain[:depth] for depth in (3, 2, 1) if tuple(plain[:depth]) in COMMANDS)
    assert rest_of(words, options_of_kubectl() | options(str(KUBECTL), *command))[: len(command)] == command
    if command[0] == "create":
        for name in SECRETS:
            (tmp_path / name).write_text("a secret of 32 characters at least")
        argv = [KUBECTL, *words, "--dry-run=client", "--output=yaml"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        made = yaml.safe_load(done.stdout)
        assert (made["metadata"]["name"], set(made.get("data", ()))) == CREATED[made["kind"]]
    elif "--" in plain:
        program, *rest = plain[plain.index("--") + 1 :]
        assert program == "relay"
        assert callable(_parser().parse_args(rest).run)


def test_the_namespace_comes_before_the_secret() -> None:
    order = [word for words in lines_of("kubectl") for word in words if word in {"namespace", "secret", "apply"}]
    assert order == ["namespace", "secret", "apply"]


def test_the_line_for_a_signing_key_makes_one(tmp_path: Path) -> None:
    (line,) = [line for line in LINES if line.startswith("head ")]
    subprocess.run(["sh", "-ec", line], cwd=tmp_path, check=True, timeout=10)
    key = (tmp_path / "signing-key").read_text().strip()
    assert len(base64.b64decode(key)) == 32
    assert len(key) >= 32


def test_git_is_asked_for_nothing_but_a_tag() -> None:
    assert lines_of("git") == [["checkout", "v1"]]


@pytest.mark.parametrize("bad", ["--detached", "-x", "--scale"])
def test_an_option_that_is_not_known_is_found(bad: str) -> None:
    with pytest.raises(AssertionError):
        rest_of(["up", bad], {"--detach": False, "-d": False, "--scale": True})
