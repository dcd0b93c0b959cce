"""The server and the browser that all browser tests share; a page and a notebook for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.lab import (
    ARGUMENTS,
    CHROMIUM,
    PATIENCE_MS,
    Notebook,
    Server,
    new_notebook,
    new_page,
    served,
)

expect.set_options(timeout=PATIENCE_MS)

ARTEFACTS = Path(__file__).resolve().parents[2] / "test-artifacts"

Open = Callable[[Sequence[str]], Notebook]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser they skip."""
    for item in items:
        if "tests/browser" in str(item.path) and not Path(CHROMIUM).exists():
            item.add_marker(pytest.mark.skip(f"no {CHROMIUM}: see .ci/debian-packages"))


@pytest.fixture(scope="module")  # as long as it is open, a loop runs in this thread
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = new_page(browser)
    yield page
    page.context.close()


@pytest.fixture
def open_notebook(
    server: Server, page: Page, request: pytest.FixtureRequest
) -> Iterator[Callable[[Sequence[str]], Notebook]]:
    """Opens a notebook of these cells; at the end nothing on the page's console was an error."""
    opened: list[Notebook] = []

    def open_one(cells: Sequence[str]) -> Notebook:
        name = re.sub(r"\W+", "-", request.node.name)[:40]
        opened.append(new_notebook(server, page, name, cells))
        return opened[-1]

    yield open_one
    for notebook in opened:
        keep_picture(page, request.node.name)
        server.end_sessions()
        assert notebook.errors == []


def keep_picture(page: Page, name: str) -> None:
    """Keep what the page shows among the artefacts."""
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"browser-{name}.png")
