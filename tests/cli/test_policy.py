from __future__ import annotations

import json
from argparse import ArgumentTypeError
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.main import main
from relay.cli.policy import curve, page, schedule
from relay.cli.terminal import Paint
from relay.delivery.retry import JITTER, RetryPolicy, retry_delay_s

POLICIES = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 100),
    schedule_ms=st.none() | st.lists(st.integers(0, 604_800_000), min_size=1, max_size=100),
    backoff_ms=st.integers(1, 604_800_000),
    backoff_mult=st.floats(1, 100),
    backoff_max_ms=st.integers(1, 604_800_000),
)


@given(POLICIES, st.floats(0, 1, exclude_max=True))
def test_the_curve_is_what_a_worker_would_do(policy: RetryPolicy, luck: float) -> None:
    steps = curve(policy)
    assert [step.attempt for step in steps] == list(range(1, policy.max_retries + 2))
    at_s = 0.0
    for before, step in pairwise(steps):
        delay_s = retry_delay_s(policy, attempts=before.attempt, random=lambda: luck)
        assert delay_s is not None
        at_s += delay_s
        assert step.earliest_ms - 1 <= at_s * 1000 <= step.latest_ms + 1
        assert step.total_ms - before.total_ms == pytest.approx(step.delay_ms, abs=1)
        assert step.latest_ms - step.earliest_ms == pytest.approx(2 * JITTER * step.total_ms, abs=2)
    assert retry_delay_s(policy, attempts=steps[-1].attempt, random=lambda: luck) is None


@given(POLICIES)
def test_every_policy_has_a_page_with_a_line_for_each_attempt(policy: RetryPolicy) -> None:
    lines = page(curve(policy), name="a new endpoint", paint=Paint()).splitlines()
    numbers = [int(line.split()[0]) for line in lines if line.split() and line.split()[0].isdigit()]
    assert numbers == (list(range(1, policy.max_retries + 2)) if policy.max_retries else [])


def test_the_default_policy_is_shown_with_what_it_survives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "simulate"]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["4", "30", "s", "36", "s", "29", "s", "to", "43", "s"] in lines
    assert "Survives an outage of 1 d 2 h for certain, of 1 d 9 h on average." in shown
    assert "After attempt 11, 1 d 16 h after the first at the latest, a delivery is dead." in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("arguments", "delays"),
    [
        (["--schedule", "1s,5s,30s"], [1_000, 5_000, 30_000]),
        (["--schedule", "500ms, 1.5s,2m,1min,1h,1d", "--max-retries", "7"],
         [500, 1_500, 120_000, 60_000, 3_600_000, 86_400_000, 86_400_000]),
        (["--backoff-ms", "10", "--backoff-mult", "3", "--backoff-max", "80", "--max-retries", "4"], [10, 30, 80, 80]),
        (["--max-retries", "2"], [1_000, 5_000]),
        (["--max-retries", "0"], []),
    ],
)  # fmt: skip
def test_options_make_a_policy(arguments: list[str], delays: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "simulate", *arguments, "--json"]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [step["delayMs"] for step in shown["attempts"]] == [0, *delays]
    assert shown["maxRetries"] == len(delays)
    assert (shown["survivesMs"], shown["survivesAtLeastMs"]) == (sum(delays), pytest.approx(0.8 * sum(delays), abs=1))


def test_no_retry_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "simulate", "--max-retries", "0"]) == 0
    assert "One attempt and no retry" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "1", "1x", "1s,", "-1s", "1s;2s", "1e3s", "soon"])
def test_what_is_no_schedule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="500ms,5s,10m,1h,1d"):
        schedule(text)


def test_a_schedule_and_a_backoff_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["policy", "simulate", "--schedule", "1s", "--backoff-ms", "5"])
    assert ended.value.code == 2
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-retries", "101"], "relay: maxRetries must be between 0 and 100.\n"),
        (["--schedule", "8d"], "relay: retrySchedule.0 must be between 0 and 604 800 000.\n"),
        (
            ["--backoff-ms", "10", "--backoff-max", "5"],
            "relay: retryBackoffMax must not be less than retryBackoffMs.\n",
        ),
    ],
)
def test_what_no_endpoint_may_have_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "simulate", *arguments]) == 1
    assert capsys.readouterr().err == sentence
