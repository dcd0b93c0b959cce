"""Runs that go on: killed, moved, resumed from a shell, restored; each kernel is a real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import psutil
import pytest

from nbcache.cli import main
from nbcache.engine.record import history
from nbcache.engine.record.history import RunSummary
from nbcache.store.cache import Cache
from tests.kernels.scenarios import Notebook, error_of, text_of
from tests.waiting import PATIENCE_S, wait_until


class Project:
    """A folder with a notebook that a shell runs; bodies note what they did in `trace`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.trace, self.gate = folder, folder / "trace", folder / "gate"
        folder.mkdir()
        self.trace.touch()

    def write(self, cells: Sequence[str], name: str = "fit.ipynb") -> None:
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
        book.cells[1].metadata["tags"] = ["parameters"]
        nbformat.write(book, self.folder / name)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `nbcache WORDS` in the folder."""
        return subprocess.Popen(
            [sys.executable, "-m", "nbcache", *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def nbcache(self, *words: str) -> tuple[int, str, str]:
        """Run `nbcache WORDS`; return (exit code, stdout, stderr)."""
        process = self.start(*words)
        out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, err

    def ran(self) -> list[str]:
        """Return what bodies noted since the last call, sorted."""
        text = self.trace.read_text()
        self.trace.write_text("")
        return sorted(text.split())

    def runs(self) -> list[RunSummary]:
        """Return the runs of the folder's cache, newest first."""
        with Cache.open(self.folder / ".nbcache", create=False) as cache:
            return history.runs(cache)

    def mark(self, expression: str) -> str:
        return f"open({str(self.folder)!r} + '/trace', 'a').write(str({expression}) + '\\n')"


def slow_pipeline(project: Project) -> list[str]:
    """Items 0 and 1 are quick; item 2 waits for the gate."""
    return [
        "%load_ext nbcache",
        "count = 2",
        "%channel src = of(*range(count))",
        f"%%process work(v) -> out from src\n{project.mark('v')}\nimport os, time\n"
        f"while v == 2 and not os.path.exists({str(project.folder)!r} + '/gate'):\n"
        "    time.sleep(0.02)\nout = v * 10",
        f"%%process total(out) -> s from work.collect()\n{project.mark(repr('sum'))}\ns = sum(out)",
        "run = %nbcache run",
        "print('the total is', total.value)",
    ]


def test_a_killed_run_goes_on_from_a_shell_under_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    project.write(slow_pipeline(project))

    def refused(*words: str) -> str:
        """Return what a command says that starts no kernel."""
        assert main(words) in (2, 3)
        return capsys.readouterr().err

    shell = project.start("run", "fit.ipynb", "-p", "count=3")
    cache_folder = project.folder / ".nbcache"
    wait_until(lambda: len(project.trace.read_text().split()) == 3)

    def both_are_kept() -> bool:
        with Cache.open(cache_folder, create=False) as cache:
            return len(list(cache.log.attempts())) == 2

    wait_until(both_are_kept)
    (going,) = project.runs()
    assert going.status == "running"
    assert going.pid is not None
    where = f"(process {going.pid} on {socket.gethostname()})"
    assert where in refused("resume", going.id[:20])

    os.kill(going.pid, signal.SIGKILL)
    shell.communicate(timeout=PATIENCE_S)
    assert shell.returncode == 1
    wait_until(lambda: not psutil.pid_exists(going.pid or 0))
    assert [run.status for run in project.runs()] == ["interrupted"]
    assert project.ran() == ["0", "1", "2"]

    # Behaviour 2: the cache is moved away and brought back; an unknown id lists the nearest.
    cache_folder.rename(tmp_path / "away")
    assert "no nbcache cache" in refused("resume", going.name)
    (tmp_path / "away").rename(cache_folder)
    assert f"the nearest: {going.name}" in refused("resume", going.name + "x")

    # A notebook that has moved is asked for.
    (project.folder / "fit.ipynb").unlink()
    cells = slow_pipeline(project)
    cells[4] = cells[4].replace("s = sum(out)", "s = -sum(out)")
    (project.folder / "sub").mkdir()
    project.write(cells, "sub/fit.ipynb")
    told = refused("resume")
    assert "is no longer at" in told
    assert "--notebook FILE" in told

    # Of two shells that resume at once one goes, and says what was edited.
    words = ("resume", going.name, "--notebook", "sub/fit.ipynb")
    shells = [project.start(*words), project.start(*words)]
    wait_until(lambda: "2" in project.trace.read_text().split())
    wait_until(lambda: any(shell.poll() is not None for shell in shells))
    project.gate.touch()
    answers = [shell.communicate(timeout=PATIENCE_S) for shell in shells]
    loser, winner = sorted(range(2), key=lambda k: -(shells[k].returncode or 0))
    assert [shells[loser].returncode, shells[winner].returncode] == [1, 0], answers
    assert f"run {going.name} is running (process" in answers[loser][1]
    out = answers[winner][0]
    assert f"resuming run {going.name} (interrupted), session 2; since it began:" in out
    assert "total: the code of total changed" in out
    assert "the total is -30" in out
    assert project.ran() == ["2", "sum"]
    (ended,) = project.runs()
    assert (ended.id, ended.status, ended.sessions) == (going.id, "succeeded", 2)
    assert ended.parameters == {"count": "3"}
    assert ended.counts == {"completed": 4}

    # A new run of it, with another parameter, and one process again.
    code, _, told = project.nbcache(
        "relaunch", "--notebook", "sub/fit.ipynb", "-p", "count=2", "--from", "total"
    )
    assert code == 0, told
    assert project.ran() == ["sum"]
    newest = project.runs()[0]
    assert (newest.parent, newest.parameters) == (going.id, {"count": "2"})
    assert newest.hit_rate == pytest.approx(2 / 3)
    assert main(["runs"]) == 0
    header, first, _ = capsys.readouterr().out.splitlines()[:3]
    assert "parent" in header
    assert "67%" in first
    assert going.name in first


