"""Store folders: a result that stands there is taken, whole or not at all, and it is said."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nbcache.engine.record.explanations import why
from nbcache.engine.running import shelf
from nbcache.engine.running.reasons import FROM_STORE
from nbcache.errors import DeclarationError
from nbcache.model.task import Outcome, RunStatus
from nbcache.store import history
from tests.engine.notebooks import Notebook

HEADER = '(v) -> v, big: path = "{v}.big", d: path = "d_{v}", log: path | None = "{v}.log" from src'
BODY = 'echo "$v" > "$v.big"; mkdir "d_$v"; echo in > "d_$v/in"'


def declare(notebook: Notebook, body: str = BODY, name: str = "make", store: str = "kept") -> None:
    notebook.cell('%channel src = of("a", "b")')
    notebook.cell(f"%%process {name}{HEADER} --bash --store {store}\n{body}")
    notebook.cell(f"%%process read(v, big: path, d: path) -> t from {name}\n"
                  "t = (v, big.read_text(), (d / 'in').read_text())")  # fmt: skip


def notes_in(folder: Path) -> list[Path]:
    return sorted((folder / ".nbcache-store").glob("*.json"))


def counted_reads(patch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the key of each note that is read from now on."""
    read: list[str] = []
    really = shelf._read

    def counting(folder: Path, key: str) -> shelf.Note | None:
        read.append(key)
        return really(folder, key)

    patch.setattr(shelf, "_read", counting)
    return read


def test_18_a_run_without_any_cache_takes_what_is_stored_and_says_so(
    kernels: Callable[[], Notebook],
) -> None:
    first, second = kernels(), kernels()
    declare(first)
    run = first.run()
    assert run.counts() == {"completed": 4}
    assert (first.folder / "kept/a.big").read_text() == "a\n"
    values = list(run["read"])

    second.session.use("another cache")
    declare(second, body=BODY + "\nexit 1")
    run = second.run(no_cache=True)
    assert run.status is RunStatus.SUCCEEDED, run.failures
    assert run.counts() == {"stored": 2, "completed": 2}
    assert list(run["read"]) == values
    (note,) = run.notes
    assert note.startswith("make: taken from the store folder")
    assert "from other inputs or code" in note


def test_what_lies_below_does_not_tell_a_stored_result_from_a_computed_one(
    notebook: Notebook,
) -> None:
    declare(notebook)
    notebook.run()
    run = notebook.run()
    assert run.counts() == {"stored": 2, "cached": 2}
    query = f"SELECT status, reason FROM tasks WHERE process = 'make' AND run = '{run.id}'"
    rows = history.connect(notebook.session.cache, live=False).execute(query).fetchall()
    assert {status for status, _ in rows} == {"STORED"}
    assert all("store folder" in reason for _, reason in rows)
    (plan, *_) = notebook.session.plan(["make"])
    assert (plan.tasks, plan.to_run) == (2, 0)


def test_a_deleted_result_that_was_only_taken_from_there_is_why_its_task_runs(
    kernels: Callable[[], Notebook],
) -> None:
    first, second = kernels(), kernels()
    declare(first)
    first.run()
    second.session.use("another cache")
    declare(second)
    second.run()

    (second.folder / "kept/b.big").unlink()
    plan = second.session.plan(["make"])[0]
    assert (plan.cached, plan.to_run, plan.reason) == (1, 1, FROM_STORE)
    run = second.run()
    assert run.reasons["make"] == FROM_STORE
    assert why(second.session.cache, ["make", "1"]).head == f"make[v=b] ran: {FROM_STORE}"


def test_a_hit_fills_a_store_folder_that_was_deleted(notebook: Notebook) -> None:
    declare(notebook)
    notebook.run()
    (notebook.folder / "kept").rename(notebook.folder / "gone")
    assert notebook.run().counts() == {"cached": 4}
    assert (notebook.folder / "kept/d_b/in").read_text() == "in\n"
    assert notebook.run().counts() == {"stored": 2, "cached": 2}


def test_a_result_half_put_there_is_never_taken(notebook: Notebook) -> None:
    declare(notebook)
    notebook.run()
    for path in notes_in(notebook.folder / "kept"):
        note = json.loads(path.read_text())
        path.write_text(json.dumps(note | {"whole": False}))
    (notebook.folder / "kept/a.big").write_text("half")
    assert notebook.run().counts() == {"cached": 4}
    assert (notebook.folder / "kept/a.big").read_text() == "a\n"
    (notebook.folder / "kept/a.big").unlink()
    assert notebook.run().counts() == {"cached": 3, "stored": 1}


