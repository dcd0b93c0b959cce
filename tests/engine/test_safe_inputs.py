"""What a task does to its inputs: the user's own files stay as they are, or it is said loudly."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbcache.engine.record.explanations import why
from nbcache.engine.work.staging import COPIED
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook

LARGE = "x" * (COPIED + 1)
APPEND = {
    "python": "f.chmod(0o644)\nopen(f, 'a').write('more')\nn = len(f.read_text())",
    "bash": 'chmod u+w "$f"\necho -n more >> "$f"\nn=$(wc -c < "$f")',
}


def declare(notebook: Notebook, language: str, body: str, name: str = "own.txt") -> None:
    option = " --bash" if language == "bash" else ""
    notebook.cell(f'%%process work(f: path = "{name}") -> n{option}\n{body}')


@pytest.mark.parametrize("language", ["python", "bash"])
def test_a_task_that_writes_into_a_small_input_changes_its_own_copy(
    notebook: Notebook, language: str
) -> None:
    own = notebook.folder / "own.txt"
    own.write_text("one")
    declare(notebook, language, APPEND[language])

    assert int(notebook.run()["work"].value) == 7
    assert own.read_text() == "one"
    assert own.stat().st_mode & 0o777 == 0o644
    assert notebook.run().counts() == {"cached": 1}


@pytest.mark.parametrize("language", ["python", "bash"])
def test_what_a_task_puts_into_a_small_folder_stays_with_the_task(
    notebook: Notebook, language: str
) -> None:
    own = notebook.folder / "own"
    (own / "deep").mkdir(parents=True)
    (own / "deep" / "a.txt").write_text("a")
    body = {
        "python": "(f / 'deep/b.txt').write_text('b')\nopen(f / 'deep/a.txt', 'w')\nn = 2",
        "bash": 'echo b > "$f/deep/b.txt"; echo other > "$f/deep/a.txt"; n=2',
    }
    declare(notebook, language, body[language], "own")

    assert notebook.run().status is RunStatus.SUCCEEDED
    assert sorted(each.name for each in own.rglob("*")) == ["a.txt", "deep"]
    assert (own / "deep" / "a.txt").read_text() == "a"
    assert notebook.run().counts() == {"cached": 1}


@pytest.mark.parametrize(
    "writing",
    [
        "open(f, 'w')", "open(f, 'r+b')", "f.write_text('x')", "os.open(f, os.O_RDWR)",
        "os.truncate(f, 0)", "open(here + '/' + f.name, 'a')",
    ],
)  # fmt: skip
def test_a_python_body_cannot_write_through_the_link_to_a_large_input(
    notebook: Notebook, writing: str
) -> None:
    own = notebook.folder / "own.txt"
    own.write_text(LARGE)
    declare(notebook, "python", f"import os\nhere = os.getcwd()\n{writing}\nn = 1")

    run = notebook.run()

    assert "own.txt is an input, a link to" in run.failures[0].error
    assert own.read_text() == LARGE


def test_a_python_body_writes_what_it_likes_beside_its_large_inputs(notebook: Notebook) -> None:
    (notebook.folder / "own.txt").write_text(LARGE)
    body = (
        "import shutil\nshutil.copy(f, 'mine.txt')\nopen('mine.txt', 'a').write('more')\n"
        "open(f).read()\nn = len(open('mine.txt').read())"
    )
    declare(notebook, "python", body)

    assert notebook.run()["work"].value == len(LARGE) + 4
    assert notebook.run().counts() == {"cached": 1}


def test_a_script_that_writes_into_a_large_input_is_told_of_with_the_files_place(
    notebook: Notebook,
) -> None:
    own = notebook.folder / "own.txt"
    own.write_text(LARGE)
    declare(notebook, "bash", 'echo more >> "$f"; n=1')

    run = notebook.run()

    (said,) = [each for each in run.notes if "input f" in each]
    assert f"({own}) changed while the task ran, by the task itself" in said
    assert "not kept" in said
    own.write_text(LARGE)
    why_again = notebook.session.plan()[0].reason
    assert why_again.endswith("taken out of the cache: input f changed while the task ran")
    again = notebook.run()
    assert (again.counts(), again.reasons) == ({"completed": 1}, {"work": why_again})
    assert why_again in why(notebook.session.cache, ["work"]).head


def test_a_result_that_is_another_tasks_input_stays_as_it_is(notebook: Notebook) -> None:
    notebook.cell('%%process made() -> f: path = "f.txt" --bash\necho -n one > f.txt')
    notebook.cell(f"%%process work(f: path) -> n from made --bash\n{APPEND['bash']}")
    notebook.cell("%%process read(f: path) -> t from made\nt = f.read_text()")

    run = notebook.run()

    assert (run["work"].value, run["read"].value) == ("7", "one")
    assert Path(str(run["made"].value)).read_text() == "one"
    assert notebook.run().counts() == {"cached": 3}
