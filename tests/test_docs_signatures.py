"""What docs/verify.md tells receivers to do: true for what Relay signs, false for anything else."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from relay.delivery.asymmetric import public_key
from relay.delivery.signing import SignatureScheme, new_secret, signature_headers
from tests.documents import ROOT, blocks_of

PAGE = ROOT / "docs" / "verify.md"
BODY = '{"total":1e2,"name":"é"}'.encode()
GO_MAIN = """
func main() {
	var cases []struct {
		Headers map[string]string
		Body, Secret string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	verdicts := []bool{}
	for _, one := range cases {
		header := http.Header{}
		for name, value := range one.Headers {
			header.Set(name, value)
		}
		verdicts = append(verdicts, isFromRelay(header, []byte(one.Body), one.Secret))
	}
	json.NewEncoder(os.Stdout).Encode(verdicts)
}
"""
GO_IMPORTS = ("crypto/hmac", "crypto/sha256", "encoding/hex", "net/http", "strconv", "strings", "time")
NODE_MAIN = """
const cases = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const lower = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
console.log(JSON.stringify(cases.map((one) => isFromRelay(lower(one.headers), Buffer.from(one.body), one.secret))));
"""


def snippet(language: str, part: str) -> str:
    """The one block of the page that holds this."""
    (found,) = [block.text for block in blocks_of(PAGE) if block.language == language and part in block.text]
    return found


def signed(secrets: list[str], *, body: bytes = BODY, age_s: int = 0) -> dict[str, str]:
    timestamp = int(time.time()) - age_s
    return dict(signature_headers(body, webhook_id="id-1", timestamp=timestamp, secrets=secrets))


def cases() -> list[tuple[bool, dict[str, str], bytes, str]]:
    """What to say, headers, body and the secret that the receiver has."""
    secret, other = new_secret(), new_secret()
    broken = {"X-Relay-Timestamp": "soon", "X-Relay-Signature": "v1=é"}
    return [
        (True, signed([secret]), BODY, secret),
        (True, signed([other, secret]), BODY, secret),
        (True, signed([secret, other]), BODY, secret),
        (False, signed([other]), BODY, secret),
        (False, signed([secret]), BODY + b" ", secret),
        (False, signed([secret], age_s=600), BODY, secret),
        (False, signed([secret], age_s=-600), BODY, secret),
        (False, {**signed([secret]), "X-Relay-Timestamp": str(int(time.time()) - 5)}, BODY, secret),
        (False, {}, BODY, secret),
        (False, broken, BODY, secret),
        (False, {**signed([secret]), "X-Relay-Signature": "v1=é"}, BODY, secret),
    ]


def verdicts_of(argv: list[str], folder: Path) -> list[bool]:
    given = [{"headers": headers, "body": body.decode(), "secret": secret} for _, headers, body, secret in cases()]
    done = subprocess.run(argv, cwd=folder, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_library_takes_what_relay_signs_and_nothing_else() -> None:
    code = compile(snippet("python", "standardwebhooks"), str(PAGE), "exec")
    secret = new_secret()
    names: dict[str, Any] = {"secret": secret, "body": BODY, "headers": signed([new_secret(), secret])}
    exec(code, names)
    assert names["event"] == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        exec(code, {**names, "body": BODY + b" "})


def test_python_by_hand() -> None:
    names: dict[str, Any] = {}
    exec(compile(snippet("python", "is_from_relay"), str(PAGE), "exec"), names)
    for expected, headers, body, secret in cases():
        assert names["is_from_relay"](headers, body, secret) is expected, headers


def test_a_public_key_in_python() -> None:
    names: dict[str, Any] = {}
    exec(compile(snippet("python", "is_signed_by"), str(PAGE), "exec"), names)
    key, other = (new_secret(SignatureScheme.ED25519) for _ in range(2))
    for expected, headers, body in (
        (True, signed([key]), BODY),
        (True, signed([other, new_secret(), key]), BODY),
        (False, signed([other]), BODY),
        (False, signed([new_secret()]), BODY),
        (False, signed([key]), BODY + b" "),
        (False, signed([key], age_s=600), BODY),
        (False, {**signed([key]), "webhook-signature": "v1a,é v1a"}, BODY),
        (False, {}, BODY),
    ):
        assert names["is_signed_by"](headers, body, public_key(key)) is expected, headers


@pytest.mark.system
def test_node_by_hand(tmp_path: Path) -> None:
    (tmp_path / "verify.js").write_text(snippet("js", "isFromRelay") + NODE_MAIN, encoding="utf-8")
    node = shutil.which("node")
    assert verdicts_of([str(node), "verify.js"], tmp_path) == [expected for expected, *_ in cases()]


@pytest.mark.system
def test_go_by_hand(tmp_path: Path) -> None:
    imports = "\n".join(f'\t"{name}"' for name in ("encoding/json", "os", *GO_IMPORTS))
    program = f"package main\n\nimport (\n{imports}\n)\n\n{snippet('go', 'isFromRelay')}{GO_MAIN}"
    (tmp_path / "main.go").write_text(program, encoding="utf-8")
    assert verdicts_of([str(shutil.which("go")), "run", "main.go"], tmp_path) == [expected for expected, *_ in cases()]
    assert all(f"`{name}`" in PAGE.read_text(encoding="utf-8") for name in GO_IMPORTS)
