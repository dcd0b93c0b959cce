"""A failed task keeps its work directory, and another kernel or a shell enters it."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nbcache.engine.debugging import bind, open_task, run_again_here
from nbcache.engine.record.explanations import why
from nbcache.errors import RunFailed, ScriptError, UsageError
from nbcache.notebook.debugging import describe
from tests.engine.notebooks import Notebook
from tests.notebook.shells import shell_in
from tests.waiting import PATIENCE_S

Kernels = Callable[[], Notebook]


def fail(notebook: Notebook) -> None:
    """Run a script and a body that fail, on a file with a space in its name."""
    data = notebook.folder / "data"
    data.mkdir()
    (data / "a b.txt").write_text("reads")
    notebook.cells(
        [
            "import numpy\nlarge = numpy.arange(200_000.0)\n"
            "def norm(x):\n    return x / large.max()",
            "%channel files = from_path('data/*.txt')",
            "%%process align(f: path) -> n: int, bam: path = 'out.bam' from files --bash\n"
            'echo "aligning $f on $cpus"\nhalf=$(head -c 2 "$f")\necho "$half" > partial\n'
            "n=1\nls nosuchfile",
            "%%process fit(f: path, depth=3) -> score from files\n"
            "print('fitting', depth)\ntext = f.read_text()\n"
            "score = float(norm(large[1])) / (depth - 3)",
        ]
    )
    notebook.run()


def nbcache(folder: Path, *words: str, say: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbcache", *words, "--cache", "cache"],
        cwd=folder,
        input=say,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def workdir(notebook: Notebook, words: Sequence[str]) -> Path:
    return open_task(notebook.session.cache, words).entry.folder


def test_the_cell_s_error_says_what_is_kept_and_the_ways_on(notebook: Notebook) -> None:
    notebook.cell("%channel grid = product(depth=[2, 4, 8], rep=range(6))")
    notebook.cell(
        "%%process fit(depth, rep) -> score from grid\nprint('begin')\nprint(depth, rep)\n"
        "score = 1 / (10 * depth + rep - 81)"
    )
    run = notebook.run()
    with pytest.raises(RunFailed) as caught:
        run.raise_for_status()
    *lines, last = str(caught.value).split("\n")
    assert lines == [
        "fit[depth=8 rep=1] ZeroDivisionError: division by zero",
        "  cell [2] line 4: score = 1 / (10 * depth + rep - 81)",
        "  | begin",
        "  | 8 1",
        "17 of 18 done and kept",
        "fix the cell and run again, or %nbcache try fit --item failed",
    ]
    assert last == f"look inside: %nbcache debug fit · {workdir(notebook, ['fit'])}"


def test_a_script_s_error_shows_its_last_lines_and_its_command_once(notebook: Notebook) -> None:
    notebook.cell("%%process align() --bash\necho reading\nls nosuchfile")
    with pytest.raises(RunFailed) as caught:
        notebook.run().raise_for_status()
    lines = str(caught.value).split("\n")
    assert lines[:2] == ["align the script ended with exit code 2", "  | reading"]
    assert "nosuchfile" in lines[2]
    assert lines[3:5] == ["  $ bash -euo pipefail .command.sh", "0 of 1 done and kept"]

    notebook.cell("%%process align() --bash\nseq 99\necho why >&2\nexit 3")
    with pytest.raises(RunFailed) as caught:
        notebook.run().raise_for_status()
    head, cut, *lines = str(caught.value).split("\n")[:9]
    assert (head, cut) == ("align the script ended with exit code 3", "…")
    assert lines == [
        *(f"  | {n}" for n in range(95, 100)),
        "  | why",
        "  $ bash -euo pipefail .command.sh",
    ]


def test_what_was_ignored_is_not_what_the_run_failed_of(notebook: Notebook) -> None:
    notebook.cell("%%process a() --on_error ignore\nraise KeyError('ignored')")
    notebook.cell("%channel late = a.mix(of(1)).collect()")
    notebook.cell("%%process b(x) from late\nraise ValueError('the cause' + '\\nand more' * 99)")
    with pytest.raises(RunFailed, match=r"^b ValueError: the cause\nand more") as caught:
        notebook.run().raise_for_status()
    assert str(caught.value).count("and more\n") == 6  # the cell ends in a few lines


def test_another_kernel_enters_a_failed_body_with_its_variables(kernels: Kernels) -> None:
    """Also after the run's own files are gone; nothing of the notebook is overwritten."""
    fail(kernels())
    fresh = kernels()
    mended = len
    fresh.names["norm"] = mended
    opened = open_task(fresh.session.cache, ["fit"])
    bound = bind(opened, fresh.names)

    assert set(bound.names) == {"f", "depth", "large"}
    assert bound.left == ("norm",)
    assert fresh.names["norm"] is mended
    assert Path(str(fresh.names["f"])).read_text() == "reads"
    assert float(fresh.names["large"][-1]) == 199_999.0
    with pytest.raises(ZeroDivisionError) as caught:
        run_again_here(opened)
    assert caught.traceback[-1].lineno + 1 == 4  # the line of the cell


