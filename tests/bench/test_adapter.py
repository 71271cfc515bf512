"""Any HTTP system can be measured: a file says how it is sent events, and the receiver knows them again."""

from __future__ import annotations

import json
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3
from graphql import build_schema, parse, validate

from api.graphql.schema import sdl
from bench.__main__ import main
from bench.adapter import Adapter, Request, of_relay, read
from bench.plan import Load
from bench.programs import ProgramFailed, receiving
from bench.receiver import number_in
from bench.scenarios import FOREIGN, endpoints
from bench.sizes import Sizes
from bench.system import System
from tests.documents import ROOT, blocks_of, first_column

ENVIRONMENT = {"POSTMAN": "http://127.0.0.1:1", "POSTMAN_TOKEN": "secret"}
ADAPTER: dict[str, Any] = {
    "headers": {"Authorization": "Bearer ${POSTMAN_TOKEN}"},
    "event": {"data": {"n": "{n}", "text": "{padding}"}, "kind": "{type}"},
    "one": {"url": "${POSTMAN}/letters", "body": {"letters": ["{events}"]}},
    "accepted": [201],
    "pids": [os.getpid()],
    "subscribe": {"url": "${POSTMAN}/addresses", "body": {"to": "{receiver}", "kind": "{type}"}},
}


class Postman(BaseHTTPRequestHandler):
    """A foreign system in a few lines: it takes letters at one URL, and brings them, wrapped, before it answers."""

    protocol_version = "HTTP/1.1"
    addresses: defaultdict[str, list[str]]
    http = urllib3.PoolManager(retries=False, maxsize=40)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.headers["Authorization"] == "Bearer secret"
        if known and self.path == "/addresses":
            self.addresses[asked["kind"]].append(asked["to"])
        elif known:
            for letter in asked["letters"]:
                for url in self.addresses[letter["kind"]]:
                    self.http.request("POST", url, body=json.dumps({"wrapped": json.dumps(letter)}))
        self.send_response(201 if known else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def postman(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Postman.addresses = defaultdict(list)
    with ThreadingHTTPServer(("127.0.0.1", 0), Postman) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("POSTMAN", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("POSTMAN_TOKEN", "secret")
        yield
        server.shutdown()
        thread.join()


def _file(folder: Path, **changed: Any) -> Path:
    path = folder / "adapter.json"
    path.write_text(json.dumps(ADAPTER | changed), encoding="utf-8")
    return path


def _system(adapter: Adapter) -> System:
    return System(adapter.one.url, "", foreign=adapter)


@pytest.mark.usefixtures("postman")
def test_a_foreign_system_is_measured_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Sizes(
        seconds=0.3,
        warm_up_s=0.1,
        clients=4,
        types=2,
        idle_events=5,
        idle_gap_s=(0.01, 0.02),
        idle_s=0.2,
        rates=(100,),
        settle_s=0,
    )
    monkeypatch.setattr("bench.__main__.QUICK", tiny)
    figures = tmp_path / "figures.json"
    argv = ["--quick", "--json", str(figures), "--adapter", str(_file(tmp_path))]
    assert main([*FOREIGN, *argv]) == 0
    told = json.loads(figures.read_text(encoding="utf-8"))
    one, paced, fanned_out, idle = told["results"]
    assert one["requests"].keys() == {"201"}
    assert paced["name"] == "single: REST, one by one, 100 a second"
    assert (paced["figures"]["events"], paced["figures"]["lost"]) == (30, 0)
    assert fanned_out["figures"]["deliveries"] == 10 * fanned_out["figures"]["events"] > 0
    assert (idle["figures"]["events"], idle["figures"]["lost"]) == (5, 0)
    assert one["figures"]["cpu_us_per_delivery.total"] > 0


@pytest.mark.usefixtures("postman")
def test_a_subscription_that_is_refused_ends_the_run(tmp_path: Path) -> None:
    adapter = read(_file(tmp_path), {**os.environ, "POSTMAN_TOKEN": "wrong"})
    with pytest.raises(ProgramFailed, match="Subscribing http://there was answered with 401"):
        adapter.subscribe_all([("http://there", "t")])
    nobody = read(_file(tmp_path), ENVIRONMENT)
    with pytest.raises(ProgramFailed, match="does not answer"):
        nobody.subscribe_all([("http://there", "t")])


def test_without_a_subscription_a_person_is_told_what_goes_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "")
    adapter = read(_file(tmp_path, subscribe=None), ENVIRONMENT)
    with receiving() as receiver, endpoints(_system(adapter), receiver, Sizes(), names=["single"]):
        assert f"bench.single  {receiver.url(1000)}" in capsys.readouterr().out


def test_the_receiver_has_the_port_that_the_adapter_names(tmp_path: Path) -> None:
    with receiving() as first:
        port = first.port
    with receiving(at=f"http://localhost:{port}") as receiver:
        assert receiver.url(3) == f"http://localhost:{port}/e/3"
        assert receiver.count() == 0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"headers": {"X": "${NOWHERE}"}}, "has no NOWHERE"),
        ({"event": {"kind": "{type}"}}, 'must hold "n": "{n}" once'),
        ({"event": {"number": "{n}"}}, 'must hold "n": "{n}" once'),
        ({"many": {"url": "http://h", "body": []}}, '"{events}" once'),
        ({"one": {"url": "ftp://h"}}, "must begin with http://"),
        ({"colour": "red"}, "colour"),
        ({"pids": [2**22 + 1]}, "no process 4194305"),
    ],
)
def test_a_file_that_is_no_adapter_is_refused_with_the_reason(tmp_path: Path, changed: Any, told: str) -> None:
    with pytest.raises(ProgramFailed) as refused:
        read(_file(tmp_path, **changed), ENVIRONMENT)
    assert told in str(refused.value)


