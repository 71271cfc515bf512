from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import falcon.asgi
import falcon.testing
import pytest
from graphql import parse, validate
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page

from api.graphql.schema import core_schema
from api.playground import add_routes
from api.playground.static import ASSETS
from api.playground.tabs import TABS
from relay.settings import Settings, read_settings
from tests.browser import Watched, browser_page
from tests.e2e.system import running_system

NAMES = ["CreateEndpoint", "Send", "Look", "Stats"]


def settings(**changes: Any) -> Settings:
    must = {"DATABASE_URL": "postgresql://h/d", "REDIS_URL": "redis://h", "SIGNING_KEY": "k" * 32}
    return read_settings(must, **{"enable_playground": True, "auth_enabled": False, **changes})


def client(**changes: Any) -> falcon.testing.TestClient:
    app = falcon.asgi.App()
    add_routes(app, settings(**changes))
    return falcon.testing.TestClient(app)


def assets_of(html: str) -> list[str]:
    return re.findall(r'(?:src|href)="(playground/assets/[^"]+)"', html)


def test_the_page_names_only_files_that_relay_serves_with_their_types() -> None:
    http = client()
    page = http.simulate_get("/playground")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert len(assets_of(page.text)) == 8
    for url in assets_of(page.text):
        asset = http.simulate_get("/" + url)
        assert asset.status_code == 200, url
        assert asset.headers["content-type"].startswith(types[url.partition("?")[0].rpartition(".")[2]])
        assert asset.headers["x-content-type-options"] == "nosniff"
        assert asset.content