def test_files_that_came_there_otherwise_are_taken_if_all_are_there(notebook: Notebook) -> None:
    kept = notebook.folder / "kept"
    (kept / "d_a").mkdir(parents=True)
    (kept / "d_a/in").write_text("downloaded\n")
    declare(notebook)
    (kept / "a.big").write_text("downloaded\n")
    run = notebook.run()
    assert run.tasks[run.graph.places["make"], (0,)].outcome is Outcome.STORED
    assert next(iter(run["read"])) == ("a", "downloaded\n", "downloaded\n")
    assert run.counts() == {"stored": 1, "completed": 3}


def test_18_processes_that_share_a_folder_do_not_mix(kernels: Callable[[], Notebook]) -> None:
    notebook = kernels()
    notebook.cell('%channel src = of("a", "b")')
    for name in ("one", "two"):
        notebook.cell(
            f'%%process {name}(v) -> f: path = "{name}_{{v}}" from src --bash --store kept\n'
            f"echo {name} $v > {name}_$v"
        )
    assert notebook.run().counts() == {"completed": 4}
    run = notebook.run()
    assert run.counts() == {"stored": 4}
    assert [path.read_text() for path in run["two"]] == ["two a\n", "two b\n"]

    other = kernels()
    other.cell('%channel src = of("a")')
    other.cell(
        '%%process three(v) -> f: path = "*_{v}" from src --bash --store kept\necho 3 > one_$v'
    )
    run = other.run()
    assert run.counts() == {"completed": 1}
    assert "was stored by process one" in run.failures[0].error
    assert (notebook.folder / "kept/one_a").read_text() == "one a\n"


def test_tasks_that_would_have_one_result_are_told_apart_by_an_error(notebook: Notebook) -> None:
    notebook.cell('%channel src = of("a", "b")')
    notebook.cell('%%process make(v) -> f: path = "f" from src --bash --store kept\necho $v > f')
    run = notebook.run()
    assert run.counts() == {"completed": 1, "failed": 1}
    assert "would have one result in" in run.failures[0].error
    notebook.cell('%channel src = of("b")')
    run = notebook.run()
    assert run.counts() == {"stored": 1}
    assert "from other inputs or code" in run.notes[0]
    notebook.cell(
        '%%process make(v) -> f: path = "f" from src --bash --store kept/{v}\necho $v > f'
    )
    assert notebook.run().counts() == {"completed": 1}


def test_what_cannot_be_stored_is_said_in_the_words_of_a_store_folder(notebook: Notebook) -> None:
    (notebook.folder / "kept").mkdir()
    (notebook.folder / "kept/a").write_text("mine")
    make = "%%process make() -> a: path = {a!r}, b: path = 'low/a' --bash --store {kept}\n"
    body = "mkdir low; echo 1 > a; echo 2 > b; echo 3 > low/a"
    for a, kept, said in (
        ("a", "new", "have one name: a"),
        ("b", "cache/kept", "lies in the cache folder"),
        ("b", "kept", "kept/a is there, and nbcache did not put it there"),
    ):
        notebook.cell(make.format(a=a, kept=kept) + body)
        (failure,) = notebook.run().failures
        assert "not stored: " in failure.error
        assert said in failure.error
        assert "publish" not in failure.error
        assert "overwrite" not in failure.error


def test_what_is_stored_is_not_replaced_by_another_process_that_publishes_there(
    notebook: Notebook,
) -> None:
    notebook.cell("%%process a -> f: path = 'f' --bash --store kept --publish shown\necho a > f")
    notebook.cell("%%process after(f: path) -> n from a\nn = 1")
    notebook.cell("%%process b(n) -> f: path = 'f' from after --bash --publish kept\necho b > f")
    (failure,) = notebook.run().failures
    assert "kept/f is stored by a too, with another content" in failure.error
    assert (notebook.folder / "kept/f").read_text() == "a\n"


