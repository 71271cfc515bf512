from __future__ import annotations

import json

import pytest

from relay.catalog.redaction import blanked


@pytest.mark.parametrize(
    ("payload", "paths", "shown"),
    [
        ('{"a": 1e2, "b": "x"}', ["$.b"], '{"a":1e2,"b":"[redacted]"}'),
        ('{"n": 12345678901234567890.50}', ["$.x"], '{"n":12345678901234567890.50}'),
        ('{"c": {"d": 1, "e": [1, 2]}}', ["$.c", "$.c.d"], '{"c":"[redacted]"}'),
        ('[{"k": 1}, {"k": {"z": 2}}, 3]', ["$[*].k"], '[{"k":"[redacted]"},{"k":"[redacted]"},3]'),
        ('{"a": {"mail": "m"}, "l": [{"mail": "n"}]}', ["$..mail"], '{"a":{"mail":"[redacted]"},"l":[{"mail":"[redacted]"}]}'),
        ('"all"', ["$"], '"[redacted]"'),
        ('{"ä": "\\ud83d\\ude00", "b": 1}', ["$.b"], '{"ä":"😀","b":"[redacted]"}'),
        ('{"b": 1, "b": 2}', ["$.b"], '{"b":"[redacted]"}'),
    ],
)  # fmt: skip
def test_the_values_at_the_paths_are_blanked_and_nothing_else(payload: str, paths: list[str], shown: str) -> None:
    assert blanked(payload.encode(), paths) == shown.encode()


@pytest.mark.parametrize("payload", [b"{", b"\xff", b'"\\ud800"', b'{"\\uE0FF#1": 1}', b"[" * 100_000])
def test_what_cannot_be_followed_is_not_shown_at_all(payload: bytes) -> None:
    assert blanked(payload, ["$.a"]) is None


def test_a_path_that_looks_at_too_much_hides_everything() -> None:
    assert blanked(json.dumps([[0] * 200] * 200).encode(), ["$..a"]) is None