SETUP = """
def tell(run):
    print(run.name, sorted(run.counts().items()), [list(run[name]) for name in run.places])
"""


def behaviours(notebook: Notebook, second: bool) -> list[str]:
    """The cells of one kernel; in the second one some say something else."""
    cpus = "--cpus 2" if second else ""
    mark = notebook.mark
    return [
        SETUP,
        f"scale = {3 if second else 2}",
        "%channel src = of(1, 2)",
        f"%%process a3(v) -> x from src\n{mark('a3')}\nx = v",
        f"%%process b3(x) -> y from a3\n{mark('b3')}\ny = x * scale",
        "r = %nbcache run b3",
        "tell(r)",
        f"%%process w4(v) -> o from src --bash {cpus}\n"
        f"echo w4 >> {notebook.trace}; echo $cpus $task_index; o=$v",
        "r = %nbcache run w4",
        f"%%process w5(v) -> o from src --retries 3 --backoff 0.01s\n{mark('w5')}\n"
        "if task.attempt < 3:\n    raise ValueError\no = v",
        "r = %nbcache run w5",
        f"%%process w6(v) -> o from src --on_error ignore\n{mark('w6')}\no = 1 / (v - 1)",
        "r = %nbcache run w6",
        f"%%process s20(v) -> o from src\n{mark('s20')}\no = v\n#| stub:\n{mark('stub20')}\no = 0",
        "r = %nbcache run s20 --stub",
        *(["r = %nbcache run s20"] if second else []),
        "tell(r)",
        f"%%process double(v) -> d\n{mark('double')}\nd = v * 2",
        "%channel one = double(src)",
        "%channel same = double(src)",
        "%channel other = double(of(5))",
        "r = %nbcache run one same other",
        "print(sorted(r.places), sorted(r.counts().items()))",
    ]


def test_behaviours_3_4_5_6_20_21_between_two_kernels(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    use = ["%load_ext nbcache", f"%nbcache use {tmp_path}/cache"]

    first = notebook.execute([*use, *behaviours(notebook, second=False)])
    assert [error_of(cell) for cell in first if error_of(cell)] == []
    ran = notebook.ran()
    assert {name: ran.count(name) for name in sorted(set(ran))} == {
        "a3": 2, "b3": 2, "double": 3, "stub20": 2, "w4": 2, "w5": 6, "w6": 2,
    }  # fmt: skip
    assert text_of(first[-1]).startswith("['double', 'double-2', 'double-3']")

    again = notebook.execute([*use, *behaviours(notebook, second=True)])
    assert [error_of(cell) for cell in again if error_of(cell)] == []
    assert notebook.ran() == ["b3", "b3", "s20", "s20", "w6"]


def test_results_come_back_in_a_kernel_that_runs_no_cell_of_the_notebook(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    use = ["%load_ext nbcache", f"%nbcache use {tmp_path}/cache"]
    cells = [
        "limit = 2",
        "%channel src = of(1, 2)",
        f"%%process fit(v) -> score from src\n{notebook.mark('fit')}\n"
        "if v == limit:\n    raise ValueError('at the limit')\nscore = v * 10",
        "%%process table(score) from fit\n{'score': [score]}",
    ]
    made = notebook.execute([*use, *cells, "%nbcache run --max-parallel 1"])
    assert "at the limit" in error_of(made[-1])
    assert notebook.ran() == ["fit", "fit"]

    seen = notebook.execute(
        [
            *use,
            "table = 'mine'",
            "%nbcache restore\nr = %nbcache restore",
            "print(list(fit), table, list(r['table']), fit.table().to_dict('records'))",
            "%nbcache resume",
            "%nbcache restore nobody",
            *cells,
            "r = %nbcache resume -p limit=9",
            "print(list(r['fit']), limit)",
            "%nbcache show",
            "%nbcache resume",
        ]
    )

    texts = [text_of(cell) for cell in seen]
    assert texts[3].count("left alone") == texts[3].count("left alone: table is a str") == 2
    assert texts[4] == "[10] mine [{'score': [10]}] [{'v': 1, 'score': 10}]\n"
    assert "none of its processes is declared in this kernel" in error_of(seen[5])
    assert "no run 'nobody'; the latest:" in error_of(seen[6])
    assert error_of(seen[11]) == ""
    assert "parameter limit: as in the notebook → 9" in texts[11]
    assert texts[12] == "[10, 20] 2\n"
    assert notebook.ran() == ["fit", "fit"]  # a parameter that the body reads
    assert "sessions   2" in texts[13]
    assert "max_parallel=1" in texts[13]
    assert "has succeeded: there is nothing left to resume" in error_of(seen[14])
    assert json.dumps(texts)  # plain text throughout