def test_a_scenario_that_asks_for_relay_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert main(["blackhole", "--adapter", str(_file(tmp_path))]) == 2
    assert "by an adapter go single, fanout10, latency-idle" in capsys.readouterr().err


def test_the_number_is_found_however_the_event_is_wrapped() -> None:
    body = json.dumps({"n": 7, "pad": "x"})
    wrapped = [body, json.dumps({"data": {"n": 7}}), json.dumps([body]), json.dumps([json.dumps({"body": body})])]
    assert [number_in(one.encode()) for one in wrapped] == [7, 7, 7, 7]
    assert number_in(b'{"m":7}') == -1


def test_what_a_mutation_refuses_is_not_accepted_though_its_status_is_200() -> None:
    graphql = of_relay("relay-graphql", url="http://h:1", key="k")
    one = Load(graphql.plan([("t", 5)], padding="", batch=1))
    asked = json.loads(one.request(range(3, 4)).partition(b"\r\n\r\n")[2])
    assert asked["variables"] == {"input": {"eventType": "t", "priority": 5, "payload": {"n": 3, "pad": ""}}}
    assert not one.answered(range(3, 4), sent_ns=0, status=200, body=b'{"data":null,"errors":[{"message":"no"}]}')
    lists = Load(graphql.plan([("t", 5)], padding="", batch=2))
    body = b'{"data":{"sendEvents":[{"event":{"id":"a"},"error":null},{"event":null,"error":{"code":"INVALID"}}]}}'
    assert not lists.answered(range(2), sent_ns=0, status=200, body=body)
    assert (list(one.sent.accepted), list(lists.sent.accepted)) == ([0], [1, 0])


def test_the_adapter_that_the_page_shows_is_one(tmp_path: Path) -> None:
    (shown,) = (block for block in blocks_of(ROOT / "docs" / "benchmark.md") if block.language == "json")
    (tmp_path / "peer.json").write_text(shown.text, encoding="utf-8")
    environment = {"PEER_URL": "http://h", "PEER_TOKEN": "secret", "PEER_PID": str(os.getpid())}
    adapter = read(tmp_path / "peer.json", environment)
    assert adapter.model_fields_set == Adapter.model_fields.keys()
    assert adapter.plan([("t", 5)], padding="x", batch=100).path == "/events/list"


def test_the_page_explains_every_field() -> None:
    cells = first_column(ROOT / "docs" / "benchmark.md", "| field | meaning |")
    fields = (Adapter.model_fields.keys() | Request.model_fields.keys()) - {"url", "body"}
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == fields


def test_what_relays_own_adapters_ask_for_fits_its_schema() -> None:
    schema = build_schema(sdl())
    for path in (ROOT / "bench" / "adapters").glob("*.json"):
        adapter = of_relay(path.stem, url="http://h:1", key="k")
        bodies = [asked.body for asked in (adapter.one, adapter.many, adapter.subscribe) if asked]
        queries = [body["query"] for body in bodies if "query" in body]
        assert queries
        assert [validate(schema, parse(query)) for query in queries] == [[] for _ in queries]
