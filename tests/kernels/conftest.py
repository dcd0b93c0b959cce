"""Groups of scenarios are played once, by the first test that asks for one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernels.scenarios import Scenario, Seen, play


@pytest.fixture(scope="session")
def played(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[list[Scenario]], dict[str, Seen]]:
    """Return a function that plays a group of scenarios, or tells what was seen before."""
    known: dict[tuple[str, ...], dict[str, Seen]] = {}

    def play_once(group: list[Scenario]) -> dict[str, Seen]:
        key = tuple(each.name for each in group)
        if key not in known:
            known[key] = play(tmp_path_factory.mktemp("kernels") / "place", group)
        return known[key]

    return play_once
