from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.terminal import Paint, excerpt, iso, plain, pretty, relative, span, table

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text())
def test_no_control_character_of_a_stranger_reaches_the_terminal(text: str) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in plain(text))


def test_an_escape_sequence_in_a_body_is_shown_and_not_obeyed() -> None:
    assert "\x1b" not in pretty(b'{"a": "\\u001b[2J"}', limit=100)
    assert "\x1b" not in excerpt("\x1b]0;owned\x07", limit=5)


@given(st.binary(max_size=200))
def test_any_body_can_be_shown(body: bytes) -> None:
    assert isinstance(pretty(body, limit=50), str)


def test_a_json_body_is_indented_with_its_spelling_as_it_is() -> None:
    assert pretty('{"name":"Zoë","n":1e2}'.encode(), limit=100) == '{\n  "name": "Zoë",\n  "n": 1e2\n}'


def test_a_long_body_is_cut_and_says_so() -> None:
    assert pretty(b"x" * 5000, limit=10) == "x" * 10 + "… (5000 characters in all)"


def test_bytes_that_are_no_text_are_counted() -> None:
    assert pretty(b"\xff\xfe", limit=10) == "(2 bytes that are no text)"


def test_colour_is_for_terminals_only() -> None:
    assert Paint(io.StringIO())("ok", "green") == "ok"
    assert Paint(_Terminal())("ok", "green") == "\x1b[32mok\x1b[0m"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (0.85, "850 ms"),
        (12, "12 s"),
        (59.7, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_a_length_of_time_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_a_moment_is_told_as_seen_from_now() -> None:
    assert relative(NOW - timedelta(seconds=12), now=NOW) == "12 s ago"
    assert relative(NOW + timedelta(seconds=65), now=NOW) == "in 1 min 5 s"


def test_times_are_written_as_the_api_writes_them() -> None:
    assert iso(datetime(2026, 3, 1, 13, 0, 0, 5999, tzinfo=UTC)) == "2026-03-01T13:00:00.005Z"


def test_a_table_aligns_words_left_and_numbers_right() -> None:
    assert table([("endpoint", "dead"), ("a", 7)]) == ["endpoint  dead", "a            7"]
