"""A real browser for tests of pages: what it asked for and complained about can be told afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import ConsoleMessage, Page, sync_playwright


@contextmanager
def browser_page(**options: Any) -> Iterator[Page]:
    """Open a page in Chromium, light and 1280 wide unless the options say otherwise."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chosen: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", **options}
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(**chosen)
        page.set_default_timeout(20_000)
        yield page
        browser.close()


class Watched:
    """What a page asked for and complained about, from the moment it is watched."""

    def __init__(self, page: Page) -> None:
        self.urls: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.urls.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)
