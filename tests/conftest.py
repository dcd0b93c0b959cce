"""For all tests: what a test measured is printed below the summary, from xdist workers as well."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.engine import describe
from tests import exploring
from tests.nursery.forked import supervisors_are_forked
from tests.waiting import PATIENCE_S

exploring.load_profile()

# nbformat's validator would load a grammar of URLs, which takes two seconds and no test asks for.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # an ImportError for it

SETTINGS = pytest.StashKey[str]()
LONG = ("browser", "cli", "examples", "faults", "kernels")  # a file of these may take a minute
_MAIN = sys.modules["__main__"]


def pytest_configure(config: pytest.Config) -> None:
    """Give all tests, and what they start, settings of their own: whom the user trusts is there."""
    config.stash[SETTINGS] = tempfile.mkdtemp(prefix="nbcache-settings-")
    os.environ["NBCACHE_CONFIG_DIR"] = config.stash[SETTINGS]
    os.environ["XDG_STATE_HOME"] = os.path.join(config.stash[SETTINGS], "state")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    shutil.rmtree(config.stash[SETTINGS], ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def patient_cards() -> None:
    """Let cards count their tasks, however busy this machine is."""
    describe.COUNT_S = describe.Allowance.MOST_S = PATIENCE_S


@pytest.fixture(autouse=True, scope="session")
def forked_supervisors() -> Iterator[None]:
    """Spare each small run the start of an interpreter."""
    with supervisors_are_forked():
        yield


@pytest.fixture(autouse=True, scope="module")
def no_key(pytestconfig: pytest.Config) -> Iterator[None]:
    """Take away the key that the tests of a module have made: rows of others would be signed."""
    yield
    Path(pytestconfig.stash[SETTINGS], "key.json").unlink(missing_ok=True)


@pytest.fixture(autouse=True, scope="module")
def real_main_module() -> Iterator[None]:
    """The same for shells that the tests of a module share; it has been there before them."""
    yield
    sys.modules["__main__"] = _MAIN


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Put the main module back: a shell in the test's process makes its own, and empties it."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays: do not let Python look through it for garbage, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no worker of xdist ends long after the others."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every `record_property("measured", text)` of the tests that passed."""
    texts = [
        str(value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "measured"
    ]
    if texts:
        terminalreporter.section("measured")
        for text in texts:
            terminalreporter.line(text)
