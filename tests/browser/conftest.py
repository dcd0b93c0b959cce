"""The server, the browser and the notebook's page that browser tests share."""

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
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, timeout=PATIENCE_MS
        )
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


@pytest.fixture(scope="module")
def notebooks(browser: Browser, server: Server) -> Iterator[list[Notebook]]:
    """The notebook that the tests of a file open in turn, once one has opened it."""
    opened: list[Notebook] = []
    yield opened
    for notebook in opened:
        notebook.page.context.close()
    server.end_sessions()


@pytest.fixture
def open_notebook(
    browser: Browser, server: Server, notebooks: list[Notebook], request: pytest.FixtureRequest
) -> Iterator[Open]:
    """Opens a notebook of these cells; at the end nothing on the page's console was an error."""
    test = request.node.name

    def open_one(cells: Sequence[str]) -> Notebook:
        if notebooks:
            notebooks[0].begin_again(cells)
        else:
            name = re.sub(r"\W+", "-", request.module.__name__)
            notebooks.append(new_notebook(server, new_page(browser), name, cells))
        return notebooks[0]

    yield open_one
    for notebook in notebooks:
        keep_picture(notebook.page, test)
        assert notebook.errors == []


def keep_picture(page: Page, name: str) -> None:
    """Keep what the page shows among the artefacts."""
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"browser-{name}.png")
