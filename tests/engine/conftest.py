"""Notebooks for the tests of the engine: each test has a folder and as many kernels as it wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.notebooks import Notebook


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
