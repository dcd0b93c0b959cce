"""Publish rules: results appear where people look, on a hit too, and nothing of theirs is lost."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbcache.engine.running.run import Run
from nbcache.errors import DeclarationError, RunFailed
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook

MAKE = (
    'mkdir d; echo "$v" > "$v.txt"; echo in > d/in.txt; ln -s in.txt d/l; touch d/x; chmod +x d/x'
)


def declare(notebook: Notebook, *rules: str, items: str = '"a", "b"', body: str = MAKE) -> None:
    lines = "".join(f"#| publish: {rule}\n" for rule in rules)
    notebook.cell(f"%channel src = of({items})")
    notebook.cell(
        f'%%process make(v) -> t: path = "{{v}}.txt", d: path | None = "d" from src --bash\n'
        f"{lines}{body}"
    )


def listed(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if not each.is_dir())


def error_of(run: Run) -> str:
    assert run.status is RunStatus.FAILED
    with pytest.raises(RunFailed) as raised:
        run.raise_for_status()
    return str(raised.value)


@pytest.mark.parametrize("mode", ["copy", "symlink", "rellink"])
def test_19_a_deleted_folder_is_back_without_any_task_and_in_its_mode(
    kernels: Callable[[], Notebook], mode: str
) -> None:
    first, second = kernels(), kernels()
    shown = first.folder / "results"
    for notebook in (first, second):
        declare(notebook, f"results/{{v}}, mode={mode}")
    assert first.run().counts() == {"completed": 2}
    wanted = [f"{v}/{name}" for v in "ab" for name in ("d/in.txt", "d/l", "d/x", f"{v}.txt")]
    assert listed(shown) == sorted(wanted)
    assert (shown / "a/a.txt").read_text() == "a\n"
    assert os.access(shown / "a/d/x", os.X_OK)
    assert os.readlink(shown / "a/d/l") == "in.txt"

    os.rename(shown, first.folder / "gone")
    assert second.run().counts() == {"cached": 2}
    assert listed(shown) == sorted(wanted)
    for place in (shown / "a/a.txt", shown / "b/d/in.txt"):
        assert place.is_symlink() == (mode != "copy")
        assert (mode == "symlink") == (mode != "copy" and os.readlink(place).startswith("/"))
    assert second.session.last_run.notes == ["published 8 files in results/{v} (2 folders)"]  # type: ignore[union-attr]
    assert second.run().notes == []


def test_19_when_only_the_rule_changes_the_folder_follows_it(notebook: Notebook) -> None:
    shown = notebook.folder / "results"
    declare(notebook, "results/{v}")
    notebook.run()
    declare(notebook, "results/{v}, mode=symlink", "other, only=t, as=sub/{v}-{file.stem}.text")
    assert notebook.run().counts() == {"cached": 2}
    assert (shown / "a/a.txt").is_symlink()
    assert (shown / "a/a.txt").read_text() == "a\n"
    assert listed(notebook.folder / "other") == ["sub/a-a.text", "sub/b-b.text"]
    declare(notebook, "results/{v}")
    assert notebook.run().counts() == {"cached": 2}
    assert not (shown / "a/a.txt").is_symlink()


def test_rules_choose_by_output_by_pattern_and_by_expression(notebook: Notebook) -> None:
    declare(
        notebook, "by_output, only=t", "by_pattern, pattern=[ax]*", 'by_item, enabled=v == "b"',
        "never, enabled=false",
    )  # fmt: skip
    notebook.run()
    assert listed(notebook.folder / "by_output") == ["a.txt", "b.txt"]
    assert listed(notebook.folder / "by_pattern") == ["a.txt"]
    assert "b.txt" in listed(notebook.folder / "by_item")
    assert "a.txt" not in listed(notebook.folder / "by_item")
    assert not (notebook.folder / "never").exists()


def test_a_new_result_replaces_what_was_published_and_removes_what_is_gone(
    notebook: Notebook,
) -> None:
    declare(notebook, "results", "beside/{v}", items='"a"')
    assert notebook.run().notes == [f"published 4 files in {it}" for it in ("beside/a", "results")]
    (notebook.folder / "results/d/mine.txt").write_text("of the user")
    declare(
        notebook, "results", items='"a"', body='echo new > "$v.txt"; mkdir d; echo 2 > d/in.txt'
    )
    assert notebook.run().counts() == {"completed": 1}
    assert (notebook.folder / "results/a.txt").read_text() == "new\n"
    assert listed(notebook.folder / "results") == ["a.txt", "d/in.txt", "d/mine.txt"]


def test_each_file_stands_in_its_own_mode_whatever_else_has_its_content(
    notebook: Notebook,
) -> None:
    def modes() -> dict[str, bool]:
        files = (notebook.folder / "out").rglob("*")
        return {each.name: os.access(each, os.X_OK) for each in files if each.is_file()}

    notebook.cell("%channel src = of(1)")
    body = "%%process {0}(v) -> t: path = '{0}.sh' from src --bash --publish out\necho > {0}.sh"
    notebook.cell(f"{body.format('able')}; chmod +x able.sh")
    notebook.run()
    notebook.cell(body.format("plain"))
    notebook.run()
    assert modes() == {"able.sh": True, "plain.sh": False}
    places = {each.name: each.stat().st_ino for each in (notebook.folder / "out").iterdir()}

    notebook.cell(f"{body.format('plain')}; chmod +x plain.sh")
    notebook.cell(f"{body.format('able')}; true")
    notebook.run()

    assert modes() == {"able.sh": False, "plain.sh": True}
    now = {each.name: each.stat().st_ino for each in (notebook.folder / "out").iterdir()}
    assert now == places  # nothing was copied: some file systems keep no such bit


def test_a_file_of_somebody_else_is_never_overwritten_unasked(notebook: Notebook) -> None:
    shown = notebook.folder / "results"
    shown.mkdir()
    (shown / "a.txt").write_text("mine")
    declare(notebook, "results", items='"a"')
    run = notebook.run()
    assert run.counts() == {"completed": 1}
    error = error_of(run)
    assert "results/a.txt is there, and nbcache did not put it there" in error
    assert "overwrite=true" in error
    assert (shown / "a.txt").read_text() == "mine"
    (shown / "a.txt").unlink()
    run = notebook.run()
    assert (run.status, run.counts()) == (RunStatus.SUCCEEDED, {"cached": 1})

    (shown / "a.txt").write_text("annotated by hand")
    assert "somebody changed it since" in error_of(notebook.run())
    declare(notebook, "results, overwrite=true", items='"a"')
    assert notebook.run().status is RunStatus.SUCCEEDED
    assert (shown / "a.txt").read_text() == "a\n"


def test_a_file_where_a_folder_is_to_be_is_named_with_the_way_out(notebook: Notebook) -> None:
    (notebook.folder / "results").write_text("mine")
    for rule in ("results", "results/deep/{v}"):
        declare(notebook, rule, items='"a"')
        error = error_of(notebook.run())
        said = f"{notebook.folder / 'results'} is no folder, and one is to be published there.\n"
        assert f"{said}  Move it away, or name another folder" in error
    assert (notebook.folder / "results").read_text() == "mine"


def test_what_stands_there_already_with_the_same_content_is_taken_as_published(
    notebook: Notebook,
) -> None:
    (notebook.folder / "results").mkdir()
    (notebook.folder / "results/a.txt").write_text("a\n")
    declare(notebook, "results, only=t", items='"a"')
    run = notebook.run()
    assert (run.status, run.notes) == (RunStatus.SUCCEEDED, [])


def test_two_tasks_that_want_one_name_are_told_apart_by_an_error(notebook: Notebook) -> None:
    declare(notebook, "results, as=same.txt, only=t")
    error = error_of(notebook.run())
    assert "results/same.txt is published by make[" in error
    assert "Tell them apart" in error


def test_folders_of_several_tasks_under_one_name_become_one_which_later_results_renew(
    notebook: Notebook,
) -> None:
    shown = notebook.folder / "results"
    body = 'mkdir d; echo "$v" > "d/$v.txt"; touch "$v.txt" "d/EXTRA$v"'
    declare(notebook, "results, only=d", body=body)
    notebook.run().raise_for_status()
    assert listed(shown) == ["d/EXTRAa", "d/EXTRAb", "d/a.txt", "d/b.txt"]
    assert not notebook.run().notes  # all stands there already

    declare(notebook, "results, only=d", body=body.replace("EXTRA", "other"))
    notebook.run().raise_for_status()

    assert listed(shown) == ["d/a.txt", "d/b.txt", "d/othera", "d/otherb"]

    # of a task that has no result now, what it had published stays
    for on_error in ("continue", "ignore"):
        failing = f"[ $v = b ] && exit {len(on_error)}\n{body}".replace("EXTRA", on_error)
        declare(notebook, f"results, only=d\n#| on_error: {on_error}", body=failing)
        assert notebook.run().counts()["completed"] == 1
        assert {"d/b.txt", "d/otherb"} <= set(listed(shown))


def test_files_of_one_task_with_one_name_are_told_apart_by_an_error_and_a_folder_keeps_them(
    notebook: Notebook,
) -> None:
    text = (
        '%%process make() -> each: list[path] = "**/x.txt", all: path = "all" --bash\n'
        "#| publish: results, only={}\n"
        "mkdir -p all/a all/b; echo 1 > all/a/x.txt; echo {} > all/b/x.txt"
    )
    notebook.cell(text.format("each", 2))
    error = error_of(notebook.run())
    assert "results/x.txt is the name of two files of make" in error
    assert "declare the folder" in error
    notebook.cell(text.format("each", 1))
    assert notebook.run().status is RunStatus.SUCCEEDED  # equal ones are one
    notebook.cell(text.format("all", 2))
    assert notebook.run().counts() == {"cached": 1}
    assert (notebook.folder / "results/all/b/x.txt").read_text() == "2\n"


def test_a_failure_to_publish_loses_nothing_and_the_next_run_only_publishes(
    notebook: Notebook,
) -> None:
    (notebook.folder / "results").write_text("a file where a folder should be")
    declare(notebook, "results", "results, enabled=v / 2", items='"a"')
    run = notebook.run()
    assert run.counts() == {"completed": 1}
    error = error_of(run)
    assert "its result is kept, but not published" in error
    assert "not published: --publish: enabled 'v / 2': TypeError" in error
    declare(notebook, "results", items='"a"')
    assert "nothing else is left to do" in error
    assert run["make"].value is not None
    (notebook.folder / "results").unlink()
    run = notebook.run()
    assert (run.status, run.counts()) == (RunStatus.SUCCEEDED, {"cached": 1})
    assert "a.txt" in listed(notebook.folder / "results")


@pytest.mark.parametrize("value", ["../out", "/tmp/out", "a/../../out", "~root"])
def test_a_value_never_leads_out_of_the_folder(notebook: Notebook, value: str) -> None:
    declare(
        notebook, "results/{v}", items=repr(value),
        body='mkdir d; mkdir -p "$(dirname "./$v.txt")"; touch "./$v.txt"',
    )  # fmt: skip
    notebook.cell(
        '%%process make(v) -> t: path = "t.txt" from src --bash --publish results/{v}\ntouch t.txt'
    )
    assert "would lead out of the folder" in error_of(notebook.run())
    beside = [each for each in listed(notebook.folder) if not each.startswith("cache/")]
    assert beside == ["trace.log"]


def test_nothing_is_published_into_the_cache(notebook: Notebook) -> None:
    declare(notebook, "cache/blobs", items='"a"')
    assert "lies in the cache folder" in error_of(notebook.run())


def test_the_rule_is_no_part_of_the_hash_and_enters_no_plan(notebook: Notebook) -> None:
    declare(notebook)
    before = {task.hash for task in notebook.run().tasks.values()}
    declare(notebook, "results")
    (plan,) = notebook.session.plan()
    assert (plan.cached, plan.to_run) == (2, 0)
    assert not (notebook.folder / "results").exists()
    assert {task.hash for task in notebook.run().tasks.values()} == before


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("results, mode=move", "results stay in the cache"),
        ("results, mode=link", "a hard link shares its bytes with the cache"),
        ("results, mode=clone", "one of copy, symlink, rellink"),
        ("results, mod=copy", 'did you mean "mode="'),
        ("results/{v} mode=symlink", "a comma is missing before mode=symlink"),
        ("results mode=copy", "a comma is missing before mode=copy"),
        ("results, as=../x", "inside of the folder"),
        ("results, enabled=v ==", "no Python expression"),
        ("results, enabled=task.attempts > 1", "enabled: task has no 'attempts'"),
        ("results, only=u", "the outputs are: t, d"),
        ("results/{w}", "the inputs are: v"),
        ("mode=copy", "a rule begins with one"),
        ("results, as={file.length}", "is not a field"),
    ],
)
def test_a_wrong_rule_is_told_when_the_cell_runs(notebook: Notebook, rule: str, said: str) -> None:
    with pytest.raises(DeclarationError, match="line 2") as raised:
        declare(notebook, rule)
    assert said in str(raised.value)


def test_a_process_without_files_has_nothing_to_publish(notebook: Notebook) -> None:
    with pytest.raises(DeclarationError, match="none of its outputs is a file"):
        notebook.cell("%%process work() -> n: int --publish results\nn = 1")


KILLED = """
import sys
from pathlib import Path
from tests.engine.notebooks import Notebook
notebook = Notebook(Path(sys.argv[1]))
exec(sys.argv[2])
print(notebook.run().status.value, notebook.session.last_run.counts(), flush=True)
notebook.close()
"""


def test_a_kernel_that_is_killed_while_it_publishes_leaves_no_half_file(tmp_path: Path) -> None:
    cells = (
        'notebook.cell(\'%%process make() -> fs: list[path] = "*.txt", d: path = "d" --bash '
        "--publish results --store kept\\nmkdir d; for i in $(seq 400); do echo $i > $i.txt; '"
        "'cp $i.txt d; done')"
    )
    for number in itertools.count():  # until we were quick enough to kill it half-way
        work = tmp_path / str(number)
        work.mkdir()
        command = [sys.executable, "-c", KILLED, str(work), cells]
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        shown = work / "kept"
        while not (shown / "7.txt").exists() and killed.poll() is None:
            pass
        killed.kill()
        killed.wait()
        if len(list(shown.glob("*.txt"))) < 400:
            break
    assert subprocess.check_output(command, text=True) == "succeeded {'cached': 1}\n"
    for folder in (shown, work / "results"):
        assert len(list(folder.glob("*.txt"))) == 400
        assert all(each.read_text() == f"{each.stem}\n" for each in folder.rglob("*.txt"))
        assert not [each for each in folder.iterdir() if each.name.startswith(".nbcache-0")]
    assert subprocess.check_output(command, text=True) == "succeeded {'stored': 1}\n"


def test_a_damaged_result_is_not_published_and_is_made_again(notebook: Notebook) -> None:
    declare(notebook, "results, only=t", items='"a"', body='head -c 9000 /dev/zero > "$v.txt"')
    notebook.run().raise_for_status()
    [blob] = (each for each in notebook.session.cache.blobs.folder.rglob("*") if each.is_file())
    shutil.rmtree(notebook.folder / "results")
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.write(b"damaged")

    assert "damaged" in error_of(notebook.run())
    assert not listed(notebook.folder / "results")

    assert notebook.run().counts() == {"completed": 1}
    assert (notebook.folder / "results" / "a.txt").read_bytes() == bytes(9000)
