"""The quickstart does what it and the README say, and the second time it does nothing."""

from __future__ import annotations

from dataclasses import dataclass

import nbformat
import pytest

from tests.examples.running import Bench, Ran, nbcache_command
from tests.house.reading import shell_lines

ALL = ["fit"] * 27 + ["ranking"]
FOLDS = ("-p", "folds=3")  # as the README has it


@dataclass
class Told:
    """What the commands of the README did: the notebook that was run, and what each printed."""

    bench: Bench
    ran: Ran
    printed: dict[str, str]


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The commands of the README, one after another, on a copy with nothing cached."""
    root = tmp_path_factory.mktemp("clone") / "example_notebooks"
    root.mkdir()
    bench, printed = Bench.with_copy(root, "quickstart.ipynb"), {}
    for page, words in shell_lines():
        if page == "README.md" and words[0] == "nbcache":
            answer = nbcache_command(*words[1:], folder=root)
            assert answer.returncode == 0, f"{words}\n{answer.stdout}{answer.stderr}"
            printed[words[1]] = answer.stdout
    return Told(bench, Ran(bench.bodies(), nbformat.read(root / "result.ipynb", 4)), printed)


def test_the_commands_of_the_readme_run_it_and_tell_of_it(readme: Told) -> None:
    assert readme.ran.bodies == ALL
    assert "28 ran, 0 cached" in readme.printed["run"]
    assert "does not declare" not in readme.printed["run"]
    assert {"run", "log", "show", "why", "sql"} <= set(readme.printed)
    assert all(text.strip() for text in readme.printed.values())


def test_run_again_from_a_shell_it_is_all_cached(readme: Told) -> None:
    again, said = readme.bench.run_from_a_shell(*FOLDS)

    assert again.bodies == []
    assert "28 cached" in said


def test_run_again_in_jupyter_it_runs_no_body_and_shows_the_same(readme: Told) -> None:
    readme.bench.edit("parameters", lambda source: source.replace("folds = 5", "folds = 3"))

    again = readme.bench.run()

    assert again.bodies == []
    assert "score" in readme.ran.result("best")
    assert again.result("best") == readme.ran.result("best")
    assert len(readme.ran.images("plot")) == 1
    assert again.images("plot") == readme.ran.images("plot")
