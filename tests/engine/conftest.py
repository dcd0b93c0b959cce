"""Notebooks for the tests of the engine: each test has a folder and as many kernels as it wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbcache.store.cache import Cache
from tests.engine.notebooks import Notebook
from tests.engine.story import Story, tell_two_runs


@pytest.fixture
def kernels(tmp_path: Path) -> Iterator[Callable[[], Notebook]]:
    """Return a maker of notebooks that share one folder and one cache."""
    made: list[Notebook] = []

    def make() -> Notebook:
        made.append(Notebook(tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def notebook(kernels: Callable[[], Notebook]) -> Notebook:
    """Return one notebook."""
    return kernels()


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with Cache.open(tmp_path / "cache") as cache:
        yield Story(cache)


@pytest.fixture
def two_runs(story: Story) -> Story:
    """calm-otter runs depth 2, 4, 8 (8 fails); bold-ant finds 2 and runs 4, 6 with new code."""
    tell_two_runs(story)
    return story
