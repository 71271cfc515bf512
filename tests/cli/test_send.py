from __future__ import annotations

import io
import json
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from types import SimpleNamespace

import pytest

from relay.cli.main import main
from relay.cli.send import body, payload


@pytest.mark.parametrize("text", ['{"b": 1e2, "a": "\\u00e9"}', "12345678901234567890123", "[1,  2]", '"x"'])
def test_the_payload_stays_byte_for_byte(text: str) -> None:
    raw = payload(text)
    assert raw == text.encode()
    whole = body({"eventType": "a.b", "destination": None, "priority": 3}, raw)
    assert whole == b'{"eventType": "a.b","priority": 3,"payload":' + raw + b"}"
    assert json.loads(whole)["payload"] == json.loads(text)


def test_the_payload_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "order.json").write_bytes(b' {"id": 1.0}\n')
    assert payload(f"@{tmp_path}/order.json") == b'{"id": 1.0}'


def test_the_payload_may_come_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"[]")))
    assert payload("-") == b"[]"


@pytest.mark.parametrize(
    "text", ["{", "", "{} {}", "nul", "[" * 100_000, "@/nowhere/at/all", "@"], ids=lambda text: text[:20]
)
def test_what_is_no_json_is_refused_before_anything_is_sent(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        payload(text)


@pytest.mark.parametrize("arguments", [[], ["a.b", "--to", "http://x.example/"], ["a.b", "--data", "{"]])
def test_wrong_use_ends_with_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["send", *arguments])
    assert ended.value.code == 2
    assert "usage: relay send" in capsys.readouterr().err
