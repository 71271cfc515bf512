from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.cli import config_file
from relay.errors import Invalid

# Every character that means something to YAML, and some that could.
ALPHABET = "a0-:#\n\r\t \"'\\é\x85\u2028\x00\x1b`${}[]&*!|>%@,?~<=_\N{PILE OF POO}\ufeff"
TEXTS = st.text(ALPHABET, max_size=12) | st.sampled_from(
    ["yes", "no", "on", "null", "~", "0123", "0x10", "1e3", "1_000", "12:30", "2026-01-01", "<<", "=", "- a", "a: b", "a #b",
     "function f() {\n  return `${x}`;\n}\n", "a\n\n b \n", "\ttab\n", "&a", "*a", "!t", "é\n", "\N{NEXT LINE}\n"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def exact(value: Any) -> Any:
    """The value with its types, for True is 1 in Python."""
    if isinstance(value, dict):
        return {name: exact(inner) for name, inner in value.items()}
    return [exact(inner) for inner in value] if isinstance(value, list) else (type(value), value)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_what_is_written_is_read_back_as_it_was(document: dict[str, Any]) -> None:
    assert exact(config_file.parse(config_file.write(document), name="file")) == exact(document)


def test_words_mean_what_json_says() -> None:
    text = "{a: yes, b: off, c: 0123, d: 2026-01-01, e: 1e3, f: -0.5, g: true, h: , i: 12:30:00, on: 1_000, 1: x}"
    assert config_file.parse(text, name="file") == {
        "a": "yes", "b": "off", "c": "0123", "d": "2026-01-01", "e": 1000.0, "f": -0.5, "g": True, "h": None,
        "i": "12:30:00", "on": "1_000", "1": "x",
    }  # fmt: skip


def test_anchors_and_merges_save_repetition() -> None:
    text = "x-usual: &usual {a: 1, b: 2}\none: {<<: *usual, b: 3}\n"
    assert config_file.parse(text, name="file")["one"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3", "file, line 3: a is given twice."),
        ("a:\n  - {b: 1, b: 2}", "file, line 2: b is given twice."),
        ("a: [1", "file, line 1: "),
        ("a: *b", "undefined alias"),
        ("a: &a [*a]", "nests deeper"),
        ("a: " + "[" * 600, "nested too deeply"),
        ("? [a]\n: 1", "a key must be text"),
        ("a: !!timestamp 2026-01-01", "of the kind date"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: 1e999", "too large"),
        ("a: \x00", "no YAML"),
        ("- a", "must hold endpoints"),
        ("", "must hold endpoints"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(7)), "more than"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        config_file.parse(text, name="file")
    assert sentence in refused.value.message
    assert "\n" not in refused.value.message


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file"):
        config_file.read(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(Invalid, match="no UTF-8"):
        config_file.read(tmp_path / "latin.yaml")
