"""The corpus of spellings, sent in a network namespace whose every address is on `lo`: nothing leaves the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from ipaddress import ip_address
from typing import Any

import pytest

from tests.egress.corpus import CASES, FORBIDDEN
from tests.running import CHECKOUT

pytestmark = pytest.mark.system


def sent_inside(*options: str) -> list[dict[str, Any]]:
    """What became of every case of the corpus, in its order."""
    namespace = ["unshare", "--net", "--mount", *(["--user", "--map-root-user"] if os.getuid() else [])]
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.egress.inside", *options],
        cwd=CHECKOUT,
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(CASES) == len({(case.family, case.url) for case in CASES}) >= 150
    assert len({case.family for case in CASES}) >= 12


def test_nothing_forbidden_is_reached_and_all_that_is_public_is() -> None:
    wrong: list[str] = []
    for case, told in zip(CASES, sent_inside(), strict=True):
        reaches = sorted(str(_unmapped(ip)) for ip in case.reaches)
        expected = (case.accepted, list(case.outcomes), reaches, len(reaches) if case.proxied else 0)
        got = (told["accepted"], told["outcomes"], sorted(told["reached"]), told["asked"])
        if got != expected:
            wrong.append(f"{case.family}: {case.url}\n    expected {expected}\n    got      {got}")
    assert not wrong, "\n".join(wrong)


def test_without_the_guard_what_it_forbids_would_be_reached() -> None:
    """The network of the test hides nothing: it is the guard that keeps connections from arriving."""
    families: defaultdict[str, Counter[bool]] = defaultdict(Counter[bool])
    for case, told in zip(CASES, sent_inside("--open"), strict=True):
        if FORBIDDEN in case.outcomes:
            families[case.family][len(told["reached"]) > len(case.reaches)] += 1
    reached = sum(count[True] for count in families.values())
    assert reached >= 100, families
    assert {family for family, count in families.items() if not count[True]} <= {"scheme"}, families


def _unmapped(ip: str) -> object:
    address = ip_address(ip)
    return getattr(address, "ipv4_mapped", None) or address