def test_inputs_never_replace_a_channel_or_a_process(kernels: Kernels) -> None:
    fail(kernels())
    fresh = kernels()
    fresh.cell("%channel f = of(1)")
    held = fresh.names["f"]
    assert bind(open_task(fresh.session.cache, ["fit"]), fresh.names).left[0] == "f"
    assert fresh.names["f"] is held


def test_a_script_is_entered_by_name_by_hash_and_by_folder(notebook: Notebook) -> None:
    fail(notebook)
    cache = notebook.session.cache
    opened = open_task(cache, ["align"])
    folder = opened.entry.folder
    assert (folder / "partial").read_text() == "re\n"
    assert "nosuchfile" in (folder / ".command.sh").read_text()
    assert "aligning a b.txt on 1" in (folder / ".command.log").read_text()
    assert (folder / ".exitcode").read_text() == "2\n"
    assert opened.row is not None
    by_hash = opened.row.hash.partition(":")[2][:8]
    for words in ([by_hash], [str(folder)], ["align", "0"], []):
        assert open_task(cache, words).entry.folder in (folder, workdir(notebook, ["fit"]))
    with pytest.raises(ScriptError, match="exit code 2"):
        run_again_here(opened)


def test_an_earlier_attempt_is_entered_by_its_number_also_of_a_task_that_succeeded(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(
        "%%process work(v) -> out from src --retries 2 --backoff 1ms\n"
        "open(f'made-{task.attempt}', 'w').close()\nassert v == 1 and task.attempt == 3\nout = v"
    )
    notebook.run()
    cache = notebook.session.cache
    for words, number in ((["work", "0"], "2"), (["work", "1"], "1"), ([], "2"), ([], None)):
        opened = open_task(cache, words, attempt=number)
        made = [each.name for each in Path(opened.entry.folder).glob("made-*")]
        assert made == [f"made-{number or 3}"]
    with pytest.raises(UsageError, match="no failed attempt 3; failed are: 1, 2"):
        open_task(cache, ["work", "0"], attempt="3")


def test_a_task_that_a_resume_did_not_begin_is_entered_at_the_attempt_that_failed(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell("%%process work(v) -> out from src --bash\nout=$v; exit $v")
    failed = notebook.run()
    kept = open_task(notebook.session.cache, ["work", "1"]).entry.folder

    resumed = notebook.session.resume(max_parallel=1, max_errors=1)
    assert resumed.wait(PATIENCE_S)
    assert "1 task has failed (--max-errors 1): no more were started" in resumed.notes

    cache = notebook.session.cache
    for number in (None, "1"):
        assert open_task(cache, ["work", "1"], attempt=number).entry.folder == kept
    with pytest.raises(UsageError, match="no failed attempt 2; failed are: 1"):
        open_task(cache, ["work", "1"], attempt="2")
    numbered = describe(open_task(cache, ["work"], attempt="2")).text
    assert ["attempt", "2"] in [line.split() for line in numbered.split("\n")]
    told = why(cache, ["work", "1"])
    assert told.head == f"work[v=2] was not begun, since run {failed.name} ended first"
    assert told.lines[0] == "it would have run: the earlier attempt with the same components failed"


def test_a_moved_cache_and_lost_inputs_are_put_right(notebook: Notebook, tmp_path: Path) -> None:
    """The folder lies elsewhere, a staged input is gone, and one is another file now."""
    fail(notebook)
    folder = workdir(notebook, ["align"])
    notebook.session.close()
    shutil.move(tmp_path / "cache", tmp_path / "moved")
    notebook.session.use("moved")
    folder = tmp_path / "moved" / "work" / folder.name
    (folder / "a b.txt").unlink()
    (tmp_path / "data" / "a b.txt").write_text("other")
    opened = open_task(notebook.session.cache, ["align"])
    assert opened.entry.folder == folder
    assert (folder / "a b.txt").read_text() == "other"
    assert opened.changed == ("f",)


def test_what_cannot_be_entered_is_said(notebook: Notebook) -> None:
    cache = notebook.session.cache
    with pytest.raises(UsageError, match="no task has failed"):
        open_task(cache, [])
    notebook.cell("%channel src = of(0, 1)")
    notebook.cell("%%process half(v) -> out from src\nout = 1 / v")
    notebook.run()
    for words, message in (
        (["half", "1"], "succeeded, so its work directory was not kept"),
        (["hafl"], 'did you mean "half"'),
        (["12345678"], "no task has a hash"),
    ):
        with pytest.raises(UsageError, match=message):
            open_task(cache, words)
    folder = workdir(notebook, ["half"])
    for held, message in (
        (pickle.dumps((("an", "older", "shape"), 1, 2)), "another version of nbcache"),
        (b"no pickle", r"In a shell: cd "),
    ):
        (folder / ".command.data" / "task").write_bytes(held)
        with pytest.raises(UsageError, match=message):
            open_task(cache, ["half"])
    shutil.rmtree(folder)
    with pytest.raises(UsageError, match="is no longer there"):
        open_task(cache, ["half"])


def test_in_a_shell_the_work_directory_opens_with_the_inputs_as_variables(
    notebook: Notebook,
) -> None:
    fail(notebook)
    folder = workdir(notebook, ["align"])
    said = nbcache(notebook.folder, "debug", "align", say='echo "$f, $cpus"; cat partial; pwd\n')
    assert said.stdout.split("\n")[-4:-1] == ["a b.txt, 1", "re", str(folder)]
    printed = nbcache(notebook.folder, "debug", "align", "--print")
    assert str(folder) in printed.stdout
    assert "./.command.run" in printed.stdout
    assert "nosuchfile" in printed.stdout
    again = nbcache(notebook.folder, "debug", "fit", "--again")
    assert again.returncode == 1
    assert "ZeroDivisionError" in again.stderr
    assert "nbcache" not in again.stderr
    unknown = nbcache(notebook.folder, "debug", "nothing")
    assert unknown.returncode == 2


def test_command_run_runs_a_task_again_where_it_failed(notebook: Notebook) -> None:
    """As `bash .command.run` does in Nextflow; a mended script then succeeds."""
    fail(notebook)
    names = ("HOME", "NBCACHE_CONFIG_DIR")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    for name, code in (("align", 2), ("fit", 1)):
        run = workdir(notebook, [name]) / ".command.run"
        ended = subprocess.run([run], env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == code, ended.stderr
    script = workdir(notebook, ["align"]) / ".command.sh"
    script.write_text(script.read_text().replace("ls nosuchfile", 'echo "$half"'))
    run = script.with_name(".command.run")
    ended = subprocess.run([run], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "aligning a b.txt on 1\nre\n")
    body = "import subprocess, sys\nsys.exit(subprocess.call(['bash', '-c', 'exit 5']))"
    notebook.cell(f"%%process calls() --script {sys.executable}\n{body}")
    notebook.run("calls")
    run = workdir(notebook, ["calls"]) / ".command.run"
    ended = subprocess.run([run], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (5, "")  # a bash below it reads no inputs


def test_command_run_finds_modules_beside_the_notebook(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    (notebook.folder / "boxes_beside.py").write_text("class Box:\n    size = 0\n")
    monkeypatch.syspath_prepend(notebook.folder)
    notebook.cell("import boxes_beside\nbox = boxes_beside.Box()")
    notebook.cell("%channel boxes = of(box)")
    notebook.cell("%%process fit(box) -> out from boxes\nout = 1 / box.size")
    notebook.run()
    run = workdir(notebook, ["fit"]) / ".command.run"

    ended = subprocess.run([run], capture_output=True, text=True, check=False)

    assert "ZeroDivisionError: division by zero" in ended.stderr


def test_a_worker_that_died_leaves_the_same_way_back(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(7)")
    notebook.cell(
        "%%process crash(v) -> out from src\nimport os, signal\nprint('last words', flush=True)\n"
        "open('partial', 'w').write('x')\nos.kill(os.getpid(), signal.SIGSEGV)"
    )
    notebook.run()
    opened = open_task(notebook.session.cache, ["crash"])
    assert opened.inputs == {"v": 7}
    assert (opened.entry.folder / "partial").exists()
    assert (opened.entry.folder / ".command.log").read_text() == "last words\n"


def test_half_an_emoji_in_what_a_task_says_is_told_by_its_number(notebook: Notebook) -> None:
    """Nobody can write or send it; a byte of a file's name is one again when it is written."""
    notebook.cell(r"%channel src = of('\ud83d')")
    notebook.cell(
        "%%process odd(v) -> o from src\nprint('half \\ud83d, caf\\udce9')\nprint('caf\\udce9')\n"
        "o = 1\nclass Odd:\n    _repr_html_ = lambda self: 'also \\ud83d'\ndisplay(Odd())\n"
        "raise ValueError('of \\ud83d')"
    )
    run = notebook.run()
    (failed,) = run.failures
    assert (failed.task, failed.error) == (r"odd[v=\ud83d]", r"ValueError: of \ud83d")
    ((_, _, chunks),) = run.shown("odd")
    assert [each.text for each in chunks][:1] == ["half \\ud83d, caf\\udce9\ncaf\udce9\n"]
    assert chunks[1].bundle["text/html"] == r"also \ud83d"
    folder = workdir(notebook, ["odd"])
    log = (folder / ".command.log").read_bytes()
    assert log == b"half \\ud83d, caf\\udce9\ncaf\xe9\n"


def test_secrets_are_in_no_file_of_a_kept_work_directory(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2-hunter2")
    monkeypatch.setenv("OTHER_TOKEN", "not-declared-either")
    notebook.cell("%%process a() --bash --secret TOKEN\necho $TOKEN; false")
    notebook.cell("%%process b() --secret TOKEN\nimport os\nprint(os.environ['TOKEN'])\n1 / 0")
    notebook.run()
    for name in ("a", "b"):
        for path in workdir(notebook, [name]).rglob("*"):
            if path.is_file():
                for secret in (b"hunter2", b"not-declared"):
                    assert secret not in path.read_bytes(), path
    ended = subprocess.run(
        [workdir(notebook, ["a"]) / ".command.run"],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "TOKEN: set this secret first" in ended.stderr


def test_the_magic_leaves_variables_and_runs_again_under_the_debugger_s_eyes(
    notebook: Notebook,
) -> None:
    fail(notebook)
    with shell_in(notebook.folder) as shell:
        shell.ok("%nbcache use cache")
        told = shell.ok("%nbcache debug fit").text
        assert "ZeroDivisionError" in told
        assert str(workdir(notebook, ["fit"])) in told
        assert "  | fitting 3" in told
        assert shell.ok("f.read_text(), depth").value == ("reads", 3)
        again = shell.run("%nbcache debug fit --again")
        assert isinstance(again.error, ZeroDivisionError)
        assert "fitting 3" in again.out
        assert "no process" in str(shell.run("%nbcache debug nothing").error)