def test_a_later_run_of_another_process_does_not_replace_what_is_stored(
    notebook: Notebook,
) -> None:
    # given a stored result, and another process that publishes a file of that name there
    notebook.cell("%%process keep -> f: path = 'f' --bash --store kept\necho a > f")
    notebook.cell("%%process show -> f: path = 'f' --bash --publish kept\necho b > f")
    notebook.run("keep")

    # when that runs alone
    (failure,) = notebook.run("show").failures

    # then it is refused, and the stored result is taken as it was
    assert "kept/f was stored by process keep, so it is not overwritten" in failure.error
    run = notebook.run("keep")
    assert run.counts() == {"stored": 1}
    assert (notebook.folder / "kept/f").read_text() == "a\n"

    # and its own process may publish it in another form, as may a rule that asks for it
    notebook.cell(
        "%%process keep -> f: path = 'f' --bash --store kept --publish kept,mode=symlink\n"
        "echo a > f"
    )
    assert notebook.run("keep").status is RunStatus.SUCCEEDED
    notebook.cell(
        "%%process show -> f: path = 'f' --bash --publish kept,overwrite=true\necho b > f"
    )
    assert notebook.run("show").status is RunStatus.SUCCEEDED
    assert (notebook.folder / "kept/f").read_text() == "b\n"

    # which is what stands there from then on, for its own rule without that, too
    notebook.cell("%%process show -> f: path = 'f' --bash --publish kept\necho c > f")
    assert notebook.run("show").status is RunStatus.SUCCEEDED
    assert (notebook.folder / "kept/f").read_text() == "c\n"


def test_the_name_of_a_stored_result_that_was_deleted_is_free(notebook: Notebook) -> None:
    # given a stored result whose file is gone, and another process that published there since
    notebook.cell("%%process keep -> f: path = 'f' --bash --store kept\necho a > f")
    notebook.run()
    (notebook.folder / "kept/f").unlink()
    show = "%%process show -> f: path = 'f' --bash --publish kept\necho {} > f"
    notebook.cell(show.format("b"))
    notebook.run("show")

    # when that is edited
    notebook.cell(show.format("c"))
    run = notebook.run("show")

    # then it replaces what it put there itself
    assert run.status is RunStatus.SUCCEEDED, run.failures
    assert (notebook.folder / "kept/f").read_text() == "c\n"


def test_publishing_beside_many_stored_results_reads_their_notes_once(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.cell("%channel src = of(1, 2, 3, 4, 5, 6, 7, 8, 9)")
    notebook.cell("%%process keep(v) -> f: path = '{v}' from src --bash --store kept\ntouch $v")
    show = (
        "%%process show(v) -> f: path = '{{v}}.txt' from src --bash --publish kept\n"
        "echo {} > $v.txt"
    )
    notebook.cell(show.format("b"))
    notebook.run()
    notes = notebook.folder / "kept" / shelf.NOTES
    os.utime(notes, (1, 1))
    read = counted_reads(monkeypatch)
    notebook.cell(show.format("c"))

    assert notebook.run("show").status is RunStatus.SUCCEEDED

    assert len(read) == 9, "each note once"


def test_a_result_is_stored_without_reading_the_notes_of_all_others(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counted_reads(monkeypatch)
    notebook.cell("%channel src = of(1, 2, 3, 4, 5, 6, 7, 8, 9)")
    notebook.cell("%%process make(v) -> f: path = '{v}' from src --bash --store kept\ntouch $v")
    assert notebook.run().counts() == {"completed": 9}
    assert len(read) <= 2 * 9, "its own, to look for it and to put it there"


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ("n", 'the output "n" is no file'),
        ("stdout", 'the output "stdout" is no file'),
        ('f: path | None = "f"', "every output is optional"),
        ("", "no output is declared"),
    ],
)
def test_what_a_store_folder_cannot_hold_is_an_error_at_once(
    notebook: Notebook, outputs: str, said: str
) -> None:
    arrow = f"-> {outputs}" if outputs else ""
    with pytest.raises(DeclarationError, match="line 1") as raised:
        notebook.cell(f"%%process make() {arrow} --bash --store kept\nn=1")
    assert said in str(raised.value)


def test_a_python_body_names_its_file_beforehand(notebook: Notebook) -> None:
    with pytest.raises(DeclarationError, match="no name beforehand"):
        notebook.cell("%%process make() -> f: path --store kept\nf = 'x'")
