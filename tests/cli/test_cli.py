from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from nbcache.cli import main
from nbcache.errors import command, spoken
from nbcache.notebook.shell_words import as_typed, place_in
from nbcache.store.cache import Cache
from tests.kernels.scenarios import text_of

CELLS = (
    "%load_ext nbcache",
    "depth = 3",
    "%channel grid = of(*range(depth))",
    "%%process fit(x) -> score from grid\nprint('fitting', x)\nscore = x * 10",
    "run = %nbcache run",
    "print('the best is', max(fit))",
)


def write_notebook(path: Path, *cells: str, parameters: int | None = None) -> Path:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    if parameters is not None:
        book.cells[parameters].metadata["tags"] = ["parameters"]
    nbformat.write(book, path)
    return path


def nbcache(
    folder: Path, *words: str, python: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JUPYTER_PATH": "", "JUPYTER_DATA_DIR": str(folder / "none")}
    return subprocess.run(
        [sys.executable, *python, "-m", "nbcache", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_notebook_runs_is_cached_and_its_history_answers(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_notebook(tmp_path / "sub" / "fit.ipynb", *CELLS, parameters=1)

    first = nbcache(tmp_path, "run", "sub/fit.ipynb", "--output", "out.ipynb")

    assert first.returncode == 0, first.stderr
    assert "3 ran, 0 cached" in first.stdout
    assert "the best is 20" in first.stdout
    assert "fitting" not in first.stdout
    assert first.stderr == ""
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    nbformat.validate(executed)
    assert "application/vnd.nbcache" not in json.dumps(executed)
    card = executed.cells[3].outputs[0].data["text/plain"]
    assert "3 ran, 0 cached" in card
    assert "fitting 0" in card
    assert (tmp_path / "sub" / ".nbcache").is_dir()

    without = write_notebook(tmp_path / "plain.ipynb", "x = 1")
    refused = nbcache(tmp_path, "plan", without.name, python=("-X", "importtime"))
    assert refused.returncode == 2
    assert "nbformat" in refused.stderr
    assert "rfc3987_syntax.utils" not in refused.stderr  # a grammar that takes a second to load
    assert "%load_ext nbcache" in refused.stderr

    plan = nbcache(tmp_path, "plan", "sub/fit.ipynb", "-p", "depth=4")

    assert plan.returncode == 0, plan.stderr
    assert "3 cached, 1 to run" in plan.stdout
    assert plan.stdout.endswith("not cached:\n  cell [6] print('the best is', max(fit))\n")

    again = nbcache(tmp_path, "run", "sub/fit.ipynb", "-p", "depth=4", "-v")

    assert again.returncode == 0, again.stderr
    assert "1 ran, 3 cached" in again.stdout
    assert "the best is 30" in again.stdout

    runs = json.loads(nbcache(tmp_path, "runs", "--json", "--cache", "sub/.nbcache").stdout)
    assert [run["counts"] for run in runs] == [{"completed": 1, "cached": 3}, {"completed": 3}]
    assert Path(runs[0]["notebook"]).name == "fit.ipynb"


def test_a_pipeline_that_no_cell_runs_is_run_in_the_end_in_the_cache_that_is_named(
    tmp_path: Path,
) -> None:
    write_notebook(tmp_path / "fit.ipynb", *CELLS[:4])

    policy = ("--retention", "success=0s")
    ended = nbcache(tmp_path, "run", "fit.ipynb", "--cache", "there", "--fresh", *policy)

    assert ended.returncode == 0, ended.stderr
    assert "3 ran, 0 cached" in ended.stdout
    assert not (tmp_path / ".nbcache").exists()
    with Cache.open(tmp_path / "there", create=False) as cache:  # the policy was carried out
        rows = list(cache.log.attempts())
        assert [cache.log.find(row.hash) for row in rows] == [None] * 3


def test_a_failing_cell_is_named_and_the_notebook_is_written_all_the_same(tmp_path: Path) -> None:
    write_notebook(
        tmp_path / "fit.ipynb",
        *CELLS[:3],
        "%%process fit(x) -> y from grid\ny = 1 / (x - 1)",
        "%nbcache run",
        "print('never')",
    )

    ended = nbcache(tmp_path, "run", "fit.ipynb", "-o", "out.ipynb")

    assert ended.returncode == 1
    assert "2 ran, 0 cached, 1 failed" in ended.stdout
    assert "cell [5] failed" in ended.stderr
    assert "fit[x=1] ZeroDivisionError" in ended.stderr
    assert "cell [4] line 2: y = 1 / (x - 1)" in ended.stderr
    assert "\x1b[" not in ended.stderr
    assert nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[5].outputs == []


def test_runs_that_were_detached_are_waited_for_after_the_last_cell(tmp_path: Path) -> None:
    body = "import time\ntime.sleep(0.5)\ny ="
    write_notebook(
        tmp_path / "fit.ipynb",
        *CELLS[:3],
        f"%%process fit(x) -> y from grid\n{body} x + 1",
        f"%%process bad(x) -> y from grid\n{body} 1 / (x - 1)",
        "%nbcache run fit --detach",
        "%nbcache run bad --detach",
        "print('at once')",
    )

    ended = nbcache(tmp_path, "run", "fit.ipynb", "-o", "out.ipynb")

    assert ended.returncode == 1
    assert "2 runs: 5 ran, 0 cached, 1 failed" in ended.stdout
    assert "cell [7] failed" in ended.stderr
    assert "bad[x=1] ZeroDivisionError" in ended.stderr
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert text_of(executed.cells[-1]) == "at once\n"
    assert "3 ran, 0 cached" in executed.cells[5].outputs[0].data["text/plain"]


def test_a_notebook_that_ran_is_told_in_json_and_nothing_else_is_printed(tmp_path: Path) -> None:
    cells = ("%channel xs = of(1, 0)", "%%process inv(x) -> y from xs\ny = 1 / x", "%nbcache run")
    write_notebook(tmp_path / "inv.ipynb", "%load_ext nbcache", *cells)

    ended = nbcache(tmp_path, "run", "inv.ipynb", "--json")

    told = json.loads(ended.stdout)
    assert (ended.returncode, told["status"]) == (1, "failed")
    assert told["runs"][0]["counts"] == {"completed": 1, "failed": 1}
    assert told["failed_cell"]["number"] == 4
    assert "division by zero" in told["failed_cell"]["error"]
    assert "1 ran, 0 cached, 1 failed" in ended.stderr

    again = nbcache(tmp_path, "resume")

    assert again.stdout.count("resuming run") == 1
    assert again.returncode == 1


def test_an_ordinary_error_in_a_cell_shows_its_traceback(tmp_path: Path) -> None:
    write_notebook(tmp_path / "plain.ipynb", "values = {}", "values['missing']")

    ended = nbcache(tmp_path, "run", "plain.ipynb")

    assert ended.returncode == 1
    assert "cell [2] failed" in ended.stderr
    assert "KeyError: 'missing'" in ended.stderr


def test_wrong_words_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "fit.ipynb", *CELLS, parameters=1)
    (tmp_path / "no.ipynb").write_text("no notebook")

    for words, message in {
        ("rum",): 'did you mean "run"',
        ("try", "fit"): "works in a notebook",
        ("run",): "usage: nbcache run NOTEBOOK",
        ("run", "gone.ipynb"): "no notebook 'gone.ipynb'",
        ("run", "no.ipynb"): "is no notebook",
        ("run", "fit.ipynb", "-p", "dpeth=4"): 'did you mean "depth"',
    }.items():
        assert main(words) == 2
        assert message in capsys.readouterr().err


def test_ways_out_are_commands_of_whoever_reads_them() -> None:
    said = {
        "run": "nbcache run NOTEBOOK",
        "run fit": "nbcache run NOTEBOOK",
        "run -p depth=4": "nbcache run NOTEBOOK -p depth=4",
        "plan fit": "nbcache plan NOTEBOOK fit",
        "relaunch calm-otter": "nbcache relaunch calm-otter",
        "share URL --read-only": "nbcache share URL --read-only",
        "use FOLDER": "--cache FOLDER",
        "try fit": "%nbcache try fit",
    }
    assert [command(words) for words in said] == [f"%nbcache {words}" for words in said]
    with spoken(as_typed):
        assert {words: command(words) for words in said} == said
    assert as_typed("trust --revoke fit", "my caches/a").endswith("--cache 'my caches/a'")
    assert as_typed("run fit", "a") == "nbcache run NOTEBOOK --cache a"
    assert as_typed("try fit", "a") == "%nbcache try fit"
    for words in (["runs", "--cache", "a"], ["runs", "--cache=a"], ["--cache=b", "--cache", "a"]):
        assert place_in(words) == "a"
    assert place_in(["runs", "--cache"]) is None
    assert command("run") == "%nbcache run"


def test_without_a_cache_the_error_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["runs"]) == 3
    assert "--cache FOLDER" in capsys.readouterr().err
    assert main(["resume", "--notebook", "gone.ipynb"]) == 2  # a plain run, of nothing
    told = capsys.readouterr()
    assert "has no runs yet: this is a plain run" in told.out
    assert "no notebook 'gone.ipynb'" in told.err
    assert main(["doctor"]) == 0
    assert "the first run makes one" in capsys.readouterr().out
    assert not (tmp_path / ".nbcache").exists()


def test_help_is_printed_for_all_and_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "Exit codes: 0 done" in capsys.readouterr().out
    assert main(["run", "--help"]) == 0
    assert "--output OUT.ipynb" in capsys.readouterr().out
    assert main(["help", "why"]) == 0
    assert "TASK is the start of a task's hash" in capsys.readouterr().out
    assert main([]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ftp://team/x"], "no kind of store"),
        (["nowhere/at/all"], "the folder is not there"),
        ([".", "--read-only"], "there is no nbcache cache"),
        ([".", "--claim", "now"], "--claim is auto, always, never"),
        (["--off"], "there is no nbcache cache"),
        ([], "there is no nbcache cache"),
    ],
)
def test_sharing_that_is_refused_makes_no_cache(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["share", *words]) != 0

    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_clean_up_of_a_shared_cache_that_finds_nothing_asks_for_no_choice_that_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "team").mkdir()
    assert main(["share", "team"]) == 0
    said = []
    for words in ([], ["--older-than", "7d"], ["--compact"], ["--compact", "-f"]):
        capsys.readouterr()
        assert main(["clean", "--shared", *words]) == 0
        said.append(capsys.readouterr().out.splitlines()[0])

    assert said[0] == "nothing to take away; say what may go, such as --older-than 90d"
    assert said[1:3] == ["nothing to take away"] * 2
    assert said[3] == "merged nothing, as there are few segments of the log"