@pytest.mark.parametrize("path", ["/", "/playground"])
def test_a_page_refers_to_no_other_origin_and_may_ask_none(path: str) -> None:
    page = client().simulate_get(path)
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_a_file_is_cached_for_ever_only_under_the_current_version() -> None:
    http = client()
    url = assets_of(http.simulate_get("/playground").text)[0]
    assert "immutable" in http.simulate_get("/" + url).headers["cache-control"]
    assert http.simulate_get("/" + url.partition("?")[0] + "?v=old").headers["cache-control"] == "no-cache"
    assert http.simulate_get("/playground").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("accepted", "zipped"),
    [("gzip, deflate, br", True), ("br;q=1, gzip;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_a_bundle_is_sent_gzipped_to_those_who_take_it(accepted: str, zipped: bool) -> None:
    answer = client().simulate_get(
        "/playground/assets/react.production.min.js", headers={"Accept-Encoding": accepted} if accepted else {}
    )
    assert answer.headers["vary"] == "Accept-Encoding"
    assert ("content-encoding" in answer.headers) is zipped
    text = gzip.decompress(answer.content) if zipped else answer.content
    assert b"React" in text


@pytest.mark.parametrize("name", ["NOTICE", "playground.html", "graphiql.min.js.gz", "..%2F__init__.py", "none.js"])
def test_what_is_no_asset_is_not_found(name: str) -> None:
    assert client().simulate_get(f"/playground/assets/{name}").status_code == 404


def test_the_bundles_are_the_published_ones_the_notice_names() -> None:
    rows = re.findall(r"^(\S+)\s+\S+@\S+\s+(\S{64})$", (ASSETS / "NOTICE").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name + ".gz" for name, _ in rows) == sorted(path.name for path in ASSETS.glob("*.gz"))
    for name, expected in rows:
        digest = hashlib.sha384(gzip.decompress((ASSETS / f"{name}.gz").read_bytes())).digest()
        assert base64.b64encode(digest).decode() == expected, name


def test_what_is_disabled_is_not_there_and_the_home_page_says_so() -> None:
    http = client(enable_playground=False)
    assert http.simulate_get("/playground").status_code == 404
    assert http.simulate_get("/playground/assets/playground.js").status_code == 404
    home = http.simulate_get("/").text
    assert 'href="playground"' not in home
    assert "ENABLE_PLAYGROUND=true" in home
    assert 'href="metrics"' not in client(metrics_provider="").simulate_get("/").text


def test_the_home_page_links_to_everything_and_has_no_script() -> None:
    home = client().simulate_get("/", host="relay.example", port=8443).text
    assert re.findall(r'<a href="([^"]+)"', home) == [
        "playground",
        "health/live",
        "health/ready",
        "metrics",
        "dramatiq",
    ]
    assert "curl http://relay.example:8443/api/v1/events \\\n" in home
    assert "<script" not in home
    assert "X-API-Key" not in home
    assert "X-API-Key" in client(auth_enabled=True).simulate_get("/").text


@given(host=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60))
def test_a_strange_host_header_never_reaches_the_line_people_paste(host: str) -> None:
    home = client().simulate_get("/", headers={"X-Forwarded-Host": host}).text
    line = next(line for line in home.splitlines() if "<pre>curl" in line)
    assert re.fullmatch(r"  <pre>curl https?://[A-Za-z0-9.\-\[\]:]+/api/v1/events \\", line)


def test_the_first_tabs_are_in_order_and_valid_as_they_are() -> None:
    tabs = [parse(tab.query) for tab in TABS]
    assert [tab.definitions[0].to_dict()["name"]["value"] for tab in tabs] == NAMES
    for document, tab in zip(tabs, TABS, strict=True):
        assert validate(core_schema, document) == []
        assert isinstance(json.loads(tab.variables), dict)


# ---- in a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_url() -> Iterator[str]:
    """A Relay as `make run` starts it: without keys."""
    with running_system(workers=1, AUTH_ENABLED="false") as system:
        yield system.url


@pytest.fixture
def keyed() -> Iterator[tuple[str, str]]:
    """A Relay that asks for keys, and a good one."""
    with running_system(workers=1, ENABLE_PLAYGROUND="true") as system:
        yield system.url, system.new_key("shop")["key"]


@pytest.fixture
def page() -> Iterator[Page]:
    with browser_page() as page:
        yield page


def run_tab(page: Page, name: str) -> dict[str, Any]:
    """Open a tab, run its operation, and return the answer once the result pane shows it."""
    page.locator(".graphiql-tabs").get_by_role("button", name=name, exact=True).click()
    page.locator(".graphiql-query-editor .CodeMirror-lines").filter(
        has_text=re.compile(rf"(query|mutation) {name}\b")
    ).wait_for()
    with page.expect_response(lambda got: f" {name}" in (got.request.post_data or "")) as answer:
        page.get_by_role("button", name="Execute query").click()
    page.locator(".result-window").get_by_text(re.compile(r'"(data|errors)"')).first.wait_for()
    return answer.value.json()


@pytest.mark.system
def test_the_playground_asks_nobody_else_complains_of_nothing_and_runs_its_tabs(open_url: str, page: Page) -> None:
    watched = Watched(page)
    page.goto(open_url + "/")
    page.get_by_role("link", name="Playground").click()
    page.get_by_role("tab", name="CreateEndpoint").wait_for()
    assert page.title() == "Relay playground · GraphQL"
    tabs = page.locator(".graphiql-tabs").get_by_role("tab")
    assert tabs.all_inner_texts() == NAMES
    for name in NAMES:
        answer = run_tab(page, name)
        assert answer["data"] and "errors" not in answer, answer  # noqa: PT018
    while not page.evaluate("sessionStorage.getItem('graphiql:tabState')"):
        page.wait_for_timeout(50)
    with page.expect_navigation():  # as when it is loaded again before the last change of tabs is written down
        page.evaluate(
            "query => { sessionStorage.setItem('graphiql:query', query); location.reload(); }", "{ __typename }"
        )
    tabs.first.wait_for()
    assert tabs.all_inner_texts() == NAMES
    assert [url for url in watched.urls if not url.startswith((open_url + "/", "data:"))] == []
    assert any(url == open_url + "/graphql" for url in watched.urls)
    assert watched.complaints == []


@pytest.mark.system
def test_the_key_is_sent_and_stays_in_its_browser_tab(keyed: tuple[str, str], page: Page) -> None:
    keyed_url, key = keyed
    watched = Watched(page)
    page.goto(keyed_url + "/playground")
    page.get_by_text("Needed: paste a key").wait_for()
    assert not any(url.endswith("/graphql") for url in watched.urls)
    page.get_by_label("API key").fill("rly_wrong")
    page.get_by_label("API key").press("Enter")
    page.get_by_text("The server did not accept this key.").wait_for()
    page.get_by_label("API key").fill(key)
    assert run_tab(page, "Stats")["data"]["queueStats"]["pending"] == 0
    page.get_by_text("Sent as X-API-Key").wait_for()
    page.reload()
    assert page.get_by_label("API key").input_value() == key
    assert page.evaluate("localStorage.length") == 0
    assert page.context.cookies() == []
