"""A headless browser for tests of the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.programs.system_programs import BROWSER, find, require

_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_NO_PLOTS = "const Plotly = { react() {} };"
_LOAD = "Failed to load resource: "


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium, which ends with the block; the running test is skipped if there is none."""
    require(*BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=_QUIET)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, address: str, width: int = 1280, *, refusals: str = "", has_plots: bool = True, **options: Any
) -> Iterator[Page]:
    """The page, rendered; any message on its console fails the test.

    Args:
        refusals: what the browser says of answers that the test expects to be missing or refused.
        has_plots: whether they are drawn, which takes seconds.
        options: of the browser's context.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    if not has_plots:
        context.route("**/plotly.js", lambda route: route.fulfill(body=_NO_PLOTS, content_type="text/javascript"))
    page.goto(address)
    page.wait_for_selector("body[data-shown]")
    yield page
    context.close()
    assert [each for each in complaints if not (refusals and each.startswith(_LOAD) and refusals in each)] == []
