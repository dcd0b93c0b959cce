"""Where a task runs and under which names it sees its files; odd names come through unchanged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbcache.errors import DeclarationError
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook
from tests.engine.test_behaviours import ODD_NAMES

SHM = Path("/dev/shm")  # another file system than that of the cache


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    if not SHM.is_dir() or os.stat(SHM).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is only one file system")
    place = SHM / f"nbcache-test-{os.getpid()}"
    place.mkdir()
    yield place
    shutil.rmtree(place)


def test_11_odd_names_come_out_of_scratch_as_they_went_in_and_hit_again(
    kernels: Callable[[], Notebook], scratch: Path
) -> None:
    for again in (False, True):
        notebook = kernels()
        data = notebook.folder / "data"
        data.mkdir(exist_ok=True)
        for number, name in enumerate(ODD_NAMES):
            (data / os.fsdecode(name)).write_text(str(number))
        notebook.cell('%channel src = from_path("data/*").collect()')
        notebook.cell(
            '%%process copy(fs: list[path]) -> os: list[path] = "made/**/*", where: str, d: path = '
            f'"tree" from src --bash --scratch {scratch}\n'
            'mkdir -p "made/a b/c" tree\nfor f in "${fs[@]}"; do name="${f#./}"\n'
            'cp -- "$f" "made/a b/c/$name"; cp -- "$f" "tree/$name"; done\nwhere=$(pwd -P)'
        )
        notebook.cell(
            "%%process read(os, d: path) -> t from copy\n"
            "t = ([(o.name, o.read_text()) for o in os], [x.name for x in d.iterdir()])"
        )
        run = notebook.run()
        assert run.counts() == {"cached" if again else "completed": 2}, run.failures
        files, tree = run["read"].value
        wanted = {(os.fsdecode(name), str(n)) for n, name in enumerate(ODD_NAMES)}
        assert set(files) == wanted
        assert set(tree) == {name for name, _ in wanted}
        where = str(run["copy"].value[1])
        assert where.startswith(f"{scratch}/")
        assert list(scratch.iterdir()) == []


def test_a_failed_task_in_scratch_keeps_its_folder_in_the_cache(
    notebook: Notebook, scratch: Path
) -> None:
    notebook.cell(
        f"%%process work() -> o: path --bash --scratch {scratch}\necho left > left.txt\nexit 3"
    )
    (failure,) = notebook.run().failures
    assert failure.workdir is not None
    assert Path(failure.workdir).parent == notebook.session.cache.work
    assert (Path(failure.workdir) / "left.txt").read_text() == "left\n"
    assert list(scratch.iterdir()) == []


def test_a_killed_task_leaves_nothing_in_scratch_that_is_not_found_again(
    kernels: Callable[[], Notebook], scratch: Path
) -> None:
    notebook = kernels()
    notebook.cell(
        f"%%process work() -> o --scratch {scratch}\nimport os, signal\n"
        "open('left.txt', 'w').close()\nos.kill(os.getpid(), signal.SIGKILL)\no = 1"
    )
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    (failure,) = run.failures
    assert failure.workdir is not None
    assert (Path(failure.workdir) / "left.txt").exists()


def test_scratch_is_no_part_of_the_hash_and_an_unset_variable_is_told(notebook: Notebook) -> None:
    notebook.cell("%%process work() -> o\no = 1")
    notebook.run()
    notebook.cell("%%process work() -> o --scratch\no = 1")
    assert notebook.run().counts() == {"cached": 1}
    notebook.cell("%%process work() -> o --scratch $NOT_SET_HERE\no = 2")
    (failure,) = notebook.run().failures
    assert failure.error.startswith("--scratch $NOT_SET_HERE: this variable is not set")
    notebook.cell("%channel src = of(1, 2, 3, 4, 5)")
    notebook.cell("%%process where(v) -> o from src --scratch fast\nimport os\no = os.getcwd()")
    folders = {Path(each).parent for each in list(notebook.run()["where"])}
    assert folders == {notebook.folder / "fast"}  # beside the notebook, for every task


def seen(notebook: Notebook, rule: str, files: int = 2, more: str = "") -> list[str]:
    """Return the names under which a task sees its files, as a script and as a Python body."""
    (notebook.folder / "data").mkdir(exist_ok=True)
    for number in range(files):
        (notebook.folder / f"data/f{number}.fq").write_text(str(number))
    notebook.cell('%channel fs = from_path("data/*.fq").collect()')
    notebook.cell('%channel one = value("a*b")')
    notebook.cell(
        f"%%process look(fs: list[path], s{more}) -> found: list[str] from fs, one --bash\n"
        f'#| stage_as: {rule}\nfound=("${{fs[@]}}"); for f in "${{fs[@]}}"; do cat "$f"; done'
    )
    notebook.cell(
        f"%%process check(fs: list[path], s) -> out from fs, one\n#| stage_as: {rule}\n"
        "out = [(str(f), f.read_text()) for f in fs]"
    )
    run = notebook.run()
    assert run.status is RunStatus.SUCCEEDED, run.failures
    names = list(run["look"].value)
    assert run["check"].value == [(name, str(n)) for n, name in enumerate(names)]
    return names


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("*", ["f0.fq", "f1.fq"]),
        ("in?.fq", ["in1.fq", "in2.fq"]),
        ("fs=in??.fq", ["in01.fq", "in02.fq"]),
        ("in*.fq", ["in1.fq", "in2.fq"]),
        ("in", ["in1", "in2"]),
        ("d??/*", ["d01/f0.fq", "d02/f1.fq"]),
        ("d/*", ["d/f0.fq", "d/f1.fq"]),
        ("fs={s}?.fq", ["a*b1.fq", "a*b2.fq"]),
    ],
)
def test_files_are_staged_under_the_names_that_a_pattern_gives(
    notebook: Notebook, rule: str, names: list[str]
) -> None:
    assert seen(notebook, rule) == names


def test_one_file_has_no_number_for_a_star(notebook: Notebook) -> None:
    assert seen(notebook, "in*.fq", files=1) == ["in.fq"]
    assert seen(notebook, "in.fq", files=1) == ["in.fq"]


def test_the_name_that_a_body_sees_counts_and_the_name_outside_does_not(
    notebook: Notebook,
) -> None:
    (notebook.folder / "a.fq").write_text("1")
    (notebook.folder / "b.fq").write_text("1")

    def run(file: str, rule: str) -> dict[str, int]:
        notebook.cell(f'%%process work(f: path = "{file}") -> o{rule}\no = f.name')
        return notebook.run().counts()

    assert run("a.fq", " --stage_as in.fq") == {"completed": 1}
    assert run("b.fq", " --stage_as in.fq") == {"cached": 1}
    assert run("b.fq", " --stage_as other.fq") == {"completed": 1}
    assert run("b.fq", "") == {"completed": 1}
    assert run("b.fq", " --stage_as *") == {"cached": 1}


def test_a_result_of_another_task_is_staged_elsewhere_too(notebook: Notebook) -> None:
    notebook.cell(
        '%%process make() -> f: path = "f.txt", d: path = "d" --bash\nmkdir d; touch f.txt d/x'
    )
    notebook.cell("%%process look(f: path, d: path) -> o from make\n#| stage_as: f=in/f\n"
                  "#| stage_as: d=in/d\no = sorted(map(str, d.parent.rglob('*')))")  # fmt: skip
    assert notebook.run()["look"].value == ["in/d", "in/d/x", "in/f"]


def test_two_files_of_one_name_are_an_error_that_says_how_to_number_them(
    notebook: Notebook,
) -> None:
    for each in "xy":
        (notebook.folder / each).mkdir()
        (notebook.folder / each / "f").touch()
    notebook.cell('%channel fs = from_path("x/f", "y/f").collect()')
    notebook.cell("%%process look(fs: list[path]) -> n from fs --stage_as d/*\nn = 1")
    (failure,) = notebook.run().failures
    assert "2 files would be d/f" in failure.error
    assert "dir??/*" in failure.error


@pytest.mark.parametrize(
    ("inputs", "rule", "said"),
    [
        ("f: path", "../x", "no name inside of the work directory"),
        ("f: path", "/x", "no name inside of the work directory"),
        ("f: path", ".nbcache.sh", "nbcache's own"),
        ("f: path", "g=x", "the inputs are: f"),
        ("f: path", "{g}.txt", "the inputs are: f"),
        ("f: path, g: path", "x", "which input? 2 are declared as path"),
        ("f: int", "f=x", '"f" is declared as int, and no file'),
    ],
)
def test_a_wrong_pattern_is_told_when_the_cell_runs(
    notebook: Notebook, inputs: str, rule: str, said: str
) -> None:
    with pytest.raises(DeclarationError, match="line 2") as raised:
        notebook.cell(f"%%process work({inputs}) -> o\n#| stage_as: {rule}\no = 1")
    assert said in str(raised.value)
